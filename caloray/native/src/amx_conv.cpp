// The inverse of a convolutional flow with its convolutions in bfloat16; compiled where the compiler knows AMX.
#define CALORAY_BF16
#include "conv_walk.h"

extern "C" int64_t conv_workspace_bf16(const Conv* conv, int64_t samples) {
    return CALORAY_ISA::workspace(*conv, samples);
}

extern "C" void conv_solve_bf16(const Conv* conv, const ConvBatch* batch, int64_t first, int64_t stop, void* memory) {
    const CALORAY_ISA::Configured configured;
    const int64_t tile = conv->source.tile;
    for (int64_t s = first; s < stop; s += tile)
        CALORAY_ISA::solve_tile(*conv, *batch, s, stop - s < tile ? stop - s : tile, static_cast<char*>(memory));
}
