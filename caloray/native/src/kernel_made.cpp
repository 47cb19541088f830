// The entry points of the inverse of a MADE.
#include "walk.h"

#define MADE_DEFINE(suffix, T)                                                                               \
    extern "C" int64_t CALORAY_NAMED(made_lanes_##suffix)() {                                               \
        return CALORAY_ISA::kLanes<CALORAY_ISA::Vector<T>>;                                                  \
    }                                                                                                        \
    extern "C" int64_t CALORAY_NAMED(made_workspace_##suffix)(const Made* made, int64_t samples) {           \
        return CALORAY_ISA::workspace<T>(*made, samples);                                                    \
    }                                                                                                        \
    extern "C" void CALORAY_NAMED(made_solve_##suffix)(const Made* made, const Batch* batch, int64_t first,  \
                                                       int64_t stop, void* memory) {                         \
        CALORAY_ISA::solve<T>(*made, *batch, first, stop, static_cast<char*>(memory));                       \
    }
MADE_DEFINE(f32, float)
MADE_DEFINE(f64, double)
