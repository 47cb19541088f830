// The inverse of the rational-quadratic spline for one dimension of a tile; formulas of caloray/flows/spline.py.
//
// Exponentials and softplus are evaluated in the network's precision; running sums, the edges of the bins and the
// quadratic equation in double, since in float a narrow bin would lose all digits. To save divisions,
// edges and sizes are not divided by the softmax's sum, and slopes are multiplied by the bin's p = W sumH, where
// W / sumW and H / sumH are the bin's shares of the interval: the mean slope s becomes q = H sumW.
#pragma once
#include "made.h"
#include "vector_math.h"

namespace CALORAY_ISA {

// log |det| as the logarithm of a product: mantissas multiplied, exponents added, per sample.
struct LogDet {
    double* mantissa;
    int64_t* exponent;
};

CALORAY_INLINE void multiply_into(double* mantissa, int64_t* exponent, vdouble factor) {
    const vdouble product = load<vdouble>(mantissa) * factor;
    const vlong bits = (vlong)product;
    const vlong power = (bits >> 52) & 0x7ff;
    const vlong normal = (power != 0) & (power != 0x7ff);   // not zero, subnormal, infinite or NaN
    const vlong one = (bits & int64_t(0x800fffffffffffff)) | int64_t(0x3ff0000000000000);
    store<vdouble>(mantissa, normal ? (vdouble)one : product);
    *reinterpret_cast<vlong*>(exponent) += normal & (power - 1023);
}

// The bins that the values of a few vectors fall into; shares not divided by the softmax's sums.
template <class T>
struct Bins {
    static constexpr int vectors = 4, lanes = vectors * kLanes<Vector<T>>;
    alignas(64) double left[lanes], width[lanes], rise[lanes], height[lanes], width_sum[lanes], height_sum[lanes];
    alignas(64) T slope0[lanes], slope1[lanes];
};

// Replace the K logits by their exponentials, up to a factor that they share.
template <class T, int K>
CALORAY_INLINE void exponentials(T* logits, int64_t stride, int bins) {
    typedef Vector<T> Vec;
    const int n = K ? K : bins;
    Vec largest = load<Vec>(logits);
#pragma GCC unroll 10
    for (int k = 1; k < n; ++k) {
        const Vec next = load<Vec>(logits + k * stride);
        largest = next > largest ? next : largest;
    }
    // Subtracted first: a difference of two products would round by as much as the logits are large.
#pragma GCC unroll 10
    for (int k = 0; k < n; ++k) {
        const Vec below = load<Vec>(logits + k * stride) - largest;
        store<Vec>(logits + k * stride, exp2_nonpositive(below * Format<T>::log2e));
    }
}

template <class T, int K>
CALORAY_INLINE vdouble total(const T* parts, int64_t stride, int bins) {
    const int n = K ? K : bins;
    vdouble sum = load_double(parts);
#pragma GCC unroll 10
    for (int k = 1; k < n; ++k) sum += load_double(parts + k * stride);
    return sum;
}

// Find the bin of `share` (of the interval, from below) by the heights; `at` is the first of the lanes.
template <class T, int K>
CALORAY_INLINE void find_bin(const Spline& spline, const T* raw, int64_t stride, vdouble share, Bins<T>& bins,
                             int at) {
    const int n = K ? K : int(spline.bins);
    const T *widths = raw, *heights = raw + n * stride, *slopes = raw + 2 * n * stride;
    const vdouble width_sum = total<T, K>(widths, stride, n), height_sum = total<T, K>(heights, stride, n);
    const vdouble least_width = width_sum * spline.min_width, least_height = height_sum * spline.min_height;
    const double rest_width = 1 - spline.min_width * n, rest_height = 1 - spline.min_height * n;
    const vdouble level = share * height_sum;
    vdouble width = least_width + load_double(widths) * rest_width, next_left = width, left = {};
    vdouble height = least_height + load_double(heights) * rest_height, next_bottom = height;
    vdouble bottom = {};
    vdouble slope0 = splat<vdouble>(spline.unit_slope), next_slope = load_double(slopes), slope1 = next_slope;
#pragma GCC unroll 10
    for (int k = 1; k < n; ++k) {
        const auto above = level >= next_bottom;
        const vdouble next_width = least_width + load_double(widths + k * stride) * rest_width;
        const vdouble next_height = least_height + load_double(heights + k * stride) * rest_height;
        left = above ? next_left : left;
        width = above ? next_width : width;
        bottom = above ? next_bottom : bottom;
        height = above ? next_height : height;
        slope0 = above ? next_slope : slope0;
        next_slope = k < n - 1 ? load_double(slopes + k * stride) : splat<vdouble>(spline.unit_slope);
        slope1 = above ? next_slope : slope1;
        next_left += next_width;
        next_bottom += next_height;
    }
    store<vdouble>(bins.left + at, left);
    store<vdouble>(bins.width + at, width);
    store<vdouble>(bins.rise + at, level - bottom);
    store<vdouble>(bins.height + at, height);
    store<vdouble>(bins.width_sum + at, width_sum);
    store<vdouble>(bins.height_sum + at, height_sum);
    store_double(bins.slope0 + at, slope0);
    store_double(bins.slope1 + at, slope1);
}

// Solve the quadratic equation in the bin: the position as a share of the interval and the slope dx/dy.
CALORAY_INLINE vdouble solve_in_bin(vdouble left, vdouble width, vdouble rise, vdouble height, vdouble width_sum,
                                    vdouble height_sum, vdouble left_slope, vdouble right_slope, vdouble& slope) {
    const vdouble p = width * height_sum, q = height * width_sum;
    const vdouble slope0 = left_slope * p, slope1 = right_slope * p;
    const vdouble bend = slope0 + slope1 - q * 2.0;
    const vdouble a = height * (q - slope0) + rise * bend;
    const vdouble b = height * slope0 - rise * bend;
    const vdouble qr = q * rise;
    const vdouble root = square_root(at_least(b * b + a * qr * 4.0, 0.0));
    const vdouble under = b + root;
    const vdouble inverse = 1.0 / (under * width_sum);
    const vdouble theta = at_most(at_least(qr * 2.0 * inverse * width_sum, 0.0), 1.0);
    const vdouble turn = 1.0 - theta, t = theta * turn;
    const vdouble den = q + bend * t;
    slope = (den * den * p) / (q * q * (slope1 * theta * theta + q * t * 2.0 + slope0 * turn * turn));
    return (left + theta * width) * (inverse * under);
}

// Noise to data in place in z (one row of the tile); the raw parameters (rows `stride` apart) are overwritten.
// In phases over a few vectors, since each phase is one long chain of dependent operations.
template <class T, int K>
static __attribute__((noinline)) void invert_spline(const Spline& spline, T* raw, int64_t stride, int64_t vectors,
                                                    T* z, LogDet log_det) {
    typedef Vector<T> Vec;
    constexpr int lanes = kLanes<Vec>, part = kLanes<vdouble>;
    const int n = K ? K : int(spline.bins);
    const double span = 2 * spline.bound;
    for (int64_t first = 0; first < vectors; first += Bins<T>::vectors) {
        const int64_t left = vectors - first;
        const int64_t from = first * lanes, count = (left < Bins<T>::vectors ? left : Bins<T>::vectors) * lanes;
        Bins<T> bins;
        for (int64_t i = 0; i < count; i += lanes) {
            exponentials<T, K>(raw + from + i, stride, n);
            exponentials<T, K>(raw + from + i + n * stride, stride, n);
        }
        for (int64_t i = 0; i < count; i += part) {
            const vdouble y = at_most(at_least(load_double(z + from + i), -spline.bound), spline.bound);
            find_bin<T, K>(spline, raw + from + i, stride, (y + spline.bound) / span, bins, i);
        }
        for (int64_t i = 0; i < count; i += lanes) {
            store<Vec>(bins.slope0 + i, softplus(load<Vec>(bins.slope0 + i)));
            store<Vec>(bins.slope1 + i, softplus(load<Vec>(bins.slope1 + i)));
        }
        for (int64_t i = 0; i < count; i += part) {
            const int64_t at = from + i;
            const vdouble y = load_double(z + at);
            vdouble slope;
            const vdouble share = solve_in_bin(
                load<vdouble>(bins.left + i), load<vdouble>(bins.width + i), load<vdouble>(bins.rise + i),
                load<vdouble>(bins.height + i), load<vdouble>(bins.width_sum + i),
                load<vdouble>(bins.height_sum + i), load_double(bins.slope0 + i) + spline.min_slope,
                load_double(bins.slope1 + i) + spline.min_slope, slope);
            const auto inside = (y >= splat<vdouble>(-spline.bound)) & (y <= splat<vdouble>(spline.bound));
            store_double(z + at, inside ? share * span - spline.bound : y);
            multiply_into(log_det.mantissa + at, log_det.exponent + at, inside ? slope : splat<vdouble>(1.0));
        }
    }
}

template <class V>
CALORAY_INLINE void invert(const Spline& spline, Number<V>* raw, int64_t stride, int64_t vectors, Number<V>* z,
                           LogDet log_det) {
    typedef Number<V> T;
    switch (spline.bins) {
        case 8: return invert_spline<T, 8>(spline, raw, stride, vectors, z, log_det);
        case 10: return invert_spline<T, 10>(spline, raw, stride, vectors, z, log_det);
        default: return invert_spline<T, 0>(spline, raw, stride, vectors, z, log_det);
    }
}

}  // namespace CALORAY_ISA
