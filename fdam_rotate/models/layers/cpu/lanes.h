// Numbers side by side, and complex numbers of them: kLanes, which is 8, or 16 where FDAM_LANES says so.
//
// In FFTs they are of as many maps, which go through the same instructions, so that no transform needs a shuffle. With
// channels last, maps lie in this order already; otherwise they are transposed when they are read, and back when they are
// written. Included once for each instruction set, inside a namespace of its own (kernels.cpp).

constexpr int kLanes = FDAM_LANES;
constexpr int kEight = 8;  // maps that are transposed at a time

#define FDAM_INLINE static inline __attribute__((always_inline))

template <typename T, int count>
struct VectorOf {
  typedef T Type __attribute__((vector_size(sizeof(T) * count)));
};
template <typename T>
using Lanes = typename VectorOf<T, kLanes>::Type;
template <typename T>
using Eight = typename VectorOf<T, kEight>::Type;
template <typename T>  // the integers by which eight numbers are shuffled
using Order = typename VectorOf<std::conditional_t<sizeof(T) == 4, int, long>, kEight>::Type;

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
struct Bits {
  typedef unsigned Wide __attribute__((vector_size(sizeof(V))));
  typedef unsigned short Narrow __attribute__((vector_size(sizeof(V) / 2)));
};
template <>
struct Bits<float> {
  typedef unsigned Wide;
  typedef unsigned short Narrow;
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
FDAM_INLINE void transpose(Eight<T>* v) {
  typedef Order<T> O;
  const O even = {0, 8, 1, 9, 4, 12, 5, 13}, odd = {2, 10, 3, 11, 6, 14, 7, 15};
  const O low = {0, 1, 8, 9, 4, 5, 12, 13}, high = {2, 3, 10, 11, 6, 7, 14, 15};
  const O first = {0, 1, 2, 3, 8, 9, 10, 11}, second = {4, 5, 6, 7, 12, 13, 14, 15};
  Eight<T> t[kEight];
  for (int i = 0; i < kEight; i += 2) {
    t[i] = __builtin_shuffle(v[i], v[i + 1], even);
    t[i + 1] = __builtin_shuffle(v[i], v[i + 1], odd);
  }
  for (int i = 0; i < kEight; i += 4)
    for (int k = 0; k < 2; k++) {
      v[i + 2 * k] = __builtin_shuffle(t[i + k], t[i + k + 2], low);
      v[i + 2 * k + 1] = __builtin_shuffle(t[i + k], t[i + k + 2], high);
    }
  for (int i = 0; i < kEight / 2; i++) {
    t[i] = __builtin_shuffle(v[i], v[i + 4], first);
    t[i + 4] = __builtin_shuffle(v[i], v[i + 4], second);
  }
  for (int i = 0; i < kEight; i++) v[i] = t[i];
}

// How far the numbers of a map lie apart, and how far a number of one map from the same of the next. One of them is 1.
struct Steps {
  long place, map;
};

// Places whose cache lines are asked for ahead: with channels last each place is another line, far from the one before.
constexpr int kAhead = 16;

// Read `count` numbers of each of `lanes` maps; missing lanes are zero.
// The n-th goes to out[n].*part, so that two rows become the parts of one complex row.
template <typename T, typename S>
static void read_row(const S* map, Steps steps, int count, int lanes, Complex<T>* out, Lanes<T> Complex<T>::*part) {
  const long stride = steps.map;
  int n = 0;
  if (lanes == kLanes && stride == 1) {
    for (; n < count; n++) {
      __builtin_prefetch(map + (n + kAhead) * steps.place);
      out[n].*part = get<Lanes<T>>(map + n * steps.place);
    }
    return;
  }
  if (lanes == kLanes)
    for (; n + kEight <= count; n += kEight)
      for (int maps = 0; maps < kLanes; maps += kEight) {
        Eight<T> v[kEight];
        for (int k = 0; k < kEight; k++) v[k] = get<Eight<T>>(map + (maps + k) * stride + n);
        transpose<T>(v);
        for (int k = 0; k < kEight; k++) put(reinterpret_cast<T*>(&(out[n + k].*part)) + maps, v[k]);
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
      __builtin_prefetch(out + (n + kAhead) * steps.place, 1);
      if (add) {
        __builtin_prefetch(add + (n + kAhead) * steps.place);
        v += get<Lanes<T>>(add + n * steps.place);
      }
      put(out + n * steps.place, v);
    }
    return;
  }
  if (lanes == kLanes)
    for (; n + kEight <= count; n += kEight)
      for (int maps = 0; maps < kLanes; maps += kEight) {
        Eight<T> v[kEight];
        for (int k = 0; k < kEight; k++) v[k] = get<Eight<T>>(reinterpret_cast<const T*>(&(row[n + k].*part)) + maps);
        transpose<T>(v);
        for (int k = 0; k < kEight; k++) {
          const long at = (maps + k) * stride + n;
          if (add) v[k] += get<Eight<T>>(add + at);
          put(out + at, v[k]);
        }
      }
  for (; n < count; n++) {
    T v[kLanes];
    put(v, row[n].*part);
    for (int k = 0; k < lanes; k++) put(out + k * stride + n, add ? v[k] + get<T>(add + k * stride + n) : v[k]);
  }
}
