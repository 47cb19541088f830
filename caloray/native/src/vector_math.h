// exp, log, log1p and softplus of whole vectors, by GCC's and clang's vector extensions.
//
// Accurate to about 1-2 units in the last place; NaN in a lane stays NaN in that lane and disturbs no other; no
// branches, no tables. exp underflows gradually to 0 and overflows to infinity; log is right for subnormal numbers
// too. The polynomials are minimax fits (relative error of the whole function below 1e-8 in float, 1e-17 in double).
#pragma once
#include "isa.h"

#ifndef CALORAY_VECTOR_BYTES
#error "kernel files are compiled by build.py, which sets the size of a vector"
#endif

#define CALORAY_INLINE static inline __attribute__((always_inline))

namespace CALORAY_ISA {

typedef float vfloat __attribute__((vector_size(CALORAY_VECTOR_BYTES)));
typedef int32_t vint __attribute__((vector_size(CALORAY_VECTOR_BYTES)));
typedef double vdouble __attribute__((vector_size(CALORAY_VECTOR_BYTES)));
typedef int64_t vlong __attribute__((vector_size(CALORAY_VECTOR_BYTES)));
// As many floats as a vector has doubles.
typedef float vhalf __attribute__((vector_size(CALORAY_VECTOR_BYTES / 2)));
typedef int32_t vhalfint __attribute__((vector_size(CALORAY_VECTOR_BYTES / 2)));

// The types that go with a vector type (all of it), or with a number (its full vector).
template <class V>
struct Lanes;
template <>
struct Lanes<vfloat> {
    typedef float Number;
    typedef vint Integers;
};
template <>
struct Lanes<vhalf> {
    typedef float Number;
    typedef vhalfint Integers;
};
template <>
struct Lanes<vdouble> {
    typedef double Number;
    typedef vlong Integers;
};
// A number is a vector of one lane.
template <>
struct Lanes<float> {
    typedef float Number;
    typedef int32_t Integers;
};
template <>
struct Lanes<double> {
    typedef double Number;
    typedef int64_t Integers;
};
template <class T>
struct VectorOf;
template <>
struct VectorOf<float> {
    typedef vfloat Type;
};
template <>
struct VectorOf<double> {
    typedef vdouble Type;
};
template <class T>
using Vector = typename VectorOf<T>::Type;
template <class V>
using Number = typename Lanes<V>::Number;
template <class V>
using Integers = typename Lanes<V>::Integers;

// Number of lanes.
template <class V>
constexpr int kLanes = int(sizeof(V) / sizeof(Number<V>));

template <class V>
CALORAY_INLINE V splat(Number<V> x) {
    return x - V{};
}

// Loads and stores at any address (the plain ones below want the alignment of the vector).
template <class V>
CALORAY_INLINE V load_any(const Number<V>* p) {
    V v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
}
template <class V>
CALORAY_INLINE void store_any(Number<V>* p, V v) {
    __builtin_memcpy(p, &v, sizeof v);
}
template <class V>
CALORAY_INLINE V load(const Number<V>* p) {
    return *reinterpret_cast<const V*>(__builtin_assume_aligned(p, sizeof(V)));
}
template <class V>
CALORAY_INLINE void store(Number<V>* p, V v) {
    *reinterpret_cast<V*>(__builtin_assume_aligned(p, sizeof(V))) = v;
}

// As many numbers as a vector has doubles, as doubles.
CALORAY_INLINE vdouble load_double(const double* p) { return load<vdouble>(p); }
CALORAY_INLINE vdouble load_double(const float* p) {
    const vhalf v = load<vhalf>(p);
#if CALORAY_VECTOR_BYTES == 64   // GCC 12 makes one instruction of this and four of the other
    return vdouble{v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7]};
#else
    return __builtin_convertvector(v, vdouble);
#endif
}
CALORAY_INLINE void store_double(double* p, vdouble v) { store<vdouble>(p, v); }
CALORAY_INLINE void store_double(float* p, vdouble v) { store<vhalf>(p, __builtin_convertvector(v, vhalf)); }

// A NaN in x stays: comparisons with it are false.
template <class V>
CALORAY_INLINE V at_least(V x, Number<V> low) {
    return splat<V>(low) > x ? splat<V>(low) : x;
}
template <class V>
CALORAY_INLINE V at_most(V x, Number<V> high) {
    return splat<V>(high) < x ? splat<V>(high) : x;
}
template <class V>
CALORAY_INLINE V absolute(V x) {
    return x < V{} ? -x : x;
}

CALORAY_INLINE vdouble square_root(vdouble x) {
    vdouble r;
    for (int i = 0; i < kLanes<vdouble>; ++i) r[i] = __builtin_sqrt(x[i]);
    return r;
}

