// y = irfft2(rfft2(x) * M), eight maps at a time, with all of a group's work in one core's cache.
//
// Rows are transformed in pairs, as the real and imaginary part of one complex row. Each column of the half spectrum is
// then transformed, multiplied by M and transformed back while it is in the first-level cache; M is made there, from the
// filters at their own small size. In a training step the columns are kept, and the gradient of M is brought down to the
// size of the filters in the same visit.

template <typename T>
static size_t group_bytes(const ScaleJob<T>& job) {
  const size_t longest = job.height > job.width ? job.height : job.width;
  const size_t complex = (size_t)job.height * (job.width / 2 + 1) + 2 * longest;
  return complex * sizeof(Complex<T>) + ((size_t)2 * job.size * job.half + 2 * job.size) * sizeof(Lanes<T>);
}

template <typename T>
static void scale_group(const ScaleJob<T>& job, int group, void* memory) {
  const int height = job.height, width = job.width, columns = width / 2 + 1, size = job.size, half = job.half;
  const int first = group * kLanes, lanes = job.maps - first < kLanes ? job.maps - first : kLanes;
  const int taps = size < kTaps ? size : kTaps;
  const long area = (long)height * width;
  const Plan<T> along_row(width, job.row_roots), along_column(height, job.column_roots);
  Complex<T>* const spectrum = static_cast<Complex<T>*>(memory);  // (height, columns)
  Complex<T>* const a = spectrum + (long)height * columns;
  Complex<T>* const b = a + (height > width ? height : width);
  Lanes<T>* const kernel = reinterpret_cast<Lanes<T>*>(b + (height > width ? height : width));  // (size, half)
  Lanes<T>* const grad_kernel = kernel + size * half;                                           // (size, half)
  Lanes<T>* const mixed = grad_kernel + size * half;                                            // (size,)
  Lanes<T>* const grad_mixed = mixed + size;                                                    // (size,)
  const T* const x = job.x + first * area;
  T* const y = job.y + first * area;

  for (int i = 0; i < size * half; i++) {
    T v[kLanes] = {};
    for (int k = 0; k < lanes; k++) v[k] = job.kernels[(long)(first + k) * size * half + i];
    kernel[i] = load(v);
    grad_kernel[i] = Lanes<T>{};
  }

  for (int h = 0; h < height; h += 2) {
    const bool pair = h + 1 < height;
    read_row(x + (long)h * width, area, width, lanes, a, &Complex<T>::re);
    if (pair)
      read_row(x + (long)(h + 1) * width, area, width, lanes, a, &Complex<T>::im);
    else
      for (int w = 0; w < width; w++) a[w].im = Lanes<T>{};
    const Complex<T>* const z = transform<true>(along_row, a, b);
    Complex<T>* const upper = spectrum + (long)h * columns;  // twice the row's spectrum: 1/2 comes with the last scaling
    Complex<T>* const lower = upper + columns;
    for (int w = 0; w < columns; w++) {
      const Complex<T> u = z[w], v = z[w ? width - w : 0];
      upper[w] = {u.re + v.re, u.im - v.im};
      if (pair) lower[w] = {u.im + v.im, v.re - u.re};
    }
  }

  const T inverse = T(0.5) / area;
  for (int w = 0; w < columns; w++) {
    for (int h = 0; h < height; h++) a[h] = spectrum[(long)h * columns + w];
    Complex<T>* z = transform<true>(along_column, a, b);
    Complex<T>* const kept = job.spectra ? reinterpret_cast<Complex<T>*>(job.spectra) +
                                               ((long)group * columns + w) * height : nullptr;
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

  for (int h = 0; h < height; h += 2) {
    const bool pair = h + 1 < height;
    const Complex<T>* const upper = spectrum + (long)h * columns;
    const Complex<T>* const lower = upper + columns;
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
    const Complex<T>* const z = transform<false>(along_row, a, b);
    for (int k = 0; k < 1 + pair; k++) {
      const long row = (long)(h + k) * width;
      write_row(y + row, job.residual ? x + row : nullptr, area, width, lanes, z, k ? &Complex<T>::im : &Complex<T>::re);
    }
  }

  if (job.grad_kernels)
    for (int i = 0; i < size * half; i++) {
      T v[kLanes];
      store(v, grad_kernel[i]);
      for (int k = 0; k < lanes; k++) job.grad_kernels[(long)(first + k) * size * half + i] = v[k];
    }
}
