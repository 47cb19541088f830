// A single sample: rows of weights, or bins, in the lanes.
#pragma once
#include "made.h"
#include "spline_inverse.h"
#include "vector_math.h"

namespace CALORAY_ISA {

// Vectors of 4 and of 8 numbers: blocks of packed weights are multiples of 4 rows wide, whole ones of 8.
template <class T>
struct Rows;
template <>
struct Rows<float> {
    typedef float Four __attribute__((vector_size(16)));
    typedef float Eight __attribute__((vector_size(32)));
};
template <>
struct Rows<double> {
    typedef double Four __attribute__((vector_size(32)));
    typedef Four Eight;
};

// out += W in for one block of N vectors of rows; the bias in place of out where there is one.
template <class V, int N, class T>
static void add_block(const T* w, int64_t inputs, const T* in, T* out, const T* bias) {
    constexpr int lanes = int(sizeof(V) / sizeof(T)), phases = N < 4 ? 4 : 2;
    V sum[phases][N];
#pragma GCC unroll 4
    for (int p = 0; p < phases; ++p)
#pragma GCC unroll 6
        for (int n = 0; n < N; ++n) sum[p][n] = V{};
    int64_t k = 0;
    auto add = [&](int p) __attribute__((always_inline)) {
        const V x = in[k + p] - V{};
#pragma GCC unroll 6
        for (int n = 0; n < N; ++n) {
            V weights;
            __builtin_memcpy(&weights, w + n * lanes, sizeof(V));
            sum[p][n] += weights * x;
        }
        w += N * lanes;
    };
    for (; k + phases <= inputs; k += phases) {
        __builtin_prefetch(w + 1024);
        __builtin_prefetch(w + 1024 + 64 / sizeof(T));
#pragma GCC unroll 4
        for (int p = 0; p < phases; ++p) add(p);
    }
    for (; k < inputs; ++k) add(0);
#pragma GCC unroll 6
    for (int n = 0; n < N; ++n) {
        V total = sum[0][n];
#pragma GCC unroll 4
        for (int p = 1; p < phases; ++p) total += sum[p][n];
        V old;
        __builtin_memcpy(&old, (bias ? bias : out) + n * lanes, sizeof(V));
        total += old;
        __builtin_memcpy(out + n * lanes, &total, sizeof(V));
    }
}

// One or two rows: sums over every fourth input, for the latency.
template <class T>
static void add_rows(const T* w, int64_t rows, int64_t inputs, const T* in, T* out, const T* bias) {
    for (int64_t r = 0; r < rows; ++r) {
        T sum[4] = {};
        int64_t k = 0;
        for (; k + 4 <= inputs; k += 4)
#pragma GCC unroll 4
            for (int p = 0; p < 4; ++p) sum[p] += w[(k + p) * rows + r] * in[k + p];
        for (; k < inputs; ++k) sum[0] += w[k * rows + r] * in[k];
        out[r] = (bias ? bias : out)[r] + ((sum[0] + sum[1]) + (sum[2] + sum[3]));
    }
}

// out = bias + W in, or out += W in without a bias; up to kSlack numbers behind the rows are written, too.
template <class T>
static void multiply_single(const Product& product, const T* in, T* out, const T* bias) {
    typedef typename Rows<T>::Four Four;
    typedef typename Rows<T>::Eight Eight;
    const T* w = static_cast<const T*>(product.weights);
    const int64_t inputs = product.inputs;
    if (!inputs && !bias) return;
    for (int64_t row = 0; row < product.rows; row += kBlock) {
        const int64_t rows = product.rows - row < kBlock ? product.rows - row : kBlock;
        const int64_t width = padded_rows(rows);
        const T* start = bias ? bias + row : nullptr;
        switch (width) {
            case 24: add_block<Eight, int(24 * sizeof(T) / sizeof(Eight))>(w, inputs, in, out + row, start); break;
            case 20: add_block<Four, 5>(w, inputs, in, out + row, start); break;
            case 16: add_block<Four, 4>(w, inputs, in, out + row, start); break;
            case 12: add_block<Four, 3>(w, inputs, in, out + row, start); break;
            case 8: add_block<Four, 2>(w, inputs, in, out + row, start); break;
            case 4: add_block<Four, 1>(w, inputs, in, out + row, start); break;
            default: add_rows(w, width, inputs, in, out + row, start);
        }
        w += width * inputs;
    }
}

// exp(logit - largest) of K logits, up to a factor that they share, with the sums below each: below[K] is the total.
template <class T>
CALORAY_INLINE void shares_of(const T* logits, int64_t bins, double* parts, double* below) {
    typedef Vector<T> Vec;
    constexpr int lanes = kLanes<Vec>;
    T first = logits[0], second = logits[1];
    for (int64_t k = 2; k + 1 < bins; k += 2) {
        first = logits[k] > first ? logits[k] : first;
        second = logits[k + 1] > second ? logits[k + 1] : second;
    }
    if (bins % 2) first = logits[bins - 1] > first ? logits[bins - 1] : first;
    const T largest = second > first ? second : first;
    for (int64_t k = 0; k < bins; k += lanes) {
        const Vec part = exp_nonpositive(load_any<Vec>(logits + k) - largest);
#pragma GCC unroll 16
        for (int i = 0; i < lanes; ++i) parts[k + i] = part[i];
    }
    below[0] = 0;
    for (int64_t k = 0; k < bins; ++k) below[k + 1] = below[k] + parts[k];
}

// As invert in spline_inverse.h, for one number z; reads up to a vector behind the raw parameters.
template <class T>
static __attribute__((noinline)) void invert_single(const Spline& spline, const T* raw, T* z, LogDet log_det) {
    const int64_t n = spline.bins;
    const double y = *z, bound = spline.bound;
    const bool inside = y >= -bound && y <= bound;
    if (!inside) return;
    double widths[256 + 16], heights[256 + 16], width_below[257], height_below[257];
    shares_of(raw, n, widths, width_below);
    shares_of(raw + n, n, heights, height_below);
    const double width_sum = width_below[n], height_sum = height_below[n];
    const double rest_width = 1 - spline.min_width * double(n), rest_height = 1 - spline.min_height * double(n);
    const double level = (y + bound) / (2 * bound) * height_sum, least = spline.min_height * height_sum;
    int64_t bin = 0;
    for (int64_t k = 1; k < n; ++k) bin += level >= least * double(k) + rest_height * height_below[k];
    Vector<T> slopes = splat<Vector<T>>(T(spline.unit_slope));
    if (bin > 0) slopes[0] = raw[2 * n + bin - 1];
    if (bin < n - 1) slopes[1] = raw[2 * n + bin];
    slopes = softplus(slopes);
    vdouble slope;
    const vdouble share = solve_in_bin(
        splat<vdouble>(spline.min_width * width_sum * double(bin) + rest_width * width_below[bin]),
        splat<vdouble>(spline.min_width * width_sum + rest_width * widths[bin]),
        splat<vdouble>(level - (least * double(bin) + rest_height * height_below[bin])),
        splat<vdouble>(least + rest_height * heights[bin]), splat<vdouble>(width_sum), splat<vdouble>(height_sum),
        splat<vdouble>(double(slopes[0]) + spline.min_slope), splat<vdouble>(double(slopes[1]) + spline.min_slope),
        slope);
    *z = T(share[0] * (2 * bound) - bound);
    multiply_into(log_det.mantissa, log_det.exponent, slope);
}

}  // namespace CALORAY_ISA
