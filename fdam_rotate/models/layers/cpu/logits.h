// AttInv's logits, W relu(x)^2 + bias for each token, and their gradient, each in one trip to memory.

// Tokens of a task; as many as gate_block's with channels last, and for the same reason.
constexpr long kTokenBlock = 128;

// A token's logits take this many sums at a time, each of them in a register.
constexpr int kSums = 4;

template <typename T, typename S>
static long logits_tasks(const LogitsJob<T, S>& job) {
  return (job.tokens + kTokenBlock - 1) / kTokenBlock;
}

// The logits of one token, from `first` on: as many as kSums, or fewer.
template <int count, typename T, typename S>
FDAM_INLINE void logits_of(const LogitsJob<T, S>& job, const S* x, int first, T* logits) {
  const T* const weight = job.weight + (long)first * job.channels;
  Sum<T> sums[count];
  each<T>(job.channels, [&](auto zero, long c) {
    using V = decltype(zero);
    const V value = get<V>(x + c), positive = value < zero ? zero : value, square = positive * positive;
    for (int k = 0; k < count; k++) sums[k].add(square * get<V>(weight + (long)k * job.channels + c));
  });
  for (int k = 0; k < count; k++) logits[first + k] = sums[k].total() + job.bias[first + k];
}

// One token's grad_x, and its part of the weights' gradient.
template <typename T, typename S>
FDAM_INLINE void logits_gradient_of(const LogitsJob<T, S>& job, const S* x, const T* grad, S* grad_x, T* grad_weight) {
  const long channels = job.channels;
  each<T>(channels, [&](auto zero, long c) {
    using V = decltype(zero);
    const V value = get<V>(x + c), positive = value < zero ? zero : value, square = positive * positive;
    V through = zero;
    for (int k = 0; k < job.outputs; k++) {
      through += get<V>(job.weight + k * channels + c) * grad[k];
      T* const sum = grad_weight + k * channels + c;
      put(sum, get<V>(sum) + square * grad[k]);
    }
    put(grad_x + c, through * positive * T(2));
  });
}

template <typename T, typename S>
static void logits_task(const LogitsJob<T, S>& job, long task) {
  const long channels = job.channels, outputs = job.outputs;
  const long start = task * kTokenBlock, stop = start + kTokenBlock < job.tokens ? start + kTokenBlock : job.tokens;
  if (!job.grad) {
    for (long token = start; token < stop; token++) {
      const S* const x = job.x + token * channels;
      T* const logits = job.logits + token * outputs;
      int first = 0;
      for (; first + kSums <= outputs; first += kSums) logits_of<kSums>(job, x, first, logits);
      for (; first + 2 <= outputs; first += 2) logits_of<2>(job, x, first, logits);
      for (; first < outputs; first++) logits_of<1>(job, x, first, logits);
    }
    return;
  }
  T* const grad_weight = job.grad_weights + task * outputs * channels;
  for (long i = 0; i < outputs * channels; i++) grad_weight[i] = 0;
  for (long token = start; token < stop; token++)
    logits_gradient_of(job, job.x + token * channels, job.grad + token * outputs, job.grad_x + token * channels,
                       grad_weight);
}
