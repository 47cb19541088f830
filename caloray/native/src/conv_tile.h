// What the layers of a convolutional flow work on: the images of one tile of showers.
#pragma once
#include "conv.h"
#include "vector_math.h"

namespace CALORAY_ISA {

#ifdef CALORAY_BF16
typedef uint16_t Stored;
#else
typedef float Stored;
#endif

// The weights of the layers to come, fetched while a small tile computes.
struct Ahead {
    const float *next, *stop;
};

struct ConvTile {
    const Conv& conv;
    int64_t samples;
    Stored* images;          // all of them, one after the other
    float *z, *next;         // (channels x slots) noise, turned into data block by block; and the affine map's result
    double* mantissa;        // (slots) with `exponent`: the determinant
    int64_t* exponent;
    float *outputs, *raw;    // (kChunk x raw numbers) and the reverse
    Ahead ahead;
};

static inline const ConvPlaces& places_of(const ConvTile& tile, int64_t level) {
    return conv_places(tile.conv, tile.samples, level);
}

static inline int64_t whole(int64_t count, int64_t unit) { return (count + unit - 1) / unit * unit; }

// An image, and how far apart its rows, pixels and showers are (in numbers).
struct Image {
    Stored* pixels;
    int64_t rows, columns, row_pitch, column_pitch, stride;

    // The window's first pixel is one up and one to the left of the one at `place`.
    Stored* before(int64_t place) const { return at(place) - row_pitch - column_pitch; }
    Stored* at(int64_t place) const { return pixels + place * stride; }
    Stored* at(int64_t row, int64_t column) const {
        return pixels + (row + 1) * row_pitch + (column + 1) * column_pitch;
    }
};

// Numbers that image i takes, and that all images before it take.
static inline int64_t image_numbers(const Conv& conv, int64_t samples, int64_t i) {
    const ConvImage& image = conv.source.image[i];
    const int64_t pixels = (conv_rows(conv, image.level) + 2) * (conv_columns(conv, image.level) + 2);
    // Behind it, registers of 16 pixels may be read.
    return pixels * samples * image.stride + kChannels * image.stride;
}

static inline Image image_of(const ConvTile& tile, int64_t i) {
    int64_t start = 0;
    for (int64_t before = 0; before < i; ++before) start += image_numbers(tile.conv, tile.samples, before);
    const ConvImage& image = tile.conv.source.image[i];
    const int64_t columns = conv_columns(tile.conv, image.level), pitch = tile.samples * image.stride;
    return Image{tile.images + start, conv_rows(tile.conv, image.level), columns, (columns + 2) * pitch, pitch,
                 image.stride};
}

// Outside of the first and last column lies the other one.
static inline void wrap(const Image& image) {
    const size_t bytes = size_t(image.column_pitch) * sizeof(Stored);
    for (int64_t row = 0; row < image.rows; ++row) {
        __builtin_memcpy(image.at(row, -1), image.at(row, image.columns - 1), bytes);
        __builtin_memcpy(image.at(row, image.columns), image.at(row, 0), bytes);
    }
}

}  // namespace CALORAY_ISA
