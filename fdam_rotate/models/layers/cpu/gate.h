// AttInv's parts that touch every value of a map, each in one trip to memory: logits = W relu(x)^2 + b, and the gate
// out = u * (s * (1 + lf * alpha - hf * beta) + hf * beta). Positions are the H * W places of a map.

constexpr long kLogitBlock = 128;  // positions whose logits stay in the first-level cache while all channels pass
constexpr long kGateBlock = 1024;  // positions of a task of the gate's gradient; fixed, so that its sums are too

// Call body(V, n) for positions 0 to count - 1: eight at a time with V a vector, the rest one by one with V a number.
template <typename T, typename Body>
FDAM_INLINE void each(long count, Body body) {
  long n = 0;
  for (; n + kLanes <= count; n += kLanes) body(Lanes<T>{}, n);
  for (; n < count; n++) body(T{}, n);
}

template <typename V, typename T>
FDAM_INLINE V get(const T* from) {
  V v;
  __builtin_memcpy(&v, from, sizeof v);
  return v;
}
template <typename V, typename T>
FDAM_INLINE void put(T* to, V v) {
  __builtin_memcpy(to, &v, sizeof v);
}

// A sum over positions, in the order of `each`.
template <typename T>
struct Sum {
  Lanes<T> lanes = {};
  T rest = 0;

  void add(Lanes<T> v) { lanes += v; }
  void add(T v) { rest += v; }
  T total() const {
    T sum = rest;
    for (int k = 0; k < kLanes; k++) sum += lanes[k];
    return sum;
  }
};

template <typename V>
FDAM_INLINE V relu(V x) {
  return x < 0 ? V{} : x;  // this way round, NaN stays NaN
}

template <typename T>
static long logit_tasks(const LogitJob<T>& job) {
  return job.grad ? job.channels : job.images * ((job.positions + kLogitBlock - 1) / kLogitBlock);
}

// Forward: a block of positions of one image, all channels. Gradient: one channel, all positions of all images.
template <typename T>
static void logit_task(const LogitJob<T>& job, long task) {
  const long positions = job.positions, channels = job.channels, outputs = job.outputs;
  if (!job.grad) {
    const long blocks = (positions + kLogitBlock - 1) / kLogitBlock, image = task / blocks;
    const long start = task % blocks * kLogitBlock;
    const long count = positions - start < kLogitBlock ? positions - start : kLogitBlock;
    T sums[kMostLogits * kLogitBlock], weight[kMostLogits];  // rows of job.logits would all fall into one set of the cache
    for (long k = 0; k < outputs; k++)
      for (long n = 0; n < count; n++) sums[k * kLogitBlock + n] = job.bias[k];
    for (long c = 0; c < channels; c++) {
      const T* const x = job.x + (image * channels + c) * positions + start;
      for (long k = 0; k < outputs; k++) weight[k] = job.weight[k * channels + c];
      each<T>(count, [&](auto zero, long n) {
        using V = decltype(zero);
        const V positive = relu(get<V>(x + n)), square = positive * positive;
        for (long k = 0; k < outputs; k++) {
          T* const sum = sums + k * kLogitBlock + n;
          put(sum, get<V>(sum) + square * weight[k]);
        }
      });
    }
    for (long k = 0; k < outputs; k++)
      __builtin_memcpy(job.logits + (image * outputs + k) * positions + start, sums + k * kLogitBlock, count * sizeof(T));
    return;
  }
  Sum<T> sums[kMostLogits];
  for (long image = 0; image < job.images; image++) {
    const long at = (image * channels + task) * positions;
    const T *const x = job.x + at, *const grad = job.grad + image * outputs * positions;
    each<T>(positions, [&](auto zero, long n) {
      using V = decltype(zero);
      const V positive = relu(get<V>(x + n)), square = positive * positive;
      V passed = zero;
      for (long k = 0; k < outputs; k++) {
        const V g = get<V>(grad + k * positions + n);
        passed += g * job.weight[k * channels + task];
        sums[k].add(g * square);
      }
      put(job.grad_x + at + n, passed * positive * T(2));
    });
  }
  for (long k = 0; k < outputs; k++) job.grad_weight[k * channels + task] = sums[k].total();
}

template <typename T>
static long gate_tasks(const GateJob<T>& job) {
  return job.images * (job.grad ? (job.positions + kGateBlock - 1) / kGateBlock : job.channels);
}

// Forward: one channel of one image. Gradient: a block of positions of one image, all channels.
template <typename T>
static void gate_task(const GateJob<T>& job, long task) {
  const long positions = job.positions, channels = job.channels, each_head = channels / job.heads;
  if (!job.grad) {
    const long image = task / channels, c = task % channels, head = image * job.heads + c / each_head;
    const T *const u = job.u + task * positions, *const s = job.s + task * positions;
    const T *const alpha = job.alpha + head * positions, *const beta = job.beta + head * positions;
    each<T>(positions, [&](auto zero, long n) {
      using V = decltype(zero);
      const V high = get<V>(beta + n) * job.hf_gamma[c], keep = get<V>(alpha + n) * job.lf_gamma[c] - high + T(1);
      put(job.out + task * positions + n, get<V>(u + n) * (get<V>(s + n) * keep + high));
    });
    return;
  }
  const long blocks = (positions + kGateBlock - 1) / kGateBlock, image = task / blocks;
  const long start = task % blocks * kGateBlock;
  const long count = positions - start < kGateBlock ? positions - start : kGateBlock;
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
