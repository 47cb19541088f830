// Solve a tile of showers: affine map, network, splines, block after block.
#pragma once
#include "spline_inverse.h"
#ifdef CALORAY_BF16
#include "conv_bf16.h"
#else
#include "conv_float.h"
#endif

namespace CALORAY_ISA {

static int64_t outputs_of(const Conv& conv) { return conv.source.layer[conv.source.layers - 1].outputs; }

// Lay the tile's arrays out from `memory`; the bytes they take.
static int64_t lay_out(ConvTile& tile, char* memory) {
    const ConvSource& source = tile.conv.source;
    char* next = memory;
    auto take = [&](int64_t bytes) {
        char* start = next;
        next += whole(bytes, 64);
        return start;
    };
    int64_t images = 0;
    for (int64_t i = 0; i < source.images; ++i) images += image_numbers(tile.conv, tile.samples, i);
    const int64_t slots = places_of(tile, 0).slots, outputs = outputs_of(tile.conv);
    tile.images = reinterpret_cast<Stored*>(take(images * int64_t(sizeof(Stored))));
    tile.z = reinterpret_cast<float*>(take(source.channels * slots * 4));
    tile.next = reinterpret_cast<float*>(take(source.channels * slots * 4));
    tile.mantissa = reinterpret_cast<double*>(take(slots * 8));
    tile.exponent = reinterpret_cast<int64_t*>(take(slots * 8));
    tile.outputs = reinterpret_cast<float*>(take(kChunk * outputs * 4));
    tile.raw = reinterpret_cast<float*>(take(kChunk * outputs * 4));
    return next - memory;
}

// The tile starts with zeros everywhere, so that there are zeros around the images.
static void read_tile(const ConvTile& tile, const ConvBatch& batch, int64_t first) {
    const ConvSource& source = tile.conv.source;
    const ConvPlaces& places = places_of(tile, 0);
    const Image input = image_of(tile, 0);
    const int64_t t = tile.samples, pixels = input.rows * input.columns;
    for (int64_t s = 0; s < places.slots; ++s) tile.mantissa[s] = 1;
    for (int64_t shower = 0; shower < t; ++shower) {
        const float* noise = batch.noise + (first + shower) * source.channels * pixels;
        for (int64_t c = 0; c < source.channels; ++c)
            for (int64_t p = 0; p < pixels; ++p) tile.z[c * places.slots + places.slot[p * t + shower]] = *noise++;
        const float* planes = batch.planes + (first + shower) * source.context * pixels;
        for (int64_t c = 0; c < source.context; ++c)
            for (int64_t p = 0; p < pixels; ++p)
                keep(input.at(places.place[places.slot[p * t + shower]]) + c, *planes++);
    }
}

static void write_tile(const ConvTile& tile, const ConvBatch& batch, int64_t first) {
    const ConvSource& source = tile.conv.source;
    const ConvPlaces& places = places_of(tile, 0);
    const int64_t t = tile.samples, pixels = conv_rows(tile.conv, 0) * conv_columns(tile.conv, 0);
    for (int64_t s = 0; s < places.slots; s += kLanes<vdouble>)
        store<vdouble>(tile.mantissa + s, log(load<vdouble>(tile.mantissa + s)));
    for (int64_t shower = 0; shower < t; ++shower) {
        float* x = batch.x + (first + shower) * source.channels * pixels;
        for (int64_t c = 0; c < source.channels; ++c)
            for (int64_t p = 0; p < pixels; ++p)
                x[source.order[c * pixels + p]] = tile.z[c * places.slots + places.slot[p * t + shower]];
        double sum = 0;
        int64_t powers = 0;
        for (int64_t p = 0; p < pixels; ++p) {
            sum += tile.mantissa[places.slot[p * t + shower]];
            powers += tile.exponent[places.slot[p * t + shower]];
        }
        batch.log_det[first + shower] = float(sum + double(powers) * 0.69314718055994530942 + source.log_det);
    }
}

// z = M z + b in every pixel.
static void apply_affine(ConvTile& tile, const float* affine) {
    const int64_t channels = tile.conv.source.channels, slots = places_of(tile, 0).slots;
    const float* bias = affine + channels * channels;
    for (int64_t c = 0; c < channels; ++c, affine += channels)
        for (int64_t s = 0; s < slots; s += kLanes<vfloat>) {
            vfloat sum = splat<vfloat>(bias[c]);
            for (int64_t i = 0; i < channels; ++i) sum += load<vfloat>(tile.z + i * slots + s) * affine[i];
            store<vfloat>(tile.next + c * slots + s, sum);
        }
    float* swapped = tile.z;
    tile.z = tile.next;
    tile.next = swapped;
}

// The untransformed channels go behind the context in the network's input.
static void feed_network(const ConvTile& tile) {
    const ConvSource& source = tile.conv.source;
    const ConvPlaces& places = places_of(tile, 0);
    const Image input = image_of(tile, 0);
    for (int64_t r = 0; r < places.runs; ++r)
        for (int64_t s = places.run[r].slot; s < places.run[r].slot + places.run[r].count; ++s) {
            Stored* pixel = input.at(places.place[s]) + source.context;
            for (int64_t c = source.transformed; c < source.channels; ++c)
                keep(pixel++, tile.z[c * places.slots + s]);
        }
    if (source.cyclic) wrap(input);
}

// Which numbers of two vectors make two others, when squares of `side` beside the diagonal swap places.
struct Swap {
    alignas(64) int32_t upper[kLanes<vfloat>], lower[kLanes<vfloat>];
    constexpr explicit Swap(int side) : upper(), lower() {
        for (int i = 0; i < kLanes<vfloat>; ++i) {
            upper[i] = i & side ? kLanes<vfloat> + i - side : i;
            lower[i] = i & side ? kLanes<vfloat> + i : i + side;
        }
    }
};
static constexpr Swap kSwaps[4] = {Swap(1), Swap(2), Swap(4), Swap(8)};

// As many rows as a vector has lanes, to columns.
CALORAY_INLINE void transpose_square(const float* in, int64_t in_stride, float* out, int64_t out_stride) {
    constexpr int lanes = kLanes<vfloat>;
#ifdef __clang__
    for (int row = 0; row < lanes; ++row)
        for (int column = 0; column < lanes; ++column)
            out[column * out_stride + row] = in[row * in_stride + column];
#else
    vfloat x[lanes];
#pragma GCC unroll 16
    for (int row = 0; row < lanes; ++row) x[row] = load_any<vfloat>(in + row * in_stride);
#pragma GCC unroll 4
    for (int side = 1, stage = 0; side < lanes; side *= 2, ++stage) {
        const vint upper = *reinterpret_cast<const vint*>(kSwaps[stage].upper);
        const vint lower = *reinterpret_cast<const vint*>(kSwaps[stage].lower);
#pragma GCC unroll 16
        for (int row = 0; row < lanes; ++row)
            if (!(row & side)) {
                const vfloat a = x[row], b = x[row + side];
                x[row] = __builtin_shuffle(a, b, upper);
                x[row + side] = __builtin_shuffle(a, b, lower);
            }
    }
#pragma GCC unroll 16
    for (int row = 0; row < lanes; ++row) store<vfloat>(out + row * out_stride, x[row]);
#endif
}

// Rows of pixels to rows of raw numbers; the rest of the last vector becomes 0.
static void transpose_outputs(const ConvTile& tile, int64_t count, int64_t stride) {
    constexpr int64_t lanes = kLanes<vfloat>;
    const int64_t filled = whole(count, lanes);
    for (int64_t i = count; i < filled; ++i)
        __builtin_memset(tile.outputs + i * stride, 0, size_t(stride) * sizeof(float));
    for (int64_t i = 0; i < filled; i += lanes)
        for (int64_t n = 0; n < stride; n += lanes)
            transpose_square(tile.outputs + i * stride + n, stride, tile.raw + n * kChunk + i, kChunk);
}

static void solve_splines(ConvTile& tile, const ConvLayer& layer, const Image& source) {
    const ConvPlaces& places = places_of(tile, 0);
    const int64_t transformed = tile.conv.source.transformed, numbers = 3 * tile.conv.spline.bins - 1;
    for (int64_t r = 0; r < places.runs; ++r) {
        const ConvRun& run = places.run[r];
        for (int64_t at = run.slot; at < run.slot + run.count; at += kChunk) {
            const int64_t left = run.slot + run.count - at, count = left < kChunk ? left : kChunk;
            convolve_last(tile, layer, source, run, Range{at, at + count});
            transpose_outputs(tile, count, layer.outputs);
            for (int64_t c = 0; c < transformed; ++c)
                invert<vfloat>(tile.conv.spline, tile.raw + c * numbers * kChunk, kChunk,
                               whole(count, kLanes<vfloat>) / kLanes<vfloat>, tile.z + c * places.slots + at,
                               LogDet{tile.mantissa + at, tile.exponent + at});
        }
    }
}

static void run_layer(ConvTile& tile, const ConvLayer& layer) {
    look_ahead(tile, layer);
    const Image source = image_of(tile, layer.source);
    if (layer.kind == CONV_LAST) return solve_splines(tile, layer, source);
    const Image target = image_of(tile, layer.target);
    if (layer.kind == CONV_SAME)
        convolve_same(tile, layer, source, target);
    else
        convolve_strided(tile, layer, source, target);
    if (tile.conv.source.cyclic) wrap(target);
}

static int64_t workspace(const Conv& conv, int64_t samples) {
    int64_t most = 0;
    for (int64_t t = 1; t <= samples; ++t) {
        ConvTile tile{conv, t, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, {}};
        const int64_t bytes = lay_out(tile, nullptr);
        most = bytes > most ? bytes : most;
    }
    return most;
}

static void solve_tile(const Conv& conv, const ConvBatch& batch, int64_t first, int64_t samples, char* memory) {
    const ConvSource& source = conv.source;
    ConvTile tile{conv, samples, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, {}};
    __builtin_memset(memory, 0, size_t(lay_out(tile, memory)));
    read_tile(tile, batch, first);
    const float* affine = source.affine;
    for (int64_t b = 0; b < source.blocks; ++b) {
        apply_affine(tile, affine);
        affine += source.channels * (source.channels + 1);
        feed_network(tile);
        for (int64_t l = 0; l < source.layers; ++l) run_layer(tile, source.layer[b * source.layers + l]);
    }
    apply_affine(tile, affine);
    write_tile(tile, batch, first);
}

}  // namespace CALORAY_ISA
