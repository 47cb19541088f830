// Convolutions in float: a block of pixels times all output channels, sums kept in registers.
//
// A pixel's sums are formed in the same order whatever the block, so that results do not depend on the tile.
#pragma once
#include "conv_tile.h"

namespace CALORAY_ISA {

#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kMostPixels = 12;   // 32 registers
constexpr int kFewPixels = 6;     // so few that more outputs are needed to fill the registers
#else
constexpr int kMostPixels = 6;    // 16 registers
constexpr int kFewPixels = 3;
#endif

// Which part of a window is summed over, and how far apart its pixels are in the image (in numbers).
struct Window {
    Range rows, columns;
    int64_t row_pitch, column_pitch, width;   // width: columns of the whole window
};

struct Pixels {
    const float* in[kMostPixels];
    float* out[kMostPixels];
};

constexpr int64_t kLine = 16;   // numbers of a cache line

// For P pixels and V vectors of outputs, which lie kGroup / lanes to a group.
template <int V, int P>
static __attribute__((noinline)) void convolve(const Window& window, const Pixels& pixels, int64_t inputs,
                                               const float* weights, int64_t width, int64_t group_pitch,
                                               const float* bias, int64_t offset, float slope, const float* ahead,
                                               int64_t step) {
    constexpr int lanes = kLanes<vfloat>, in_group = int(kGroup) / lanes;
    // In memory: the sums of one row of the window are small, and rounded accordingly, before they are added here.
    alignas(64) float total[P * V * lanes];
    const float* in[P];
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p) {
        in[p] = pixels.in[p];
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v) store<vfloat>(total + (p * V + v) * lanes, load_any<vfloat>(bias + v * lanes));
    }
    for (int64_t row = window.rows.start; row < window.rows.stop; ++row) {
        vfloat sum[P][V];
#pragma GCC unroll 16
        for (int p = 0; p < P; ++p)
#pragma GCC unroll 8
            for (int v = 0; v < V; ++v) sum[p][v] = vfloat{};
        for (int64_t column = window.columns.start; column < window.columns.stop; ++column) {
            const float* w = weights + (row * window.width + column) * inputs * width;
            const int64_t start = row * window.row_pitch + column * window.column_pitch;
#pragma GCC unroll 2
            for (int64_t i = start; i < start + inputs; ++i) {
                vfloat x[V];
#pragma GCC unroll 8
                for (int v = 0; v < V; ++v)
                    x[v] = load_any<vfloat>(w + v / in_group * group_pitch + v % in_group * lanes);
#pragma GCC unroll 16
                for (int p = 0; p < P; ++p) {
                    const vfloat value = splat<vfloat>(in[p][i]);
#pragma GCC unroll 8
                    for (int v = 0; v < V; ++v) sum[p][v] += value * x[v];
                }
                w += width;
                __builtin_prefetch(ahead, 0, 2);
                ahead += step;
            }
        }
        asm volatile("" ::: "memory");   // or the compiler would keep the totals in registers, too
#pragma GCC unroll 16
        for (int p = 0; p < P; ++p)
#pragma GCC unroll 8
            for (int v = 0; v < V; ++v) {
                float* at = total + (p * V + v) * lanes;
                store<vfloat>(at, load<vfloat>(at) + sum[p][v]);
            }
    }
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p)
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v) {
            const vfloat s = load<vfloat>(total + (p * V + v) * lanes);
            store_any<vfloat>(pixels.out[p] + offset + v * lanes, s < vfloat{} ? s * slope : s);
        }
}

template <int V, int P>
CALORAY_INLINE void convolve_any(int64_t count, const Window& window, const Pixels& pixels, int64_t inputs,
                                 const float* weights, int64_t width, int64_t group_pitch, const float* bias,
                                 int64_t offset, float slope, const float* ahead, int64_t step) {
    if constexpr (P > 0) {
        if (count == P)
            convolve<V, P>(window, pixels, inputs, weights, width, group_pitch, bias, offset, slope, ahead, step);
        else
            convolve_any<V, P - 1>(count, window, pixels, inputs, weights, width, group_pitch, bias, offset, slope,
                                   ahead, step);
    }
}

// All outputs of a block of at most kMostPixels pixels. A slope of 1 leaves the sums as they are.
static void convolve_block(int64_t count, const Window& window, const Pixels& pixels, int64_t inputs,
                           int64_t outputs, int64_t taps, const float* weights, const float* bias, float slope,
                           Ahead& ahead) {
    constexpr int64_t lanes = kLanes<vfloat>, many = 2 * lanes, more = 4 * lanes;
    const int64_t group_pitch = taps * inputs * kGroup;
    const int64_t lines =
        (window.rows.stop - window.rows.start) * (window.columns.stop - window.columns.start) * inputs;
    for (int64_t o = 0; o < outputs;) {
        const int64_t within = o % kGroup, first = o - within;
        // Where few pixels share the weights, memory is busy already.
        const int64_t step = count >= kFewPixels && ahead.next < ahead.stop ? kLine : 0;
        const float* fetched = step ? ahead.next : weights;
        ahead.next += step * lines;
        const int64_t width = outputs - first < kGroup ? kChannels : kGroup;
        const float* w = weights + first * taps * inputs + within;
        // Four vectors: within one group (narrow vectors), or in two whole ones.
        const bool fits = more <= kGroup ? within + more <= width : first + more <= outputs && outputs % kGroup == 0;
        if (count <= kFewPixels && fits) {
            convolve_any<4, kFewPixels>(count, window, pixels, inputs, w, width, group_pitch, bias + o, o, slope,
                                        fetched, step);
            o += more;
        } else if (within + many <= width) {
            convolve_any<2, kMostPixels>(count, window, pixels, inputs, w, width, group_pitch, bias + o, o, slope,
                                        fetched, step);
            o += many;
        } else {
            convolve_any<1, kMostPixels>(count, window, pixels, inputs, w, width, group_pitch, bias + o, o, slope,
                                        fetched, step);
            o += lanes;
        }
    }
}

}  // namespace CALORAY_ISA
