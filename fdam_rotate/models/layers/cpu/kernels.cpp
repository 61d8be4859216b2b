// FDAM's arithmetic on the CPU, forward and gradient: FreqScale, and the logits and the gate of AttInv. T is the type that
// is computed in, float32 or float64; S that of maps in memory, which is T, or bfloat16 where T is float32.
//
// Built by setuptools (setup.py) with a C++17 compiler of the GNU kind, called through ctypes (library.py). Plain pointers
// go in, so that it depends on no version of torch. The same source is compiled for several instruction sets; the best
// that the processor has is taken at run time. Work is cut into tasks that do not depend on the number of threads, and
// no two tasks add to the same sum: any number of threads gives the same bits.

#include <cstddef>
#include <cstdlib>
#include <type_traits>

// The Python side builds the structures below field by field: keep both alike, and count this up (library.py).
constexpr int kInterface = 5;
constexpr int kTaps = 4;  // nonzero weights of a cubic kernel
constexpr int kLine = 64;  // bytes of a line of the cache

struct bfloat16 {
  unsigned short bits;
};

// FreqScale: y = irfft2(rfft2(x) * M), plus x where `residual` is set.
template <typename T, typename S>
struct ScaleJob {
  const S* x;               // (maps, height, width), or (maps / channels, height, width, channels)
  const T* kernels;         // (maps, size, half): filters at their own size
  S* y;                     // like x
  T* spectra;               // nullptr, or (groups of `lanes` maps, width / 2 + 1, height, 2, lanes): kept for the gradient
  T* grad_kernels;          // nullptr, or (maps, size, half): then x is a gradient, and `spectra` those of the features
  const T* row_taps;        // (height, min(4, size)): the nonzero weights that resize a filter's rows
  const int* row_starts;    // (height,): where they start
  const T* resize_columns;  // (half, width / 2 + 1)
  const T* row_roots;       // (width, 2): cos and sin of 2 pi k / width
  const T* column_roots;    // (height, 2): of 2 pi k / height
  int maps, height, width, size, half, residual;
  int channels;  // 0, or a multiple of `lanes`: channels last, see x
  int lanes;     // maps that are worked on at a time: 8, or up to fdam_float32_lanes() where T is float32
  int threads;
};

// AttInv: out = u (s (1 + lf_gamma alpha - hf_gamma beta) + hf_gamma beta); with `grad`, the gradients to all of them.
template <typename T, typename S>
struct GateJob {
  const S *u, *s;                // (images, channels, positions), or (images, positions, channels) if channels_last
  const T *alpha, *beta;         // (images, heads, positions), or (images, positions, heads)
  const T *lf_gamma, *hf_gamma;  // (channels,)
  S* out;                        // like u
  const S* grad;                 // nullptr, or like u
  S *grad_u, *grad_s;
  T *grad_alpha, *grad_beta;
  T* grad_gammas;  // (images, blocks of gate_block positions, 2, channels): to be summed over the first two
  int images, channels, heads, positions, channels_last, threads;
};

// AttInv's logits: weight relu(x)^2 + bias; with `grad`, the gradients to x and the weights.
template <typename T, typename S>
struct LogitsJob {
  const S* x;        // (tokens, channels)
  const T* weight;   // (outputs, channels)
  const T* bias;     // (outputs,)
  T* logits;         // (tokens, outputs)
  const T* grad;     // nullptr, or like logits
  S* grad_x;         // like x
  T* grad_weights;   // (blocks of kTokenBlock tokens, outputs, channels): to be summed over the first
  int tokens, channels, outputs, threads;
};

#if defined(__x86_64__) && !defined(FDAM_NO_AVX512)  // a test defines these, to run the other code on any machine
#define FDAM_WIDE
#define FDAM_LANES 16
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,prefer-vector-width=512")
namespace avx512 {
#include "lanes.h"
#include "fft.h"
#include "freq_scale.h"
}  // namespace avx512
#pragma GCC pop_options
#undef FDAM_LANES
static const bool has_avx512 = (__builtin_cpu_init(), __builtin_cpu_supports("avx512f") &&
                                __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                                __builtin_cpu_supports("avx512vl"));
#else
static const bool has_avx512 = false;
#endif

#define FDAM_LANES 8
#if defined(__x86_64__) && !defined(FDAM_NO_AVX2)
#pragma GCC push_options
#pragma GCC target("avx2,fma")
namespace avx2 {
#include "lanes.h"
#include "sums.h"
#include "fft.h"
#include "freq_scale.h"
#include "gate.h"
#include "logits.h"
}  // namespace avx2
#pragma GCC pop_options
static const bool has_avx2 = (__builtin_cpu_init(), __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"));
#define FDAM_BEST(call) (has_avx2 ? avx2::call : plain::call)
#else
#define FDAM_BEST(call) plain::call
#endif

namespace plain {
#include "lanes.h"
#include "sums.h"
#include "fft.h"
#include "freq_scale.h"
#include "gate.h"
#include "logits.h"
}  // namespace plain

template <typename T, typename S>
static int scale(const ScaleJob<T, S>& job) {
#ifdef FDAM_WIDE
  if constexpr (std::is_same_v<T, float>)
    if (job.lanes == 16) return avx512::scale(job);
#endif
  return FDAM_BEST(scale(job));
}

template <typename T, typename S>
static int gate(const GateJob<T, S>& job) {
  const long tasks = plain::gate_tasks(job);
#pragma omp parallel for schedule(static) num_threads(job.threads)
  for (long task = 0; task < tasks; task++)
    if (job.channels_last)
      FDAM_BEST(gate_task_channels_last(job, task));
    else
      FDAM_BEST(gate_task(job, task));
  return 0;
}

template <typename T, typename S>
static int logits(const LogitsJob<T, S>& job) {
  const long tasks = plain::logits_tasks(job);
#pragma omp parallel for schedule(static) num_threads(job.threads)
  for (long task = 0; task < tasks; task++) FDAM_BEST(logits_task(job, task));
  return 0;
}

extern "C" {
int fdam_interface() { return kInterface; }
int fdam_float32_lanes() { return has_avx512 ? 16 : 8; }
int fdam_scale_float32(const ScaleJob<float, float>* job) { return scale(*job); }
int fdam_scale_float64(const ScaleJob<double, double>* job) { return scale(*job); }
int fdam_scale_bfloat16(const ScaleJob<float, bfloat16>* job) { return scale(*job); }
int fdam_gate_float32(const GateJob<float, float>* job) { return gate(*job); }
int fdam_gate_float64(const GateJob<double, double>* job) { return gate(*job); }
int fdam_gate_bfloat16(const GateJob<float, bfloat16>* job) { return gate(*job); }
int fdam_logits_float32(const LogitsJob<float, float>* job) { return logits(*job); }
int fdam_logits_float64(const LogitsJob<double, double>* job) { return logits(*job); }
int fdam_logits_bfloat16(const LogitsJob<float, bfloat16>* job) { return logits(*job); }
}
