// Prepare the inverse of a convolutional flow, and solve batches of showers on several threads.
#include "conv.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>

namespace {

constexpr int64_t kAlignment = 64;

// Tiles of fewer showers than this have too few pixels at the image's sides to take them apart.
constexpr int64_t kShowersPerSide = 4;

int64_t whole(int64_t count, int64_t unit) { return (count + unit - 1) / unit * unit; }

// Rows or columns that see the same part of the window.
struct Band {
    Range pixels, window;
};

// Into `band` (room for three); how many. `apart`: whether the first and the last miss a part of the window.
int64_t bands(int64_t size, bool apart, Band* band) {
    if (!apart) {
        band[0] = {{0, size}, {0, 3}};
        return 1;
    }
    if (size == 1) {
        band[0] = {{0, 1}, {1, 2}};
        return 1;
    }
    int64_t count = 0;
    band[count++] = {{0, 1}, {1, 3}};
    if (size > 2) band[count++] = {{1, size - 1}, {0, 3}};
    band[count++] = {{size - 1, size}, {0, 2}};
    return count;
}

struct Placer {
    int64_t samples, columns, all_columns;
    ConvPlaces places;

    void add(const Band& rows, const Band& across) {
        ConvRun& run = places.run[places.runs++];
        run = ConvRun{places.slots, 0, rows.window, across.window};
        for (int64_t y = rows.pixels.start; y < rows.pixels.stop; ++y)
            for (int64_t x = across.pixels.start; x < across.pixels.stop; ++x)
                for (int64_t t = 0; t < samples; ++t, ++run.count) {
                    const int64_t slot = run.slot + run.count;
                    places.place[slot] = int32_t(((y + 1) * all_columns + x + 1) * samples + t);
                    places.slot[(y * columns + x) * samples + t] = int32_t(slot);
                }
        places.slots = whole(run.slot + run.count, kChannels);
    }
};

// False where there is no memory.
bool place(const ConvSource& source, int64_t samples, int64_t rows, int64_t columns, ConvPlaces& out) {
    const bool sides = !source.cyclic && (source.bf16 ? samples % kChannels == 0 : samples >= kShowersPerSide);
    Band across[3];
    const int64_t parts = bands(columns, sides, across);
    const int64_t most_runs = rows * parts, numbers = rows * columns * samples;
    Placer placer{samples, columns, columns + 2, {0, 0, nullptr, nullptr, nullptr}};
    ConvPlaces& places = placer.places;
    places.run = static_cast<ConvRun*>(calloc(size_t(most_runs), sizeof(ConvRun)));
    places.place = static_cast<int32_t*>(calloc(size_t(numbers + most_runs * kChannels), sizeof(int32_t)));
    places.slot = static_cast<int32_t*>(calloc(size_t(numbers), sizeof(int32_t)));
    out = places;
    if (!places.run || !places.place || !places.slot) return false;
    Band down[3];
    const int64_t heights = bands(rows, true, down);
    for (int64_t h = 0; h < heights; ++h) {
        // Registers of bfloat16 take neighbours only: row by row.
        const int64_t step = source.bf16 ? 1 : down[h].pixels.stop - down[h].pixels.start;
        for (int64_t y = down[h].pixels.start; y < down[h].pixels.stop; y += step)
            for (int64_t p = 0; p < parts; ++p) placer.add(Band{{y, y + step}, down[h].window}, across[p]);
    }
    out = places;
    return true;
}

struct Job {
    const Conv* conv;
    const ConvBatch* batch;
    int64_t first, stop;
    void* workspace;
    pthread_t thread;
    bool running;
};

void* work(void* argument) {
    const Job& job = *static_cast<const Job*>(argument);
#ifdef CALORAY_AMX
    if (job.conv->source.bf16) {
        conv_solve_bf16(job.conv, job.batch, job.first, job.stop, job.workspace);
        return nullptr;
    }
#endif
    CALORAY_SELECT(conv_solve, job.conv->source.isa)(job.conv, job.batch, job.first, job.stop, job.workspace);
    return nullptr;
}

int64_t workspace(const Conv* conv, int64_t samples) {
#ifdef CALORAY_AMX
    if (conv->source.bf16) return conv_workspace_bf16(conv, samples);
#endif
    return CALORAY_SELECT(conv_workspace, conv->source.isa)(conv, samples);
}

}  // namespace

CALORAY_EXPORT void conv_free(Conv* conv) {
    if (!conv) return;
    for (int64_t i = 0; conv->places && i < conv->source.tile * conv->source.levels; ++i) {
        free(conv->places[i].run);
        free(conv->places[i].place);
        free(conv->places[i].slot);
    }
    free(conv->places);
    free(conv);
}

// The arrays that the source points to must outlive the result; null where there is no memory.
CALORAY_EXPORT Conv* conv_create(const ConvSource* source) {
    Conv* conv = static_cast<Conv*>(calloc(1, sizeof(Conv)));
    if (!conv) return nullptr;
    conv->source = *source;
    conv->spline = Spline{source->bins,       source->bound,     source->min_width,
                          source->min_height, source->min_slope, log(expm1(1 - source->min_slope))};
    conv->places = static_cast<ConvPlaces*>(calloc(size_t(source->tile * source->levels), sizeof(ConvPlaces)));
    for (int64_t i = 0; i < source->tile * source->levels; ++i) {
        const int64_t level = i % source->levels;
        if (conv->places && place(*source, i / source->levels + 1, conv_rows(*conv, level),
                                  conv_columns(*conv, level), conv->places[i]))
            continue;
        conv_free(conv);
        return nullptr;
    }
    return conv;
}

// Solve a batch on at most `threads` threads; 0, or 1 where there is no memory. A shower's result depends neither
// on the number of threads nor on the other showers.
CALORAY_EXPORT int32_t conv_inverse(const Conv* conv, const float* noise, const float* planes, float* x,
                                    float* log_det, int64_t samples, int64_t threads) {
    if (samples <= 0) return 0;
    const int64_t tile = conv->source.tile, limit = threads < samples ? threads : samples;
    const int64_t parts = limit < 1 ? 1 : limit;
    const int64_t most = (samples + parts - 1) / parts;
    const int64_t bytes = whole(workspace(conv, most < tile ? most : tile), kAlignment);
    void* memory = nullptr;
    if (posix_memalign(&memory, kAlignment, size_t(parts * (bytes + whole(sizeof(Job), kAlignment))))) return 1;
    const ConvBatch batch{noise, planes, x, log_det};
    Job* jobs = reinterpret_cast<Job*>(static_cast<char*>(memory) + parts * bytes);
    for (int64_t i = parts - 1; i >= 0; --i) {
        jobs[i] = Job{conv, &batch, samples * i / parts, samples * (i + 1) / parts,
                      static_cast<char*>(memory) + i * bytes, {}, false};
        jobs[i].running = i > 0 && pthread_create(&jobs[i].thread, nullptr, work, &jobs[i]) == 0;
        if (!jobs[i].running) work(&jobs[i]);
    }
    for (int64_t i = 1; i < parts; ++i)
        if (jobs[i].running) pthread_join(jobs[i].thread, nullptr);
    free(memory);
    return 0;
}
