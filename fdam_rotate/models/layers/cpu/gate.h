// AttInv's gate, out = u * (s * (1 + lf * alpha - hf * beta) + hf * beta), and its gradient, each in one trip to memory.
// Positions are the H * W places of a map.

// Positions of a task; fixed, so that the sums of the gradient are too. With channels last a sum takes one after the other,
// and is kept short so that it stays exact.
template <typename T, typename S>
static long gate_block(const GateJob<T, S>& job) {
  return job.channels_last ? 128 : 1024;
}

template <typename T, typename S>
static long gate_tasks(const GateJob<T, S>& job) {
  const long block = gate_block(job);
  return job.images * (job.grad || job.channels_last ? (job.positions + block - 1) / block : job.channels);
}

// Forward: one channel of one image. Gradient: a block of positions of one image, all channels.
template <typename T, typename S>
static void gate_task(const GateJob<T, S>& job, long task) {
  const long positions = job.positions, channels = job.channels, each_head = channels / job.heads;
  if (!job.grad) {
    const long image = task / channels, c = task % channels, head = image * job.heads + c / each_head;
    const S *const u = job.u + task * positions, *const s = job.s + task * positions;
    const T *const alpha = job.alpha + head * positions, *const beta = job.beta + head * positions;
    each<T>(positions, [&](auto zero, long n) {
      using V = decltype(zero);
      const V high = get<V>(beta + n) * job.hf_gamma[c], keep = get<V>(alpha + n) * job.lf_gamma[c] - high + T(1);
      put(job.out + task * positions + n, get<V>(u + n) * (get<V>(s + n) * keep + high));
    });
    return;
  }
  const long block = gate_block(job), blocks = (positions + block - 1) / block, image = task / blocks;
  const long start = task % blocks * block, count = positions - start < block ? positions - start : block;
  for (long c = 0; c < channels; c++) {
    const long at = (image * channels + c) * positions + start;
    const long head = (image * job.heads + c / each_head) * positions + start;
    const bool opens = c % each_head == 0;  // the first channel of a head sets the sums over its channels
    const T lf = job.lf_gamma[c], hf = job.hf_gamma[c];
    Sum<T> low_sum, high_sum;
    each<T>(count, [&](auto zero, long n) {
      using V = decltype(zero);
      const V u = get<V>(job.u + at + n), s = get<V>(job.s + at + n), grad = get<V>(job.grad + at + n);
      const V alpha = get<V>(job.alpha + head + n), beta = get<V>(job.beta + head + n);
      const V high = beta * hf, keep = alpha * lf - high + T(1);
      const V through = grad * u, low = through * s, inverse = through - low;
      put(job.grad_u + at + n, grad * (s * keep + high));
      put(job.grad_s + at + n, through * keep);
      put(job.grad_alpha + head + n, (opens ? zero : get<V>(job.grad_alpha + head + n)) + low * lf);
      put(job.grad_beta + head + n, (opens ? zero : get<V>(job.grad_beta + head + n)) + inverse * hf);
      low_sum.add(low * alpha);
      high_sum.add(inverse * beta);
    });
    job.grad_gammas[(task * 2) * channels + c] = low_sum.total();
    job.grad_gammas[(task * 2 + 1) * channels + c] = high_sum.total();
  }
}

// The same with the channels of a position side by side, for a block of positions of one image; a position's weights of
// a head serve all its channels.
template <typename T, typename S>
static void gate_task_channels_last(const GateJob<T, S>& job, long task) {
  const long positions = job.positions, channels = job.channels, each_head = channels / job.heads;
  const long block = gate_block(job), blocks = (positions + block - 1) / block, image = task / blocks;
  const long start = task % blocks * block, count = positions - start < block ? positions - start : block;
  T* const lf_sums = job.grad ? job.grad_gammas + task * 2 * channels : nullptr;
  T* const hf_sums = job.grad ? lf_sums + channels : nullptr;
  if (job.grad)
    for (long c = 0; c < 2 * channels; c++) lf_sums[c] = 0;
  for (long position = image * positions + start; position < image * positions + start + count; position++)
    for (long head = 0; head < job.heads; head++) {
      const long first = head * each_head, at = position * channels + first, weight = position * job.heads + head;
      const T alpha = job.alpha[weight], beta = job.beta[weight];
      const T *const lf_gamma = job.lf_gamma + first, *const hf_gamma = job.hf_gamma + first;
      if (!job.grad) {
        each<T>(each_head, [&](auto zero, long n) {
          using V = decltype(zero);
          const V high = get<V>(hf_gamma + n) * beta, keep = get<V>(lf_gamma + n) * alpha - high + T(1);
          put(job.out + at + n, get<V>(job.u + at + n) * (get<V>(job.s + at + n) * keep + high));
        });
        continue;
      }
      Sum<T> grad_alpha, grad_beta;
      each<T>(each_head, [&](auto zero, long n) {
        using V = decltype(zero);
        const V u = get<V>(job.u + at + n), s = get<V>(job.s + at + n), grad = get<V>(job.grad + at + n);
        const V lf = get<V>(lf_gamma + n), hf = get<V>(hf_gamma + n);
        const V high = hf * beta, keep = lf * alpha - high + T(1);
        const V through = grad * u, low = through * s, inverse = through - low;
        put(job.grad_u + at + n, grad * (s * keep + high));
        put(job.grad_s + at + n, through * keep);
        grad_alpha.add(low * lf);
        grad_beta.add(inverse * hf);
        put(lf_sums + first + n, get<V>(lf_sums + first + n) + low * alpha);
        put(hf_sums + first + n, get<V>(hf_sums + first + n) + inverse * beta);
      });
      job.grad_alpha[weight] = grad_alpha.total();
      job.grad_beta[weight] = grad_beta.total();
    }
}
