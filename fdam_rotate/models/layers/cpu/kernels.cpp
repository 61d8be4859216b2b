// FreqScale on the CPU: y = irfft2(rfft2(x) * M), forward and gradient, float32 and float64.
//
// Built by setuptools (pyproject.toml) with a C++17 compiler of the GNU kind, called through ctypes (__init__.py). Plain
// pointers go in, so that it depends on no version of torch. The same source is compiled for two instruction sets; the
// better one that the processor has is taken at run time.

#include <cstddef>
#include <cstdlib>

constexpr int kTaps = 4;  // a cubic kernel's

// What one call works on. __init__.py builds this structure field by field: keep both alike, and count kInterface up.
constexpr int kInterface = 1;

template <typename T>
struct Job {
  const T* x;               // (maps, height, width)
  const T* kernels;         // (maps, size, half): filters at their own size
  T* y;                     // (maps, height, width)
  T* spectra;               // nullptr, or (groups of 8 maps, width / 2 + 1, height, 2, 8): kept for the gradient
  T* grad_kernels;          // nullptr, or (maps, size, half): then x is a gradient, and `spectra` those of the features
  const T* row_taps;        // (height, min(4, size)): the nonzero weights that resize a filter's rows
  const int* row_starts;    // (height,): where they start
  const T* resize_columns;  // (half, width / 2 + 1)
  const T* row_roots;       // (width, 2): cos and sin of 2 pi k / width
  const T* column_roots;    // (height, 2): of 2 pi k / height
  int maps, height, width, size, half, residual, threads;
};

#if defined(__x86_64__) && !defined(FDAM_NO_AVX2)  // a test defines it, to run the other code on any machine
#define FDAM_AVX2
#pragma GCC push_options
#pragma GCC target("avx2,fma")
namespace avx2 {
#include "lanes.h"
#include "fft.h"
#include "freq_scale.h"
}  // namespace avx2
#pragma GCC pop_options
static const bool has_avx2 = (__builtin_cpu_init(), __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"));
#endif

namespace plain {
#include "lanes.h"
#include "fft.h"
#include "freq_scale.h"
}  // namespace plain

// Scale all maps; returns 0, or 1 where memory is short.
template <typename T>
static int scale(const Job<T>& job) {
  const int groups = (job.maps + plain::kLanes - 1) / plain::kLanes;
  const size_t bytes = (plain::group_bytes(job) + 63) / 64 * 64;
  int failed = 0;
#pragma omp parallel num_threads(job.threads < groups ? job.threads : groups) reduction(|| : failed)
  {
    void* const memory = std::aligned_alloc(64, bytes);
    failed = memory == nullptr;
#pragma omp for schedule(static)
    for (int group = 0; group < groups; group++) {
      if (!memory) continue;
#ifdef FDAM_AVX2
      if (has_avx2) {
        avx2::scale_group(job, group, memory);
        continue;
      }
#endif
      plain::scale_group(job, group, memory);
    }
    std::free(memory);
  }
  return failed;
}

extern "C" {
int fdam_interface() { return kInterface; }
int fdam_scale_float32(const Job<float>* job) { return scale(*job); }
int fdam_scale_float64(const Job<double>* job) { return scale(*job); }
}