// coefficients: highest power first
template <class V, int N>
CALORAY_INLINE V polynomial(V x, const Number<V> (&coefficients)[N]) {
    V sum = splat<V>(coefficients[0]);
#pragma GCC unroll 16
    for (int i = 1; i < N; ++i) sum = sum * x + coefficients[i];
    return sum;
}

// Where the exponent's bits are, and how exp and log cut their range; ln 2 in two parts, the first with zeros at
// its end so that multiples of it are exact.
template <class T>
struct Format;
template <>
struct Format<float> {
    static constexpr int mantissa = 23;
    static constexpr int32_t bias = 127, root_half = 0x3f3504f3, one = 0x3f800000;
    static constexpr float magic = 12582912.0f, log2e = 1.44269504088896341f, ln2 = 0.693145751953125f,
                           ln2_rest = 1.42860682030941723212e-6f, exp_low = -104.0f, exp_high = 88.8f,
                           smallest_normal = 1.17549435e-38f, two_mantissa = 8388608.0f;
};
template <>
struct Format<double> {
    static constexpr int mantissa = 52;
    static constexpr int64_t bias = 1023, root_half = 0x3fe6a09e667f3bcd, one = 0x3ff0000000000000;
    static constexpr double magic = 6755399441055744.0, log2e = 1.44269504088896340736,
                            ln2 = 0.693147180369123816490, ln2_rest = 1.90821492927058770002e-10,
                            exp_low = -746.0, exp_high = 709.8, smallest_normal = 2.2250738585072014e-308,
                            two_mantissa = 4503599627370496.0;
};

// exp(r) = 1 + r + r^2 p(r) for |r| <= ln(2) / 2
CALORAY_INLINE vfloat exp_tail(vfloat r) {
    return polynomial(r, {1.3926183587713495e-3f, 8.3631790527225774e-3f, 4.1666554617204574e-2f,
                          1.6666576986926988e-1f, 0.5f});
}
CALORAY_INLINE vhalf exp_tail(vhalf r) {
    return polynomial(r, {1.3926183587713495e-3f, 8.3631790527225774e-3f, 4.1666554617204574e-2f,
                          1.6666576986926988e-1f, 0.5f});
}
CALORAY_INLINE vdouble exp_tail(vdouble r) {
    return polynomial(r, {2.5100385495510319e-8, 2.7620088445409748e-7, 2.7557268459997065e-6,
                          2.4801521295954376e-5, 1.9841269863053617e-4, 1.3888888917213717e-3,
                          8.3333333333300618e-3, 4.1666666666624128e-2, 1.6666666666666667e-1, 0.5});
}

// log(m) = 2 s + s^3 p(s^2) with s = (m - 1) / (m + 1), for m between sqrt(1/2) and sqrt(2)
CALORAY_INLINE vfloat log_tail(vfloat z) {
    return polynomial(z, {2.9580053043188444e-1f, 3.9988778282162808e-1f, 6.6666685045156029e-1f});
}
CALORAY_INLINE vhalf log_tail(vhalf z) {
    return polynomial(z, {2.9580053043188444e-1f, 3.9988778282162808e-1f, 6.6666685045156029e-1f});
}
CALORAY_INLINE vdouble log_tail(vdouble z) {
    return polynomial(z, {1.4616585424888622e-1, 1.5331710618210772e-1, 1.8182889455674946e-1,
                          2.2222211130259877e-1, 2.8571428626003269e-1, 3.9999999999899443e-1,
                          6.6666666666666697e-1});
}

// log(1 + u) = 2 s + s^3 p(s^2) with s = u / (2 + u), for u between 0 and 1
CALORAY_INLINE vfloat log1p_tail(vfloat z) {
    return polynomial(z, {2.3224329224023349e-1f, 2.1706575800880373e-1f, 2.8592357994302838e-1f,
                          3.9999706331929717e-1f, 6.6666667320527412e-1f});
}
CALORAY_INLINE vhalf log1p_tail(vhalf z) {
    return polynomial(z, {2.3224329224023349e-1f, 2.1706575800880373e-1f, 2.8592357994302838e-1f,
                          3.9999706331929717e-1f, 6.6666667320527412e-1f});
}
CALORAY_INLINE vdouble log1p_tail(vdouble z) {
    return polynomial(z, {1.6164045611943532e-1, 8.8007384861446739e-2, 1.2001072809590713e-1,
                          1.3314144209654956e-1, 1.5385570064958623e-1, 1.8181789436132858e-1,
                          2.2222222717427863e-1, 2.8571428567108757e-1, 4.0000000000014583e-1,
                          6.6666666666666659e-1});
}

