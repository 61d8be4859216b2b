// Complex FFT of any length, on eight maps at once: Stockham's autosort form in passes of radix 4, 2, 3 and 5, and a
// plain sum for other prime factors. (C. Van Loan, "Computational Frameworks for the Fast Fourier Transform", 1992.)

// The factors of a length and its roots of unity: cos and sin of 2 pi k / n for k < n, by turns.
template <typename T>
struct Plan {
  int n, count = 0, factors[32];
  const T* roots;

  Plan(int length, const T* table) : n(length), roots(table) {
    int left = length;
    for (; left % 4 == 0; left /= 4) factors[count++] = 4;
    for (int f = 2; left > 1; f++)
      for (; left % f == 0; left /= f) factors[count++] = f;
  }
};

// a * exp(-i t) in a forward transform, a * exp(i t) in an inverse one; c, s = cos t, sin t.
template <bool forward, typename T>
FDAM_INLINE Complex<T> rotate(Complex<T> a, T c, T s) {
  if (forward) return {a.re * c + a.im * s, a.im * c - a.re * s};
  return {a.re * c - a.im * s, a.im * c + a.re * s};
}

// The same by a quarter turn.
template <bool forward, typename T>
FDAM_INLINE Complex<T> quarter(Complex<T> a) {
  if (forward) return {a.im, -a.re};
  return {-a.im, a.re};
}

// Transform of `radix` values in place.
template <bool forward, int radix, typename T>
FDAM_INLINE void butterfly(Complex<T>* v) {
  if constexpr (radix == 2) {
    Complex<T> a = v[0];
    v[0] = a + v[1];
    v[1] = a - v[1];
  } else if constexpr (radix == 3) {
    const T half = T(0.5), sin60 = T(0.86602540378443864676);
    Complex<T> sum = v[1] + v[2], turned = quarter<forward>(v[1] - v[2]) * sin60, rest = v[0] - sum * half;
    v[0] = v[0] + sum;
    v[1] = rest + turned;
    v[2] = rest - turned;
  } else if constexpr (radix == 4) {
    Complex<T> a = v[0] + v[2], b = v[0] - v[2], c = v[1] + v[3], d = quarter<forward>(v[1] - v[3]);
    v[0] = a + c;
    v[1] = b + d;
    v[2] = a - c;
    v[3] = b - d;
  } else {
    static_assert(radix == 5);
    const T cos72 = T(0.30901699437494742410), cos144 = T(-0.80901699437494742410);
    const T sin72 = T(0.95105651629515357212), sin144 = T(0.58778525229247312917);
    Complex<T> a = v[1] + v[4], b = quarter<forward>(v[1] - v[4]), c = v[2] + v[3], d = quarter<forward>(v[2] - v[3]);
    Complex<T> p = v[0] + a * cos72 + c * cos144, q = b * sin72 + d * sin144;
    Complex<T> r = v[0] + a * cos144 + c * cos72, t = b * sin144 - d * sin72;
    v[0] = v[0] + a + c;
    v[1] = p + q;
    v[2] = r + t;
    v[3] = r - t;
    v[4] = p - q;
  }
}

// One pass: `done` is the product of the factors before, n = done * radix * rest.
template <bool forward, int radix, typename T>
static void pass(const Complex<T>* in, Complex<T>* out, int done, int rest, const T* roots) {
  for (int i = 0; i < rest; i++) {
    T c[radix], s[radix];
    for (int j = 1; j < radix; j++) c[j] = roots[2 * j * done * i], s[j] = roots[2 * j * done * i + 1];
    for (int k = 0; k < done; k++) {
      Complex<T> v[radix];
      for (int j = 0; j < radix; j++) v[j] = in[i + rest * (j + radix * k)];
      butterfly<forward, radix>(v);
      out[i + rest * k] = v[0];
      for (int j = 1; j < radix; j++) out[i + rest * (k + done * j)] = i ? rotate<forward>(v[j], c[j], s[j]) : v[j];
    }
  }
}

// The same for a prime radix of any size.
template <bool forward, typename T>
static void pass_of(int radix, const Complex<T>* in, Complex<T>* out, int done, int rest, int n, const T* roots) {
  for (int i = 0; i < rest; i++)
    for (int k = 0; k < done; k++)
      for (int j = 0; j < radix; j++) {
        Complex<T> sum = in[i + rest * radix * k];
        for (int q = 1; q < radix; q++) {
          const long at = (long)q * j % radix * (n / radix);
          sum = sum + rotate<forward>(in[i + rest * (q + radix * k)], roots[2 * at], roots[2 * at + 1]);
        }
        const long at = (long)j * done * i;
        out[i + rest * (k + done * j)] = rotate<forward>(sum, roots[2 * at], roots[2 * at + 1]);
      }
}

// Unscaled transform of plan.n values in `a`, using `b`; returns whichever of the two holds the result.
template <bool forward, typename T>
static Complex<T>* transform(const Plan<T>& plan, Complex<T>* a, Complex<T>* b) {
  int done = 1;
  for (int f = 0; f < plan.count; f++) {
    const int radix = plan.factors[f], rest = plan.n / (done * radix);
    switch (radix) {
      case 2: pass<forward, 2>(a, b, done, rest, plan.roots); break;
      case 3: pass<forward, 3>(a, b, done, rest, plan.roots); break;
      case 4: pass<forward, 4>(a, b, done, rest, plan.roots); break;
      case 5: pass<forward, 5>(a, b, done, rest, plan.roots); break;
      default: pass_of<forward>(radix, a, b, done, rest, plan.n, plan.roots);
    }
    done *= radix;
    Complex<T>* last = a;
    a = b;
    b = last;
  }
  return a;
}
