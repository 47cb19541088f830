// The inverse of a convolutional coupling flow as a list of layers over a few images; and the kernels' entry points.
//
// Showers are taken in tiles of a few. An image keeps a tile's showers side by side, [row][column][shower][channel],
// with one pixel more on each side, so that all showers of a pixel are neighbours and windows need no tests. The
// lists of caloray/flows/conv/native_program.py say which layer reads and writes which image.
#pragma once
#include <stddef.h>

#include "isa.h"
#include "made.h"

// Output channels come in groups of two blocks of 16 (the last may be one): `weights` holds, group after group,
// [window row][window column][input][output of the group].
constexpr int64_t kChannels = 16, kGroup = 32;

// In bfloat16: [block of outputs][window row][window column][step of 32 inputs][pair of inputs][output][2].
constexpr int64_t kStep = 32;

// Entries of the noise that are solved together: whole vectors, whatever the instruction set.
constexpr int64_t kChunk = 64;

enum ConvKind : int64_t {
    CONV_SAME = 0,   // 3x3 around each pixel
    CONV_DOWN = 1,   // window = stride
    CONV_UP = 2,     // its transpose: [window row][window column] outermost in the weights
    CONV_LAST = 3    // as CONV_SAME, to the raw numbers of the splines, which are then inverted
};

struct ConvImage {
    int64_t level, stride;           // numbers per pixel and shower
};

struct ConvLayer {
    int64_t kind, source, target, inputs, outputs, offset;   // offset: first channel in the target
    int64_t rows, columns, leaky;                            // of the window; whether a LeakyReLU follows
    const void* weights;
    const float* bias;               // whole blocks of outputs
};

// What Python passes and keeps; the first image is the networks' input.
struct ConvSource {
    int32_t isa, bf16, cyclic, unused;
    int64_t channels, transformed, context, blocks, levels, images, layers, tile;   // layers of a block
    const int64_t* level;            // rows and columns of each
    const ConvImage* image;
    const ConvLayer* layer;          // (blocks x layers)
    const void* weights_end;         // the layers' weights follow each other in memory
    const float* affine;             // (blocks + 1) x (channels x channels + channels), in the order of use
    const int64_t* order;            // (channels x pixels): where each number belongs in a shower
    double log_det, slope;           // of all affine maps together; of the LeakyReLU
    int64_t previous, scalars;       // of an embedding (conv_embed.h), else 0
    int64_t bins;
    double bound, min_width, min_height, min_slope;
};

// Pixels that see the same part of the window; the rest lies outside of the image.
struct ConvRun {
    int64_t slot, count;             // the first of them in the list, which is padded to blocks of 16
    Range rows, columns;             // of the window
};

// The places of a level's pixels, for a tile of so many showers: number of the pixel (of all pixels, with those
// around the image) times showers plus shower.
struct ConvPlaces {
    int64_t runs, slots;
    ConvRun* run;
    int32_t* place;
    int32_t* slot;                   // of each (pixel, shower), in the order of rows
};

struct Conv {
    ConvSource source;
    Spline spline;
    ConvPlaces* places;              // ((tile) x levels)
};

struct ConvBatch {
    const float *noise, *planes;     // (batch, channels x pixels), (batch, context x pixels)
    float *x, *log_det;              // an embedding makes planes here from what is given as noise
};

static inline int64_t conv_rows(const Conv& conv, int64_t level) { return conv.source.level[2 * level]; }
static inline int64_t conv_columns(const Conv& conv, int64_t level) { return conv.source.level[2 * level + 1]; }
static inline const ConvPlaces& conv_places(const Conv& conv, int64_t samples, int64_t level) {
    return conv.places[(samples - 1) * conv.source.levels + level];
}

// Bytes of workspace for tiles of at most so many showers; solve showers [first, stop).
CALORAY_DECLARE(int64_t, conv_workspace, (const Conv* conv, int64_t samples))
CALORAY_DECLARE(void, conv_solve,
                (const Conv* conv, const ConvBatch* batch, int64_t first, int64_t stop, void* workspace))
#ifdef CALORAY_AMX
extern "C" int64_t conv_workspace_bf16(const Conv* conv, int64_t samples);
extern "C" void conv_solve_bf16(const Conv* conv, const ConvBatch* batch, int64_t first, int64_t stop,
                                void* workspace);
#endif
