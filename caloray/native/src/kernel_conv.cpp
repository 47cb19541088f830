// The entry points of the inverse of a convolutional flow, and of the embedding of its context.
#include "conv_embed.h"

extern "C" int64_t CALORAY_NAMED(conv_workspace)(const Conv* conv, int64_t samples) {
    return CALORAY_ISA::workspace(*conv, samples);
}

extern "C" void CALORAY_NAMED(conv_solve)(const Conv* conv, const ConvBatch* batch, int64_t first, int64_t stop,
                                          void* memory) {
    const int64_t tile = conv->source.tile;
    const auto run = conv->source.previous ? CALORAY_ISA::embed_tile : CALORAY_ISA::solve_tile;
    for (int64_t s = first; s < stop; s += tile)
        run(*conv, *batch, s, stop - s < tile ? stop - s : tile, static_cast<char*>(memory));
}
