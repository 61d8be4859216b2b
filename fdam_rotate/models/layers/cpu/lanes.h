// Eight numbers side by side, and complex numbers of them.
//
// In FFTs they are of eight maps, which go through the same instructions, so that no transform needs a shuffle. With
// channels last, maps lie in this order already; otherwise they are transposed when they are read, and back when they are
// written. Included once for each instruction set, inside a namespace of its own (kernels.cpp).

constexpr int kLanes = 8;

#define FDAM_INLINE static inline __attribute__((always_inline))

template <typename T>
struct LaneTypes;
template <>
struct LaneTypes<float> {
  typedef float Values __attribute__((vector_size(32)));
  typedef int Order __attribute__((vector_size(32)));
};
template <>
struct LaneTypes<double> {
  typedef double Values __attribute__((vector_size(64)));
  typedef long Order __attribute__((vector_size(64)));
};
template <typename T>
using Lanes = typename LaneTypes<T>::Values;

template <typename T>
struct Complex {
  Lanes<T> re, im;
};

template <typename T>
FDAM_INLINE Complex<T> operator+(Complex<T> a, Complex<T> b) {
  return {a.re + b.re, a.im + b.im};
}
template <typename T>
FDAM_INLINE Complex<T> operator-(Complex<T> a, Complex<T> b) {
  return {a.re - b.re, a.im - b.im};
}
template <typename T>
FDAM_INLINE Complex<T> operator*(Complex<T> a, T b) {
  return {a.re * b, a.im * b};
}

// get<V>(from) and put(to, v): numbers in memory, at any address, as a V and back; V is Lanes or a single number.
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
template <typename T>
FDAM_INLINE Lanes<T> load(const T* from) {
  return get<Lanes<T>>(from);
}

// bfloat16 is the upper half of a float32; what is stored is rounded to the nearest, halves to even, and NaN stays NaN.
template <typename V>
struct Bits;
template <>
struct Bits<float> {
  typedef unsigned Wide;
  typedef unsigned short Narrow;
};
template <>
struct Bits<Lanes<float>> {
  typedef unsigned Wide __attribute__((vector_size(32)));
  typedef unsigned short Narrow __attribute__((vector_size(16)));
};
template <typename To, typename From>
FDAM_INLINE To converted(From v) {
  if constexpr (std::is_integral_v<From>)
    return To(v);
  else
    return __builtin_convertvector(v, To);
}
template <typename V>
FDAM_INLINE V get(const bfloat16* from) {
  typedef typename Bits<V>::Wide Wide;
  const Wide bits = converted<Wide>(get<typename Bits<V>::Narrow>(&from->bits)) << 16;
  return get<V>(&bits);
}
template <typename V>
FDAM_INLINE void put(bfloat16* to, V v) {
  typedef typename Bits<V>::Wide Wide;
  const Wide bits = get<Wide>(&v), rounded = (bits + (0x7fffu + (bits >> 16 & 1u))) >> 16;
  put(&to->bits, converted<typename Bits<V>::Narrow>((bits & 0x7fffffffu) > 0x7f800000u ? Wide{} + 0x7fc0u : rounded));
}

// Transpose eight vectors of eight numbers: pairs, then fours, then halves change places.
template <typename T>
FDAM_INLINE void transpose(Lanes<T>* v) {
  typedef typename LaneTypes<T>::Order Order;
  const Order even = {0, 8, 1, 9, 4, 12, 5, 13}, odd = {2, 10, 3, 11, 6, 14, 7, 15};
  const Order low = {0, 1, 8, 9, 4, 5, 12, 13}, high = {2, 3, 10, 11, 6, 7, 14, 15};
  const Order first = {0, 1, 2, 3, 8, 9, 10, 11}, second = {4, 5, 6, 7, 12, 13, 14, 15};
  Lanes<T> t[kLanes];
  for (int i = 0; i < kLanes; i += 2) {
    t[i] = __builtin_shuffle(v[i], v[i + 1], even);
    t[i + 1] = __builtin_shuffle(v[i], v[i + 1], odd);
  }
  for (int i = 0; i < kLanes; i += 4)
    for (int k = 0; k < 2; k++) {
      v[i + 2 * k] = __builtin_shuffle(t[i + k], t[i + k + 2], low);
      v[i + 2 * k + 1] = __builtin_shuffle(t[i + k], t[i + k + 2], high);
    }
  for (int i = 0; i < kLanes / 2; i++) {
    t[i] = __builtin_shuffle(v[i], v[i + 4], first);
    t[i + 4] = __builtin_shuffle(v[i], v[i + 4], second);
  }
  for (int i = 0; i < kLanes; i++) v[i] = t[i];
}

