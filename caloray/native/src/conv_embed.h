// The embedding of a layer flow's context: previous layers and scalars to planes, by the same layers over images.
//
// Level 0 is the planes' and level 1 the layers' resolution; images 0 and 1 are the planes and, to begin with, the
// previous layers with the scalars behind them, the same in all pixels. `order` has each pixel's place in a layer.
#pragma once
#include "conv_walk.h"

namespace CALORAY_ISA {

static void read_context(const ConvTile& tile, const float* context) {
    const ConvSource& source = tile.conv.source;
    const ConvPlaces& places = places_of(tile, 1);
    const Image layers = image_of(tile, 1);
    const int64_t t = tile.samples, pixels = layers.rows * layers.columns;
    for (int64_t shower = 0; shower < t; ++shower) {
        const float* scalars = context + source.previous * pixels;
        for (int64_t p = 0; p < pixels; ++p) {
            Stored* pixel = layers.at(places.place[places.slot[p * t + shower]]);
            for (int64_t c = 0; c < source.previous; ++c) keep(pixel++, context[c * pixels + source.order[p]]);
            for (int64_t c = 0; c < source.scalars; ++c) keep(pixel++, scalars[c]);
        }
        context = scalars + source.scalars;
    }
}

static void write_planes(const ConvTile& tile, float* planes) {
    const ConvPlaces& places = places_of(tile, 0);
    const Image image = image_of(tile, 0);
    const int64_t t = tile.samples, pixels = image.rows * image.columns;
    for (int64_t shower = 0; shower < t; ++shower)
        for (int64_t c = 0; c < tile.conv.source.context; ++c)
            for (int64_t p = 0; p < pixels; ++p)
                *planes++ = image.at(places.place[places.slot[p * t + shower]])[c];
}

static void embed_tile(const Conv& conv, const ConvBatch& batch, int64_t first, int64_t samples, char* memory) {
    const ConvSource& source = conv.source;
    ConvTile tile{conv, samples, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, {}};
    __builtin_memset(memory, 0, size_t(lay_out(tile, memory)));
    const int64_t numbers = source.previous * conv_rows(conv, 1) * conv_columns(conv, 1) + source.scalars;
    read_context(tile, batch.noise + first * numbers);
    for (int64_t l = 0; l < source.layers; ++l) run_layer(tile, source.layer[l]);
    write_planes(tile, batch.x + first * source.context * conv_rows(conv, 0) * conv_columns(conv, 0));
}

}  // namespace CALORAY_ISA
