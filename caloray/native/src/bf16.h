// Products in bfloat16 by the tile registers of AMX (x86-64 only), accumulated in float.
//
// A register is 16 rows of 64 bytes. The left one holds 16 rows x 32 inputs of the weights, packed so; the right
// one 16 pairs of inputs x 16 samples x 2, so the units are kept as words of two: unit 2i in the lower half of row
// i, unit 2i + 1 in the upper. The result has 16 rows x 16 samples, as the tile of floats.
#pragma once
#include <immintrin.h>

#include "made.h"
#include "vector_math.h"

namespace CALORAY_ISA {

typedef uint32_t vword __attribute__((vector_size(CALORAY_VECTOR_BYTES)));

struct Halves {
    uint32_t* words;            // (layers x rows) x samples
    int64_t rows_of_a_layer;
};

// Rows of words for so many units: whole registers.
static inline int64_t halved_rows(int64_t units) { return (units + kBf16Inputs - 1) / kBf16Inputs * kBf16Inputs / 2; }

// Units that are not known yet must be 0, as are their weights: 0 times whatever was there could be NaN.
static inline void clear(const Halves& halves, int64_t layers, int64_t stride) {
    __builtin_memset(halves.words, 0, size_t(layers * halves.rows_of_a_layer * stride) * sizeof(uint32_t));
}

// Write the new units of layer l, rounded to the nearest, ties to even.
static void halve(const float* units, Range range, int64_t stride, const Halves& halves, int64_t l) {
    uint32_t* words = halves.words + l * halves.rows_of_a_layer * stride;
    for (int64_t u = range.start; u < range.stop; ++u)
        for (int64_t i = 0; i < stride; i += kLanes<vfloat>) {
            const vfloat value = load<vfloat>(units + u * stride + i);
            const vword bits = (vword)value;
            const vword nearest = bits + 0x7fff + ((bits >> 16) & 1);
            const vword rounded = value == value ? nearest : bits | 0x400000;
            vword* word = reinterpret_cast<vword*>(words + u / 2 * stride + i);
            *word = u % 2 ? *word | (rounded & 0xffff0000u) : rounded >> 16;
        }
}

// The tile registers are configured as long as this lives: 0-3 results, 4 and 5 weights, 6 and 7 units.
struct Configured {
    Configured() {
        struct {
            uint8_t palette, start, reserved[14];
            uint16_t bytes[16];
            uint8_t rows[16];
        } config = {1, 0, {}, {}, {}};
        for (int i = 0; i < 8; ++i) {
            config.bytes[i] = 64;
            config.rows[i] = 16;
        }
        asm volatile("" ::"r"(&config) : "memory");   // see accumulate_halves
        _tile_loadconfig(&config);
    }
    ~Configured() { _tile_release(); }
};

// out += W units for R x V registers of results.
template <int R, int V>
static void accumulate_halves(const uint16_t* w, int64_t steps, const uint32_t* units, float* out, int64_t stride) {
    const int64_t line = stride * 4, block = kBf16Rows * kBf16Inputs;
    float* second = out + kBf16Rows * stride;
    const uint16_t* w_second = w + steps * block;
    asm volatile("" ::: "memory");   // the compiler does not know that the next instructions read memory
    _tile_loadd(0, out, line);
    if constexpr (V > 1) _tile_loadd(1, out + 16, line);
    if constexpr (R > 1) _tile_loadd(2, second, line);
    if constexpr (R > 1 && V > 1) _tile_loadd(3, second + 16, line);
    for (int64_t k = 0; k < steps; ++k) {
        _tile_loadd(6, units, line);
        _tile_loadd(4, w, 64);
        if constexpr (V > 1) _tile_loadd(7, units + 16, line);
        if constexpr (R > 1) _tile_loadd(5, w_second, 64);
        _tile_dpbf16ps(0, 4, 6);
        if constexpr (V > 1) _tile_dpbf16ps(1, 4, 7);
        if constexpr (R > 1) _tile_dpbf16ps(2, 5, 6);
        if constexpr (R > 1 && V > 1) _tile_dpbf16ps(3, 5, 7);
        w += block;
        w_second += block;
        units += kBf16Inputs / 2 * stride;
    }
    _tile_stored(0, out, line);
    if constexpr (V > 1) _tile_stored(1, out + 16, line);
    if constexpr (R > 1) _tile_stored(2, second, line);
    if constexpr (R > 1 && V > 1) _tile_stored(3, second + 16, line);
    asm volatile("" ::: "memory");
}

template <int R>
static void accumulate_halves(const uint16_t* w, int64_t steps, const uint32_t* units, float* out, int64_t stride,
                              int64_t vectors) {
    int64_t v = 0;
    for (; v + 2 <= vectors; v += 2)
        accumulate_halves<R, 2>(w, steps, units + v * 16, out + v * 16, stride);
    if (v < vectors) accumulate_halves<R, 1>(w, steps, units + v * 16, out + v * 16, stride);
}

// out = bias + W units of layer l, or out += W units without a bias; up to 15 rows behind are written unchanged.
static void multiply_halves(const Product& product, const Halves& halves, int64_t l, float* out, int64_t stride,
                            int64_t vectors, const float* bias) {
    for (int64_t r = 0; bias && r < product.rows; ++r)
        for (int64_t i = 0; i < stride; i += kLanes<vfloat>)
            store<vfloat>(out + r * stride + i, splat<vfloat>(bias[r]));
    const int64_t steps = (product.inputs + kBf16Inputs - 1) / kBf16Inputs;
    if (!steps) return;
    const uint16_t* w = static_cast<const uint16_t*>(product.weights);
    const uint32_t* units = halves.words + l * halves.rows_of_a_layer * stride;
    int64_t row = 0;
    for (; row + kBf16Rows < product.rows; row += 2 * kBf16Rows) {
        accumulate_halves<2>(w, steps, units, out + row * stride, stride, vectors);
        w += 2 * steps * kBf16Rows * kBf16Inputs;
    }
    if (row < product.rows) accumulate_halves<1>(w, steps, units, out + row * stride, stride, vectors);
}

}  // namespace CALORAY_ISA
