// Products of packed weights with the tile's rows, and with one sample's vector.
#pragma once
#include "made.h"
#include "vector_math.h"

namespace CALORAY_ISA {

// Inputs per pass: their rows of the tile and the block's weights stay in the first-level cache.
constexpr int64_t kInputsPerPass = 96;

#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kMostVectors = 4;   // 32 registers
#else
constexpr int kMostVectors = 2;   // 16 registers
#endif

// How far ahead weights are fetched (numbers).
constexpr int64_t kAhead = kBlock * 32;

// Rows that are accumulated at once, so that rows x vectors fills the registers.
constexpr int rows_at_once(int vectors) {
    return kMostVectors == 2 ? (vectors == 2 ? 6 : 12) : (vectors == 4 ? 6 : vectors == 3 ? 8 : 12);
}

// out[r][v] += sum over k of w[k][r] in[k][v] for R rows and V vectors; the bias in place of out where there is one.
// Sums of one pass are small, and rounded accordingly, before they are added to the large ones.
template <class T, int R, int V>
static __attribute__((noinline)) void accumulate(const T* w, int64_t width, int64_t inputs, const T* in, T* out,
                                                 int64_t stride, const T* bias) {
    typedef Vector<T> Vec;
    constexpr int lanes = kLanes<Vec>;
    Vec sum[R][V];
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v)
            sum[r][v] = Vec{};
#pragma GCC unroll 1
    for (int64_t k = 0; k < inputs; ++k) {
        Vec x[V];
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) x[v] = load<Vec>(in + v * lanes);
#pragma GCC unroll 12
        for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
            for (int v = 0; v < V; ++v) sum[r][v] += splat<Vec>(w[r]) * x[v];
        __builtin_prefetch(w + kAhead);
        w += width;
        in += stride;
    }
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) {
            T* at = out + r * stride + v * lanes;
            store<Vec>(at, sum[r][v] + (bias ? splat<Vec>(bias[r]) : load<Vec>(at)));
        }
}

template <class T, int V, int R>
CALORAY_INLINE void accumulate_rest(int64_t rows, const T* w, int64_t width, int64_t inputs, const T* in, T* out,
                                    int64_t stride, const T* bias) {
    if constexpr (R > 0) {
        if (rows == R)
            accumulate<T, R, V>(w, width, inputs, in, out, stride, bias);
        else
            accumulate_rest<T, V, R - 1>(rows, w, width, inputs, in, out, stride, bias);
    }
}

template <class T, int V>
static void accumulate_block(int64_t rows, const T* w, int64_t width, int64_t inputs, const T* in, T* out,
                             int64_t stride, const T* bias) {
    constexpr int R = rows_at_once(V);
    int64_t r = 0;
    for (; r + R <= rows; r += R)
        accumulate<T, R, V>(w + r, width, inputs, in, out + r * stride, stride, bias ? bias + r : nullptr);
    accumulate_rest<T, V, R - 1>(rows - r, w + r, width, inputs, in, out + r * stride, stride,
                                 bias ? bias + r : nullptr);
}

// One block of rows for all vectors of the tile.
template <class T>
static void multiply_block(int64_t rows, const T* w, int64_t width, int64_t inputs, const T* in, T* out,
                           int64_t stride, int64_t vectors, const T* bias) {
    constexpr int lanes = kLanes<Vector<T>>;
    int64_t v = 0;
    for (; v + kMostVectors <= vectors; v += kMostVectors)
        accumulate_block<T, kMostVectors>(rows, w, width, inputs, in + v * lanes, out + v * lanes, stride, bias);
    in += v * lanes;
    out += v * lanes;
    switch (vectors - v) {
        case 1: return accumulate_block<T, 1>(rows, w, width, inputs, in, out, stride, bias);
        case 2: return accumulate_block<T, 2>(rows, w, width, inputs, in, out, stride, bias);
        case 3: return accumulate_block<T, 3>(rows, w, width, inputs, in, out, stride, bias);
    }
}

// out = bias + W in, or out += W in without a bias, for a tile of vectors; rows of `in` and `out` are `stride` apart.
template <class T>
static void multiply_tile(const Product& product, const T* in, T* out, int64_t stride, int64_t vectors,
                          const T* bias) {
    const T* w = static_cast<const T*>(product.weights);
    for (int64_t row = 0; row < product.rows; row += kBlock) {
        const int64_t rows = product.rows - row < kBlock ? product.rows - row : kBlock;
        const int64_t width = padded_rows(rows);
        const T* start = bias ? bias + row : nullptr;
        int64_t k = 0;
        do {
            const int64_t inputs = product.inputs - k < kInputsPerPass ? product.inputs - k : kInputsPerPass;
            if (inputs || start)
                multiply_block(rows, w + k * width, width, inputs, in + k * stride, out + row * stride, stride,
                               vectors, start);
            start = nullptr;
            k += kInputsPerPass;
        } while (k < product.inputs);
        w += width * product.inputs;
    }
}

}  // namespace CALORAY_ISA