// How far the numbers of a map lie apart, and how far a number of one map from the same of the next. One of them is 1.
struct Steps {
  long place, map;
};

// Read `count` numbers of each of `lanes` maps; missing lanes are zero.
// The n-th goes to out[n].*part, so that two rows become the parts of one complex row.
template <typename T, typename S>
static void read_row(const S* map, Steps steps, int count, int lanes, Complex<T>* out, Lanes<T> Complex<T>::*part) {
  const long stride = steps.map;
  int n = 0;
  if (lanes == kLanes && stride == 1) {
    for (; n < count; n++) out[n].*part = get<Lanes<T>>(map + n * steps.place);
    return;
  }
  if (lanes == kLanes)
    for (; n + kLanes <= count; n += kLanes) {
      Lanes<T> v[kLanes];
      for (int k = 0; k < kLanes; k++) v[k] = get<Lanes<T>>(map + k * stride + n);
      transpose<T>(v);
      for (int k = 0; k < kLanes; k++) out[n + k].*part = v[k];
    }
  for (; n < count; n++) {
    T v[kLanes] = {};
    for (int k = 0; k < lanes; k++) v[k] = get<T>(map + k * stride + n);
    out[n].*part = load(v);
  }
}

// The way back: out = row, plus `add` where that is given; both have the layout of read_row's maps.
template <typename T, typename S>
static void write_row(S* out, const S* add, Steps steps, int count, int lanes, const Complex<T>* row,
                      Lanes<T> Complex<T>::*part) {
  const long stride = steps.map;
  int n = 0;
  if (lanes == kLanes && stride == 1) {
    for (; n < count; n++) {
      Lanes<T> v = row[n].*part;
      if (add) v += get<Lanes<T>>(add + n * steps.place);
      put(out + n * steps.place, v);
    }
    return;
  }
  if (lanes == kLanes)
    for (; n + kLanes <= count; n += kLanes) {
      Lanes<T> v[kLanes];
      for (int k = 0; k < kLanes; k++) v[k] = row[n + k].*part;
      transpose<T>(v);
      for (int k = 0; k < kLanes; k++) {
        if (add) v[k] += get<Lanes<T>>(add + k * stride + n);
        put(out + k * stride + n, v[k]);
      }
    }
  for (; n < count; n++) {
    T v[kLanes];
    put(v, row[n].*part);
    for (int k = 0; k < lanes; k++) put(out + k * stride + n, add ? v[k] + get<T>(add + k * stride + n) : v[k]);
  }
}

// Call body(V, n) for n from 0 to count - 1: eight at a time with V a vector, the rest one by one with V a number.
template <typename T, typename Body>
FDAM_INLINE void each(long count, Body body) {
  long n = 0;
  for (; n + kLanes <= count; n += kLanes) body(Lanes<T>{}, n);
  for (; n < count; n++) body(T{}, n);
}

// A sum over `each`. Its lanes are added up by halves, which is quicker than one after the other, and more exact.
template <typename T>
struct Sum {
  Lanes<T> lanes = {};
  T rest = 0;

  void add(Lanes<T> v) { lanes += v; }
  void add(T v) { rest += v; }
  T total() const {
    typedef typename LaneTypes<T>::Order Order;
    Lanes<T> v = lanes;
    v += __builtin_shuffle(v, Order{4, 5, 6, 7, 0, 1, 2, 3});
    v += __builtin_shuffle(v, Order{2, 3, 0, 1, 6, 7, 4, 5});
    v += __builtin_shuffle(v, Order{1, 0, 3, 2, 5, 4, 7, 6});
    return v[0] + rest;
  }
};