// 2^n for n in the range of normal numbers
template <class V>
CALORAY_INLINE V power_of_two(Integers<V> n) {
    typedef Format<Number<V>> F;
    return (V)((n + F::bias) << F::mantissa);
}

// The nearest integer to x / ln 2, as a number and as an integer; exp(x) = 2^n (1 + r + r^2 p(r)).
template <class V>
CALORAY_INLINE V exp_reduced(V x, Integers<V>& n) {
    typedef Format<Number<V>> F;
    const V shifted = x * F::log2e + F::magic;
    n = (Integers<V>)shifted - (Integers<V>)splat<V>(F::magic);
    const V multiple = shifted - F::magic;
    const V r = (x - multiple * F::ln2) - multiple * F::ln2_rest;
    return (exp_tail(r) * r * r + r) + Number<V>(1);
}

template <class V>
CALORAY_INLINE V exp(V x) {
    typedef Format<Number<V>> F;
    Integers<V> n;
    const V scaled = exp_reduced(at_most(at_least(x, F::exp_low), F::exp_high), n);
    // In two factors: 2^n itself may be subnormal or too large.
    const Integers<V> half = n >> 1;
    return scaled * power_of_two<V>(half) * power_of_two<V>(n - half);
}

// exp of numbers that are not positive; cheaper, and stops at about 1e-38 (1e-308) instead of 0.
template <class V>
CALORAY_INLINE V exp_nonpositive(V x) {
    typedef Format<Number<V>> F;
    Integers<V> n;
    const V scaled = exp_reduced(at_least(x, Number<V>(1 - F::bias) * Number<V>(0.6931471805599453)), n);
    return scaled * power_of_two<V>(n);
}

// 2^r = 1 + r p(r) for |r| <= 1/2
CALORAY_INLINE vfloat exp2_tail(vfloat r) {
    return polynomial(r, {1.5453182829959741e-4f, 1.3390886332106698e-3f, 9.6180825199904669e-3f,
                          5.5503570711525073e-2f, 2.4022650760645807e-1f, 6.9314718803520029e-1f});
}
CALORAY_INLINE vdouble exp2_tail(vdouble r) {
    return polynomial(r, {4.4549643712692968e-10, 7.0725930278789966e-9, 1.0178062426976923e-7,
                          1.3215442552522291e-6, 1.5252733829867081e-5, 1.5403530441793737e-4,
                          1.3333558146416917e-3, 9.6181291076068539e-3, 5.5504108664821594e-2,
                          2.4022650695910098e-1, 6.9314718055994531e-1});
}

// 2^x of numbers that are not positive (or by rounding only); the cheapest of all, stops like exp_nonpositive.
template <class V>
CALORAY_INLINE V exp2_nonpositive(V x) {
    typedef Format<Number<V>> F;
    constexpr Number<V> magic = F::magic + F::bias;   // leaves the exponent's bits of 2^n in the lowest bits
    const V y = at_least(x, Number<V>(1 - F::bias));
    const V shifted = y + magic;
    const V r = y - (shifted - magic);
    return (exp2_tail(r) * r + Number<V>(1)) * (V)((Integers<V>)shifted << F::mantissa);
}

template <class V>
CALORAY_INLINE V log(V x) {
    typedef Format<Number<V>> F;
    const auto tiny = x < splat<V>(F::smallest_normal);
    const V y = tiny ? x * F::two_mantissa : x;
    const Integers<V> over = ((Integers<V>)y - F::root_half) >> F::mantissa;
    const V m = (V)((Integers<V>)y - (over << F::mantissa));
    const V n = __builtin_convertvector(over - (tiny ? Integers<V>{} + F::mantissa : Integers<V>{}), V);
    const V s = (m - Number<V>(1)) / (m + Number<V>(1));
    const V z = s * s;
    const V value = n * F::ln2 + (s * Number<V>(2) + (s * z * log_tail(z) + n * F::ln2_rest));
    const V infinity = splat<V>(Number<V>(__builtin_inf()));
    const V nan = splat<V>(Number<V>(__builtin_nan("")));
    const V finite = x == V{} ? -infinity : value;
    const V proper = x == infinity ? infinity : finite;
    return x >= V{} ? proper : (x < V{} ? nan : x);
}

// log(1 + u) for u between 0 and 1, to full relative accuracy
template <class V>
CALORAY_INLINE V log1p_unit(V u) {
    const V s = u / (u + Number<V>(2));
    const V z = s * s;
    return s * Number<V>(2) + s * z * log1p_tail(z);
}

// log(1 + exp(x))
template <class V>
CALORAY_INLINE V softplus(V x) {
    const V positive = x < V{} ? V{} : x;
    return positive + log1p_unit(exp(-absolute(x)));
}

}  // namespace CALORAY_ISA
