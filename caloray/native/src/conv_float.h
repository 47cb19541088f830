// The layers of a convolutional flow in float: which pixels are taken together.
#pragma once
#include "conv_product.h"
#include "conv_tile.h"

namespace CALORAY_ISA {

// How far ahead of use weights are fetched, and for tiles of how many showers.
constexpr int64_t kAheadNumbers = 350000, kAheadShowers = 2;

static inline Window window_of(const ConvLayer& layer, const Image& source, Range rows, Range columns) {
    return Window{rows, columns, source.row_pitch, source.column_pitch, layer.columns};
}

static inline float slope_of(const ConvTile& tile, const ConvLayer& layer) {
    return layer.leaky ? float(tile.conv.source.slope) : 1.0f;
}

// Blocks of nearly equal size, each with up to kMostPixels.
template <class Work>
CALORAY_INLINE void in_blocks(int64_t count, Work work) {
    const int64_t blocks = (count + kMostPixels - 1) / kMostPixels;
    for (int64_t i = 0; i < blocks; ++i) work(count * i / blocks, count * (i + 1) / blocks);
}

// The layers behind this one, as far as the second-level cache has room for them.
static void look_ahead(ConvTile& tile, const ConvLayer& layer) {
    const float* own = static_cast<const float*>(layer.weights);
    const float* behind = own + layer.rows * layer.columns * layer.inputs * layer.outputs;
    const float* end = static_cast<const float*>(tile.conv.source.weights_end);
    tile.ahead.stop = end - own < kAheadNumbers ? end : own + kAheadNumbers;
    if (tile.ahead.next < behind) tile.ahead.next = behind;
    if (tile.samples > kAheadShowers) tile.ahead.next = tile.ahead.stop;
}

static void multiply(ConvTile& tile, const ConvLayer& layer, const Window& window, const Pixels& pixels,
                     int64_t count, int64_t tap) {
    const int64_t taps = layer.kind == CONV_UP ? 1 : layer.rows * layer.columns;
    const float* weights = static_cast<const float*>(layer.weights) + tap * layer.inputs * layer.outputs;
    convolve_block(count, window, pixels, layer.inputs, layer.outputs, taps, weights, layer.bias,
                   slope_of(tile, layer), tile.ahead);
}

static void convolve_same(ConvTile& tile, const ConvLayer& layer, const Image& source, const Image& target) {
    const ConvPlaces& places = places_of(tile, tile.conv.source.image[layer.source].level);
    for (int64_t r = 0; r < places.runs; ++r) {
        const ConvRun& run = places.run[r];
        const Window window = window_of(layer, source, run.rows, run.columns);
        const int32_t* place = places.place + run.slot;
        in_blocks(run.count, [&](int64_t first, int64_t stop) {
            Pixels pixels;
            for (int64_t i = first; i < stop; ++i) {
                pixels.in[i - first] = source.before(place[i]);
                pixels.out[i - first] = target.at(place[i]) + layer.offset;
            }
            multiply(tile, layer, window, pixels, stop - first, 0);
        });
    }
}

// Some pixels of a run, to rows of raw numbers.
static void convolve_last(ConvTile& tile, const ConvLayer& layer, const Image& source, const ConvRun& run,
                          Range slots) {
    const int32_t* place = places_of(tile, 0).place;
    const Window window = window_of(layer, source, run.rows, run.columns);
    in_blocks(slots.stop - slots.start, [&](int64_t first, int64_t stop) {
        Pixels pixels;
        for (int64_t i = first; i < stop; ++i) {
            pixels.in[i - first] = source.before(place[slots.start + i]);
            pixels.out[i - first] = tile.outputs + i * layer.outputs;
        }
        multiply(tile, layer, window, pixels, stop - first, 0);
    });
}

// The small image's pixels times showers in blocks: of the target in the way down, of the source in the way up.
static void convolve_strided(ConvTile& tile, const ConvLayer& layer, const Image& source, const Image& target) {
    const bool up = layer.kind == CONV_UP;
    const Image &small = up ? source : target, &large = up ? target : source;
    const int64_t t = tile.samples, taps = layer.rows * layer.columns;
    in_blocks(small.rows * small.columns * t, [&](int64_t first, int64_t stop) {
        float *few[kMostPixels], *many[kMostPixels];
        for (int64_t i = first; i < stop; ++i) {
            const int64_t shower = i % t, column = i / t % small.columns, row = i / t / small.columns;
            few[i - first] = small.at(row, column) + shower * small.stride;
            many[i - first] = large.at(row * layer.rows, column * layer.columns) + shower * large.stride;
        }
        Pixels pixels;
        for (int64_t tap = 0; tap < (up ? taps : 1); ++tap) {
            const int64_t shift = tap / layer.columns * large.row_pitch + tap % layer.columns * large.column_pitch;
            for (int64_t i = 0; i < stop - first; ++i) {
                pixels.in[i] = up ? few[i] : many[i];
                pixels.out[i] = (up ? many[i] + shift : few[i]) + layer.offset;
            }
            const Range one{0, 1}, rows{0, layer.rows}, columns{0, layer.columns};
            const Window window = window_of(layer, source, up ? one : rows, up ? one : columns);
            multiply(tile, layer, window, pixels, stop - first, tap);
        }
    });
}

static inline void keep(Stored* at, float value) { *at = value; }

}  // namespace CALORAY_ISA
