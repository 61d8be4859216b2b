// y = irfft2(rfft2(x) * M), kLanes maps at a time, with all of a group's work in one core's cache.
//
// Rows are transformed in pairs, as the real and imaginary part of one complex row. Each column of the half spectrum is
// then transformed, multiplied by M and transformed back while it is in the first-level cache; M is made there, from the
// filters at their own small size. In a training step the columns are kept, and the gradient of M is brought down to the
// size of the filters in the same visit.

// kLanes maps: where they lie in x and y, and their half spectrum.
template <typename T, typename S>
struct Group {
  const ScaleJob<T, S>& job;
  int number, lanes;
  Steps steps;
  long start;  // of its first map in x and y
  Complex<T>* spectrum;  // (height, width / 2 + 1)

  Group(const ScaleJob<T, S>& job, int number, void* memory)
      : job(job), number(number), spectrum(static_cast<Complex<T>*>(memory)) {
    const int first = number * kLanes;
    const long area = (long)job.height * job.width, channels = job.channels;
    lanes = job.maps - first < kLanes ? job.maps - first : kLanes;
    steps = channels ? Steps{channels, 1} : Steps{1, area};
    start = channels ? first / channels * channels * area + first % channels : first * area;
  }
  long row(int h) const { return start + (long)h * job.width * steps.place; }
};

// What one thread works with beside the spectra: two rows or columns, and a group's filters in two sizes.
template <typename T, typename S>
struct Workspace {
  Complex<T>*a, *b;
  Lanes<T>*kernel, *grad_kernel;  // (size, half)
  Lanes<T>*mixed, *grad_mixed;    // (size,)

  Workspace(const ScaleJob<T, S>& job, void* memory) {
    const int longest = job.height > job.width ? job.height : job.width;
    a = static_cast<Complex<T>*>(memory);
    b = a + longest;
    kernel = reinterpret_cast<Lanes<T>*>(b + longest);
    grad_kernel = kernel + job.size * job.half;
    mixed = grad_kernel + job.size * job.half;
    grad_mixed = mixed + job.size;
  }
  static size_t bytes(const ScaleJob<T, S>& job) {
    const size_t longest = job.height > job.width ? job.height : job.width;
    return 2 * longest * sizeof(Complex<T>) + ((size_t)2 * job.size * job.half + 2 * job.size) * sizeof(Lanes<T>);
  }
};

// Transform rows h and h + 1 of x, as the real and imaginary part of one complex row.
template <typename T, typename S>
static void rows_forward(const Group<T, S>& group, int h, const Plan<T>& along_row, Workspace<T, S>& work) {
  const ScaleJob<T, S>& job = group.job;
  const int width = job.width, columns = width / 2 + 1;
  const bool pair = h + 1 < job.height;
  read_row(job.x + group.row(h), group.steps, width, group.lanes, work.a, &Complex<T>::re);
  if (pair)
    read_row(job.x + group.row(h + 1), group.steps, width, group.lanes, work.a, &Complex<T>::im);
  else
    for (int w = 0; w < width; w++) work.a[w].im = Lanes<T>{};
  const Complex<T>* const z = transform<true>(along_row, work.a, work.b);
  Complex<T>* const upper = group.spectrum + (long)h * columns;  // twice the row's spectrum: 1/2 comes with the last scaling
  Complex<T>* const lower = upper + columns;
  for (int w = 0; w < columns; w++) {
    const Complex<T> u = z[w], v = z[w ? width - w : 0];
    upper[w] = {u.re + v.re, u.im - v.im};
    if (pair) lower[w] = {u.im + v.im, v.re - u.re};
  }
}

// The way back, into rows h and h + 1 of y.
template <typename T, typename S>
static void rows_inverse(const Group<T, S>& group, int h, const Plan<T>& along_row, Workspace<T, S>& work) {
  const ScaleJob<T, S>& job = group.job;
  const int width = job.width, columns = width / 2 + 1;
  const bool pair = h + 1 < job.height;
  const Complex<T>* const upper = group.spectrum + (long)h * columns;
  const Complex<T>* const lower = upper + columns;
  Complex<T>* const a = work.a;
  for (int w = 0; w < columns; w++) {
    // As in irfft, the imaginary parts of the first column and of the last of an even width count for nothing.
    const Complex<T> none = {}, u = upper[w], v = pair ? lower[w] : none;
    if (w == 0 || 2 * w == width) {
      a[w] = {u.re, v.re};
    } else {
      a[w] = {u.re - v.im, u.im + v.re};
      a[width - w] = {u.re + v.im, v.re - u.im};
    }
  }
  const Complex<T>* const z = transform<false>(along_row, a, work.b);
  for (int k = 0; k < 1 + pair; k++) {
    const long row = group.row(h + k);
    write_row(job.y + row, job.residual ? job.x + row : nullptr, group.steps, width, group.lanes, z,
              k ? &Complex<T>::im : &Complex<T>::re);
  }
}

