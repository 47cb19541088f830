// The layers of a convolutional flow in bfloat16, by the tile registers of AMX, accumulated in float.
//
// A left register holds 32 channels of 16 neighbours [pixel][shower] of an image, a right one 32 inputs x 16 outputs
// of the weights, a result 16 neighbours x 16 outputs. Rows behind the last neighbour hold whatever follows it and
// are thrown away.
#pragma once
#include "bf16.h"
#include "conv_tile.h"

namespace CALORAY_ISA {

constexpr int64_t kRegister = kBf16Rows * kBf16Inputs;   // numbers of a register of weights
constexpr int kRows = 2, kBlocks = 2;                    // registers of neighbours, and of outputs, at once

static inline uint16_t halved(float value) {
    uint32_t bits;
    __builtin_memcpy(&bits, &value, sizeof bits);
    if (value != value) return uint16_t(bits >> 16 | 0x40);
    return uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static inline void keep(Stored* at, float value) { *at = halved(value); }

// Neighbours of an image, and which part of the window around (or below) them is summed over.
struct Patch {
    const Stored* pixels;
    int64_t stride, row_pitch, column_pitch;
    Range rows, columns;
    int64_t width, steps;            // columns of the whole window; registers of inputs
};

// Sums of R x B registers, one after the other in `out`, whose rows are `line` floats.
template <int R, int B>
static void sum_registers(const Patch& patch, const uint16_t* weights, int64_t block_pitch, const float* bias,
                          float* out, int64_t line) {
    const int64_t bytes = patch.stride * 2;
    asm volatile("" ::: "memory");   // the compiler does not know that the next instructions read memory
    // All rows start with the same bias.
    _tile_loadd(0, bias, 0);
    if constexpr (B > 1) _tile_loadd(1, bias + 16, 0);
    if constexpr (R > 1) _tile_loadd(2, bias, 0);
    if constexpr (R > 1 && B > 1) _tile_loadd(3, bias + 16, 0);
    for (int64_t row = patch.rows.start; row < patch.rows.stop; ++row)
        for (int64_t column = patch.columns.start; column < patch.columns.stop; ++column) {
            const Stored* in = patch.pixels + row * patch.row_pitch + column * patch.column_pitch;
            const uint16_t* w = weights + (row * patch.width + column) * patch.steps * kRegister;
            for (int64_t step = 0; step < patch.steps; ++step) {
                _tile_loadd(4, in, bytes);
                _tile_loadd(6, w, 64);
                if constexpr (B > 1) _tile_loadd(7, w + block_pitch, 64);
                _tile_dpbf16ps(0, 4, 6);
                if constexpr (B > 1) _tile_dpbf16ps(1, 4, 7);
                if constexpr (R > 1) {
                    _tile_loadd(5, in + 16 * patch.stride, bytes);
                    _tile_dpbf16ps(2, 5, 6);
                    if constexpr (B > 1) _tile_dpbf16ps(3, 5, 7);
                }
                in += kStep;
                w += kRegister;
            }
        }
    _tile_stored(0, out, line * 4);
    if constexpr (B > 1) _tile_stored(1, out + 16, line * 4);
    if constexpr (R > 1) _tile_stored(2, out + 16 * line, line * 4);
    if constexpr (R > 1 && B > 1) _tile_stored(3, out + 16 * line + 16, line * 4);
    asm volatile("" ::: "memory");
}

// LeakyReLU (none with a slope of 1) and rounding of 16 or 32 sums.
template <int B>
CALORAY_INLINE void store_outputs(const float* sums, float slope, Stored* out) {
    const __m512 s = _mm512_set1_ps(slope), zero = _mm512_setzero_ps();
    __m512 x[B];
#pragma GCC unroll 2
    for (int b = 0; b < B; ++b) {
        x[b] = _mm512_loadu_ps(sums + 16 * b);
        x[b] = _mm512_mask_mul_ps(x[b], _mm512_cmp_ps_mask(x[b], zero, _CMP_LT_OQ), x[b], s);
    }
    if constexpr (B == 2)
        _mm512_storeu_si512(out, (__m512i)_mm512_cvtne2ps_pbh(x[1], x[0]));
    else
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), (__m256i)_mm512_cvtneps_pbh(x[0]));
}

// `count` neighbours in registers, for B blocks of outputs; at(i) is where the outputs of neighbour i go.
template <int B, class At>
CALORAY_INLINE void convolve_blocks(Patch patch, int64_t count, const uint16_t* weights, int64_t block_pitch,
                                    const float* bias, float slope, At at) {
    alignas(64) float sums[kRows * 16 * 16 * B];
    const Stored* pixels = patch.pixels;
    for (int64_t first = 0; first < count; first += kRows * 16) {
        patch.pixels = pixels + first * patch.stride;
        const int64_t left = count - first, rows = left < kRows * 16 ? left : kRows * 16;
        if (left > 16)
            sum_registers<2, B>(patch, weights, block_pitch, bias, sums, 16 * B);
        else
            sum_registers<1, B>(patch, weights, block_pitch, bias, sums, 16 * B);
        for (int64_t i = 0; i < rows; ++i) store_outputs<B>(sums + i * 16 * B, slope, at(first + i));
    }
}

