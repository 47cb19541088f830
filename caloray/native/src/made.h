// The inverse of a MADE with splines: its weights packed in the order of use, and the kernels' entry points.
//
// The walk (caloray/flows/schedule.py) solves a step's dimensions, then computes the hidden units that become
// known. Steps are taken together in panels. At the start of a panel the share of everything known by then is
// added up for all its hidden units and spline parameters at once, in large products; inside the panel each step
// only adds the share of the few units since.
#pragma once
#include "isa.h"

// A product's rows come in blocks: `weights` holds, block after block, the weights [input][row of the block].
constexpr int64_t kBlock = 24;

// Room that a block of this many rows takes; the rows beyond are zeros.
static inline int64_t padded_rows(int64_t rows) { return rows < 3 ? rows : (rows + 3) / 4 * 4; }

// Numbers that a kernel may write (unchanged values) or read behind the rows of a product.
constexpr int64_t kSlack = 16;

// In bfloat16, blocks are [row][input] of this size instead (bf16.h).
constexpr int64_t kBf16Rows = 16, kBf16Inputs = 32;

struct Product {
    const void* weights;
    int64_t rows, inputs;
};

struct Range {
    int64_t start, stop;
};

struct Step {
    Range dims, units;
    Product outputs;         // (dims x parameters) x hidden units since the panel's start
    const Product* hidden;   // per layer: units x inputs since the panel's start
};

struct Panel {
    Range dims, units, steps;
    Product outputs;         // (dims x parameters) x hidden units known at the start
    Product direct;          // (dims x parameters) x context, without rows where the context does not enter
    const Product* hidden;   // per layer: units x inputs known at the start
};

struct Spline {
    int64_t bins;
    double bound, min_width, min_height, min_slope;
    double unit_slope;           // raw slope of 1: softplus(unit_slope) + min_slope = 1
};

struct Layer {
    Product context;             // without rows where the context does not enter
    const void* context_bias;
    const void* bias;
};

struct Made {
    int32_t isa, bytes;          // bytes of a number: 4 or 8
    int32_t residual, bf16;      // bf16: products with the units known when a panel starts
    int64_t features, hidden, context, layers, parameters;   // parameters: per dimension, 3 bins - 1
    int64_t panels, widest_panel;                            // the widest in dimensions
    const Layer* layer;
    const Panel* panel;
    const Step* step;
    const void* final_bias;      // (dims x parameters)
    Spline spline;
    void* memory;                // all weights
    void* plan;                  // steps and panels
    int64_t packed_bytes;
};

// One call: rows of noise, context and x are samples; `context` may be null.
struct Batch {
    const void* noise;
    const void* context;
    void* x;
    void* log_det;
    int64_t samples;
};

// Samples per vector; bytes of workspace for tiles of at most so many samples; solve samples [first, stop).
#define MADE_KERNELS(suffix)                                                                   \
    CALORAY_DECLARE(int64_t, made_lanes_##suffix, ())                                          \
    CALORAY_DECLARE(int64_t, made_workspace_##suffix, (const Made* made, int64_t samples))     \
    CALORAY_DECLARE(void, made_solve_##suffix,                                                 \
                    (const Made* made, const Batch* batch, int64_t first, int64_t stop, void* workspace))
MADE_KERNELS(f32)
MADE_KERNELS(f64)
#ifdef CALORAY_AMX
extern "C" void made_solve_bf16(const Made* made, const Batch* batch, int64_t first, int64_t stop, void* workspace);
extern "C" int64_t made_workspace_bf16(const Made* made, int64_t samples);
#endif