// Multiply the columns' transforms by M.
template <typename T, typename S>
static void scale_columns(const Group<T, S>& group, const Plan<T>& along_column, Workspace<T, S>& work) {
  const ScaleJob<T, S>& job = group.job;
  const int height = job.height, width = job.width, columns = width / 2 + 1, size = job.size, half = job.half;
  const int taps = size < kTaps ? size : kTaps, first = group.number * kLanes;
  const long area = (long)height * width;
  Complex<T>*const spectrum = group.spectrum, *const a = work.a, *const b = work.b;
  Lanes<T>*const kernel = work.kernel, *const grad_kernel = work.grad_kernel;
  Lanes<T>*const mixed = work.mixed, *const grad_mixed = work.grad_mixed;
  for (int i = 0; i < size * half; i++) {
    T v[kLanes] = {};
    for (int k = 0; k < group.lanes; k++) v[k] = job.kernels[(long)(first + k) * size * half + i];
    kernel[i] = load(v);
    grad_kernel[i] = Lanes<T>{};
  }

  const T inverse = T(0.5) / area;
  for (int w = 0; w < columns; w++) {
    for (int h = 0; h < height; h++) a[h] = spectrum[(long)h * columns + w];
    Complex<T>* z = transform<true>(along_column, a, b);
    Complex<T>* const kept = job.spectra ? reinterpret_cast<Complex<T>*>(job.spectra) +
                                               ((long)group.number * columns + w) * height : nullptr;
    for (int i = 0; i < size; i++) {
      mixed[i] = Lanes<T>{};
      for (int j = 0; j < half; j++) mixed[i] += kernel[i * half + j] * (job.resize_columns[j * columns + w] * inverse);
    }
    if (job.grad_kernels) {
      // dM is the real part of conj(X) * G, counted twice where a column stands for its mirror image too; both factors
      // come twice their size, and 1/area makes them orthonormal.
      const T weight = (w == 0 || 2 * w == width ? T(0.25) : T(0.5)) / area;
      for (int i = 0; i < size; i++) grad_mixed[i] = Lanes<T>{};
      for (int h = 0; h < height; h++) {
        const Lanes<T> product = kept[h].re * z[h].re + kept[h].im * z[h].im;
        for (int t = 0; t < taps; t++) grad_mixed[job.row_starts[h] + t] += product * job.row_taps[h * taps + t];
      }
      for (int i = 0; i < size; i++)
        for (int j = 0; j < half; j++)
          grad_kernel[i * half + j] += grad_mixed[i] * (job.resize_columns[j * columns + w] * weight);
    } else if (kept) {
      for (int h = 0; h < height; h++) kept[h] = z[h];
    }
    for (int h = 0; h < height; h++) {
      const Lanes<T>* const from = mixed + job.row_starts[h];
      Lanes<T> modulation = from[0] * job.row_taps[h * taps];
      for (int t = 1; t < taps; t++) modulation += from[t] * job.row_taps[h * taps + t];
      z[h].re *= modulation;
      z[h].im *= modulation;
    }
    z = transform<false>(along_column, z, z == a ? b : a);
    for (int h = 0; h < height; h++) spectrum[(long)h * columns + w] = z[h];
  }

  if (job.grad_kernels)
    for (int i = 0; i < size * half; i++) {
      T v[kLanes];
      put(v, grad_kernel[i]);
      for (int k = 0; k < group.lanes; k++) job.grad_kernels[(long)(first + k) * size * half + i] = v[k];
    }
}

// Groups of a task: with channels last, two may lie in each line of the cache, which is then read and written once for both.
template <typename T, typename S>
static int task_groups(const ScaleJob<T, S>& job) {
  return kLanes * sizeof(S) < kLine && job.channels && job.channels % (2 * kLanes) == 0 ? 2 : 1;
}

template <typename T, typename S>
static size_t spectrum_bytes(const ScaleJob<T, S>& job) {
  return (size_t)job.height * (job.width / 2 + 1) * sizeof(Complex<T>);
}

template <typename T, typename S>
static size_t task_bytes(const ScaleJob<T, S>& job) {
  return task_groups(job) * spectrum_bytes(job) + Workspace<T, S>::bytes(job);
}

// `memory`: task_bytes, aligned to 64.
template <typename T, typename S>
static void scale_task(const ScaleJob<T, S>& job, int task, void* memory) {
  const int count = task_groups(job);
  char* const spectra = static_cast<char*>(memory);
  Workspace<T, S> work(job, spectra + count * spectrum_bytes(job));
  const Plan<T> along_row(job.width, job.row_roots), along_column(job.height, job.column_roots);
  auto each_group = [&](auto body) {
    for (int k = 0; k < count; k++) body(Group<T, S>(job, task * count + k, spectra + k * spectrum_bytes(job)));
  };
  for (int h = 0; h < job.height; h += 2)
    each_group([&](const Group<T, S>& group) { rows_forward(group, h, along_row, work); });
  each_group([&](const Group<T, S>& group) { scale_columns(group, along_column, work); });
  for (int h = 0; h < job.height; h += 2)
    each_group([&](const Group<T, S>& group) { rows_inverse(group, h, along_row, work); });
}

// All tasks; returns 1 where memory is short, else 0.
template <typename T, typename S>
static int scale(const ScaleJob<T, S>& job) {
  const int groups = (job.maps + kLanes - 1) / kLanes, tasks = groups / task_groups(job);
  const size_t bytes = (task_bytes(job) + kLine - 1) / kLine * kLine;
  int failed = 0;
#pragma omp parallel num_threads(job.threads < tasks ? job.threads : tasks) reduction(|| : failed)
  {
    void* const memory = std::aligned_alloc(kLine, bytes);
    failed = memory == nullptr;
#pragma omp for schedule(static)
    for (int task = 0; task < tasks; task++)
      if (memory) scale_task(job, task, memory);
    std::free(memory);
  }
  return failed;
}
