// Pack the weights of a MADE, and solve batches of samples on several threads.
#include "made.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

namespace {

// A panel takes steps until it has so many hidden units, or so many spline parameters: its products should be
// large, its part of the tile small.
constexpr int64_t kPanelUnits = 24, kPanelParameters = 384;

// Work (weights x vectors) below which a further thread costs more than it gains.
constexpr int64_t kWorkPerThread = 2000000;

constexpr int64_t kAlignment = 64;

}  // namespace

// What Python passes; all arrays contiguous and of one type.
struct LayerSource {
    const void *weight, *bias, *context_weight, *context_bias;   // the last two may be null
};

struct Source {
    int32_t isa, bytes, residual, layers, bf16, unused;
    int64_t features, hidden, context, direct_features, steps;
    const LayerSource* layer;
    const void *final_weight, *final_bias, *direct_weight;       // the last may be null
    const int64_t* step;                                         // dims start, stop; units start, stop
    int64_t bins;
    double bound, min_width, min_height, min_slope;
};

namespace {

int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
int64_t size_of(Range range) { return range.stop - range.start; }
int64_t aligned(int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

int64_t packed_numbers(int64_t rows, int64_t inputs) {
    const int64_t whole = rows / kBlock, rest = rows % kBlock;
    return (whole * kBlock + padded_rows(rest)) * inputs;
}

// Hands out consecutive pieces of memory; without memory it only counts.
struct Arena {
    char* memory;
    int64_t used;

    template <class T>
    T* take(int64_t count) {
        char* piece = memory ? memory + used : nullptr;
        used += aligned(count * int64_t(sizeof(T)));
        return reinterpret_cast<T*>(piece);
    }
};

// Steps as the kernels take them: those with many dimensions in several parts, the last of which has the units.
// A step may have no dimensions: its units see the context only.
int64_t split_steps(const Source& source, int64_t parameters, Step* out) {
    const int64_t most = larger(1, kPanelParameters / parameters);
    int64_t count = 0;
    for (int64_t s = 0; s < source.steps; ++s) {
        const int64_t* row = source.step + 4 * s;
        int64_t d = row[0];
        do {
            const int64_t stop = smaller(d + most, row[1]);
            if (out) out[count] = Step{{d, stop}, {row[2], stop == row[1] ? row[3] : row[2]}, {}, nullptr};
            ++count;
            d = stop;
        } while (d < row[1]);
    }
    return count;
}

// The panel that starts with step `first`.
Panel panel_from(const Step* step, int64_t first, int64_t steps, int64_t parameters) {
    int64_t last = first;
    while (last + 1 < steps && step[last + 1].units.stop - step[first].units.start <= kPanelUnits &&
           (step[last + 1].dims.stop - step[first].dims.start) * parameters <= kPanelParameters)
        ++last;
    return Panel{{step[first].dims.start, step[last].dims.stop},
                 {step[first].units.start, step[last].units.stop},
                 {first, last + 1},
                 {},
                 {},
                 nullptr};
}

// Packs everything in the order of use; run once to count the memory and once to fill it.
template <class T>
struct Packer {
    const Source& source;
    Made& made;
    Arena arena;

    bool filling() const { return arena.memory != nullptr; }

    // row(r) is the first weight of row r
    template <class Row>
    Product product(int64_t rows, int64_t inputs, Row row) {
        if (rows <= 0 || inputs <= 0) return Product{nullptr, larger(rows, 0), 0};
        T* out = arena.take<T>(packed_numbers(rows, inputs));
        const Product result{out, rows, inputs};
        for (int64_t first = 0; filling() && first < rows; first += kBlock) {
            const int64_t own = smaller(kBlock, rows - first), width = padded_rows(own);
            for (int64_t r = 0; r < own; ++r) {
                const T* weights = row(first + r);
                for (int64_t k = 0; k < inputs; ++k) out[k * width + r] = weights[k];
            }
            out += width * inputs;
        }
        return result;
    }

    // The same in bfloat16, rounded to the nearest, ties to even.
    template <class Row>
    Product halved(int64_t rows, int64_t inputs, Row row) {
        if (rows <= 0 || inputs <= 0) return Product{nullptr, larger(rows, 0), 0};
        const int64_t blocks = (rows + kBf16Rows - 1) / kBf16Rows, steps = (inputs + kBf16Inputs - 1) / kBf16Inputs;
        uint16_t* out = arena.take<uint16_t>(blocks * steps * kBf16Rows * kBf16Inputs);
        for (int64_t r = 0; filling() && r < rows; ++r) {
            const T* weights = row(r);
            for (int64_t k = 0; k < inputs; ++k) {
                const int64_t block = r / kBf16Rows * steps + k / kBf16Inputs;
                out[(block * kBf16Rows + r % kBf16Rows) * kBf16Inputs + k % kBf16Inputs] = rounded(float(weights[k]));
            }
        }
        return Product{out, rows, inputs};
    }

    static uint16_t rounded(float value) {
        uint32_t bits;
        memcpy(&bits, &value, sizeof bits);
        if (value != value) return uint16_t(bits >> 16 | 0x40);
        return uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
    }

    // Rows (dimension, parameter) of an array (parameter, dimension, input).
    Product parameters_of(const void* weight, Range dims, int64_t all_dims, int64_t all_inputs, Range inputs,
                          bool bf16 = false) {
        const T* from = static_cast<const T*>(weight);
        const int64_t n = made.parameters;
        const auto row = [=](int64_t r) {
            return from + ((r % n) * all_dims + dims.start + r / n) * all_inputs + inputs.start;
        };
        const int64_t rows = size_of(dims) * n;
        return bf16 ? halved(rows, size_of(inputs), row) : product(rows, size_of(inputs), row);
    }

    Product units_of(int64_t l, Range units, Range inputs, bool bf16) {
        const T* from = static_cast<const T*>(source.layer[l].weight);
        const int64_t columns = l == 0 ? made.features : made.hidden;
        const auto row = [=](int64_t r) { return from + (units.start + r) * columns + inputs.start; };
        return bf16 ? halved(size_of(units), size_of(inputs), row) : product(size_of(units), size_of(inputs), row);
    }

    // Hidden units of all layers; inputs are dimensions in the first layer and hidden units above.
    const Product* hidden(Range units, Range dims, Range below, bool bf16) {
        Product* out = arena.take<Product>(made.layers);
        for (int64_t l = 0; l < made.layers; ++l) {
            const Product packed = units_of(l, units, l == 0 ? dims : below, bf16 && l > 0);
            if (filling()) out[l] = packed;
        }
        return out;
    }

    const T* copied(const void* values, int64_t count) {
        T* out = arena.take<T>(count + kSlack);
        if (filling()) memcpy(out, values, size_t(count) * sizeof(T));
        return out;
    }

    void layers() {
        Layer* out = arena.take<Layer>(made.layers);
        for (int64_t l = 0; l < made.layers; ++l) {
            const LayerSource& from = source.layer[l];
            Layer layer{};
            layer.bias = copied(from.bias, made.hidden);
            if (from.context_weight) {
                const T* weight = static_cast<const T*>(from.context_weight);
                layer.context_bias = copied(from.context_bias, made.hidden);
                layer.context = product(made.hidden, made.context,
                                        [=](int64_t r) { return weight + r * made.context; });
            }
            if (filling()) out[l] = layer;
        }
        made.layer = out;
    }

    void panel(Panel& out, Step* step) {
        out.hidden = hidden(out.units, {0, out.dims.start}, {0, out.units.start}, made.bf16);
        out.outputs = parameters_of(source.final_weight, out.dims, made.features, made.hidden,
                                    {0, out.units.start}, made.bf16);
        if (source.direct_weight && out.dims.start < source.direct_features) {
            const Range dims{out.dims.start, smaller(out.dims.stop, source.direct_features)};
            out.direct = parameters_of(source.direct_weight, dims, source.direct_features, made.context,
                                       {0, made.context});
        }
        for (int64_t s = out.steps.start; s < out.steps.stop; ++s) {
            step[s].outputs = parameters_of(source.final_weight, step[s].dims, made.features, made.hidden,
                                            {out.units.start, step[s].units.start});
            step[s].hidden = hidden(step[s].units, {out.dims.start, step[s].dims.stop},
                                    {out.units.start, step[s].units.stop}, false);
        }
    }

    // The plan is made in both runs, in `step` and `panel` at first in scratch memory of the caller.
    void all(Step* step, int64_t steps, Panel* panels) {
        layers();
        T* bias = arena.take<T>(made.features * made.parameters + kSlack);
        for (int64_t i = 0; filling() && i < made.features * made.parameters; ++i)
            bias[i] = static_cast<const T*>(
                source.final_bias)[(i % made.parameters) * made.features + i / made.parameters];
        made.final_bias = bias;
        made.panels = made.widest_panel = 0;
        for (int64_t first = 0; first < steps;) {
            Panel& next = panels[made.panels++] = panel_from(step, first, steps, made.parameters);
            panel(next, step);
            made.widest_panel = larger(made.widest_panel, size_of(next.dims));
            first = next.steps.stop;
        }
        made.packed_bytes = arena.used;
    }
};

template <class T>
bool pack(const Source& source, Made& made) {
    const int64_t steps = split_steps(source, made.parameters, nullptr);
    made.plan = calloc(size_t(steps), sizeof(Step) + sizeof(Panel));
    if (!made.plan) return false;
    Step* step = static_cast<Step*>(made.plan);
    Panel* panel = reinterpret_cast<Panel*>(step + steps);
    split_steps(source, made.parameters, step);
    Packer<T> counting{source, made, {nullptr, 0}};
    counting.all(step, steps, panel);
    const size_t bytes = size_t(counting.arena.used);
    if (posix_memalign(&made.memory, kAlignment, bytes)) return false;
    memset(made.memory, 0, bytes);
    Packer<T> filling{source, made, {static_cast<char*>(made.memory), 0}};
    filling.all(step, steps, panel);
    made.step = step;
    made.panel = panel;
    return true;
}

struct Job {
    const Made* made;
    const Batch* batch;
    int64_t first, stop;
    void* workspace;
    pthread_t thread;
    bool running;
};

void* work(void* argument) {
    const Job& job = *static_cast<const Job*>(argument);
    const int32_t isa = job.made->isa;
#ifdef CALORAY_AMX
    if (job.made->bf16) {
        made_solve_bf16(job.made, job.batch, job.first, job.stop, job.workspace);
        return nullptr;
    }
#endif
    if (job.made->bytes == 4)
        CALORAY_SELECT(made_solve_f32, isa)(job.made, job.batch, job.first, job.stop, job.workspace);
    else
        CALORAY_SELECT(made_solve_f64, isa)(job.made, job.batch, job.first, job.stop, job.workspace);
    return nullptr;
}

int64_t workspace(const Made* made, int64_t samples) {
#ifdef CALORAY_AMX
    if (made->bf16) return made_workspace_bf16(made, samples);
#endif
    return made->bytes == 4 ? CALORAY_SELECT(made_workspace_f32, made->isa)(made, samples)
                            : CALORAY_SELECT(made_workspace_f64, made->isa)(made, samples);
}

}  // namespace

CALORAY_EXPORT void made_free(Made* made) {
    if (!made) return;
    free(made->memory);
    free(made->plan);
    free(made);
}

// Null where there is no memory.
CALORAY_EXPORT Made* made_create(const Source* source) {
    Made* made = static_cast<Made*>(calloc(1, sizeof(Made)));
    if (!made) return nullptr;
    made->isa = source->isa;
    made->bytes = source->bytes;
    made->residual = source->residual;
    made->bf16 = source->bf16;
    made->layers = source->layers;
    made->features = source->features;
    made->hidden = source->hidden;
    made->context = source->context;
    made->parameters = 3 * source->bins - 1;
    made->spline = Spline{source->bins,       source->bound,     source->min_width,
                          source->min_height, source->min_slope, log(expm1(1 - source->min_slope))};
    if (source->bytes == 4 ? pack<float>(*source, *made) : pack<double>(*source, *made)) return made;
    made_free(made);
    return nullptr;
}

CALORAY_EXPORT int64_t made_packed_bytes(const Made* made) { return made->packed_bytes; }

// Solve a batch on at most `threads` threads; 0, or 1 where there is no memory. A sample's result depends neither
// on the number of threads nor on the other samples.
CALORAY_EXPORT int32_t made_inverse(const Made* made, const void* noise, const void* context, void* x, void* log_det,
                                    int64_t samples, int64_t threads) {
    if (samples <= 0) return 0;
    const bool single = made->bytes == 4;
    const int32_t isa = made->isa;
    const int64_t lanes = single ? CALORAY_SELECT(made_lanes_f32, isa)() : CALORAY_SELECT(made_lanes_f64, isa)();
    const int64_t vectors = (samples + lanes - 1) / lanes;
    const int64_t worth = made->packed_bytes / made->bytes * vectors / kWorkPerThread;
    const int64_t parts = larger(1, smaller(smaller(threads, vectors), worth));
    const int64_t most = smaller((vectors + parts - 1) / parts * lanes, samples);
    const int64_t bytes = aligned(workspace(made, most));
    void* memory = nullptr;
    if (posix_memalign(&memory, kAlignment, size_t(parts * (bytes + aligned(sizeof(Job)))))) return 1;
    const Batch batch{noise, context, x, log_det, samples};
    Job* jobs = reinterpret_cast<Job*>(static_cast<char*>(memory) + parts * bytes);
    for (int64_t i = parts - 1; i >= 0; --i) {
        const int64_t first = vectors * i / parts * lanes, stop = smaller(vectors * (i + 1) / parts * lanes, samples);
        jobs[i] = Job{made, &batch, first, stop, static_cast<char*>(memory) + i * bytes, {}, false};
        jobs[i].running = i > 0 && pthread_create(&jobs[i].thread, nullptr, work, &jobs[i]) == 0;
        if (!jobs[i].running) work(&jobs[i]);
    }
    for (int64_t i = 1; i < parts; ++i)
        if (jobs[i].running) pthread_join(jobs[i].thread, nullptr);
    free(memory);
    return 0;
}