// All outputs of some neighbours.
template <class At>
CALORAY_INLINE void convolve_patch(const ConvTile& tile, const ConvLayer& layer, const Patch& patch, int64_t count,
                                   int64_t taps, const uint16_t* weights, At at) {
    const float slope = layer.leaky ? float(tile.conv.source.slope) : 1.0f;
    const int64_t block_pitch = taps * patch.steps * kRegister;
    int64_t o = 0;
    for (; o + 32 <= layer.outputs; o += 32, weights += 2 * block_pitch)
        convolve_blocks<2>(patch, count, weights, block_pitch, layer.bias + o, slope,
                           [&](int64_t i) { return at(i) + o; });
    if (o < layer.outputs)
        convolve_blocks<1>(patch, count, weights, block_pitch, layer.bias + o, slope,
                           [&](int64_t i) { return at(i) + o; });
}

static inline Patch patch_of(const ConvLayer& layer, const Image& source, const Stored* pixels, Range rows,
                             Range columns) {
    return Patch{pixels, source.stride, source.row_pitch, source.column_pitch, rows, columns,
                 layer.columns, (layer.inputs + kStep - 1) / kStep};
}

static inline const uint16_t* weights_of(const ConvLayer& layer) {
    return static_cast<const uint16_t*>(layer.weights);
}

static inline void look_ahead(ConvTile&, const ConvLayer&) {}

static void convolve_same(ConvTile& tile, const ConvLayer& layer, const Image& source, const Image& target) {
    const ConvPlaces& places = places_of(tile, tile.conv.source.image[layer.source].level);
    for (int64_t r = 0; r < places.runs; ++r) {
        const ConvRun& run = places.run[r];
        const int64_t place = places.place[run.slot];
        Stored* out = target.at(place) + layer.offset;
        convolve_patch(tile, layer, patch_of(layer, source, source.before(place), run.rows, run.columns), run.count,
                       9, weights_of(layer), [&](int64_t i) { return out + i * target.stride; });
    }
}

// Some pixels of a run, to rows of raw numbers.
static void convolve_last(ConvTile& tile, const ConvLayer& layer, const Image& source, const ConvRun& run,
                          Range slots) {
    Patch patch = patch_of(layer, source, source.before(places_of(tile, 0).place[slots.start]), run.rows, run.columns);
    const int64_t block_pitch = 9 * patch.steps * kRegister, line = layer.outputs;
    const int64_t blocks = line / 16, registers = (slots.stop - slots.start + 15) / 16;
    const Stored* pixels = patch.pixels;
    for (int64_t r = 0; r < registers; r += kRows)
        for (int64_t b = 0; b < blocks; b += kBlocks) {
            patch.pixels = pixels + 16 * r * patch.stride;
            const uint16_t* weights = weights_of(layer) + b * block_pitch;
            const float* bias = layer.bias + 16 * b;
            float* out = tile.outputs + 16 * r * line + 16 * b;
            const bool two_rows = r + 1 < registers, two_blocks = b + 1 < blocks;
            if (two_rows && two_blocks)
                sum_registers<2, 2>(patch, weights, block_pitch, bias, out, line);
            else if (two_rows)
                sum_registers<2, 1>(patch, weights, block_pitch, bias, out, line);
            else if (two_blocks)
                sum_registers<1, 2>(patch, weights, block_pitch, bias, out, line);
            else
                sum_registers<1, 1>(patch, weights, block_pitch, bias, out, line);
        }
}

static void convolve_down(ConvTile& tile, const ConvLayer& layer, const Image& source, const Image& target) {
    for (int64_t row = 0; row < target.rows; ++row)
        for (int64_t column = 0; column < target.columns; ++column) {
            const Stored* in = source.at(row * layer.rows, column * layer.columns);
            Stored* out = target.at(row, column) + layer.offset;
            const Patch patch = patch_of(layer, source, in, Range{0, layer.rows}, Range{0, layer.columns});
            convolve_patch(tile, layer, patch, tile.samples, layer.rows * layer.columns, weights_of(layer),
                           [&](int64_t i) { return out + i * target.stride; });
        }
}

static void convolve_up(ConvTile& tile, const ConvLayer& layer, const Image& source, const Image& target) {
    const int64_t t = tile.samples;
    for (int64_t row = 0; row < source.rows; ++row) {
        const Patch patch = patch_of(layer, source, source.at(row, 0), Range{0, 1}, Range{0, 1});
        const uint16_t* weights = weights_of(layer);
        for (int64_t y = 0; y < layer.rows; ++y)
            for (int64_t x = 0; x < layer.columns; ++x) {
                convolve_patch(tile, layer, patch, source.columns * t, 1, weights, [&](int64_t i) {
                    return target.at(row * layer.rows + y, i / t * layer.columns + x) + i % t * target.stride +
                           layer.offset;
                });
                weights += layer.outputs / 16 * patch.steps * kRegister;
            }
    }
}

static void convolve_strided(ConvTile& tile, const ConvLayer& layer, const Image& source, const Image& target) {
    if (layer.kind == CONV_UP)
        convolve_up(tile, layer, source, target);
    else
        convolve_down(tile, layer, source, target);
}

}  // namespace CALORAY_ISA
