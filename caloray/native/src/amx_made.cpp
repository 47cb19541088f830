// The inverse of a MADE with most products in bfloat16; compiled where the compiler knows AMX.
#define CALORAY_BF16
#include "walk.h"

extern "C" void made_solve_bf16(const Made* made, const Batch* batch, int64_t first, int64_t stop, void* memory) {
    CALORAY_ISA::solve<float>(*made, *batch, first, stop, static_cast<char*>(memory));
}

extern "C" int64_t made_workspace_bf16(const Made* made, int64_t samples) {
    return CALORAY_ISA::workspace<float>(*made, samples);
}
