// Loops over many numbers, eight at a time, and their sums.

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
    Lanes<T> v = lanes;
    v += __builtin_shuffle(v, Order<T>{4, 5, 6, 7, 0, 1, 2, 3});
    v += __builtin_shuffle(v, Order<T>{2, 3, 0, 1, 6, 7, 4, 5});
    v += __builtin_shuffle(v, Order<T>{1, 0, 3, 2, 5, 4, 7, 6});
    return v[0] + rest;
  }
};
