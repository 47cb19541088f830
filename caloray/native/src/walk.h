// Solve a tile of samples at once (rows are dimensions or hidden units, columns are samples), or a single sample.
#pragma once
#include "single.h"
#include "product.h"
#include "spline_inverse.h"
#ifdef CALORAY_BF16
#include "bf16.h"
#endif

namespace CALORAY_ISA {

constexpr int64_t kTileVectors = 4;

#ifdef CALORAY_BF16
constexpr int64_t kSpareRows = 16;   // products write whole blocks of rows
#else
constexpr int64_t kSpareRows = 0;
struct Halves {};
#endif

// V is the vector that holds a row's next samples; a number itself for the tile of a single sample.
template <class V>
struct Tile {
    typedef Number<V> T;
    const Made& made;
    int64_t vectors, stride;
    bool conditioned;   // there is a context
    T* x;         // (features) noise, replaced by data dimension by dimension
    T* context;   // (context)
    T* units;     // (layers x (hidden + slack)) what the next layer reads; before that, the sum so far
    T* carry;     // (hidden) residual sum of the units of one step
    T* raw;       // (widest panel x parameters)
    Halves halves;   // the units again, in bfloat16
    LogDet log_det;

    T* layer(int64_t l) const { return units + l * (made.hidden + kSlack) * stride; }
};

static int64_t rounded(int64_t bytes) { return (bytes + 63) / 64 * 64; }

// Lay the tile's arrays out from `memory`; the bytes they take.
template <class V>
static int64_t lay_out(Tile<V>& tile, char* memory) {
    typedef Number<V> T;
    const Made& made = tile.made;
    char* next = memory;
    auto take = [&](int64_t rows, int64_t bytes) {
        char* start = next;
        next += rounded(((rows + kSpareRows) * tile.stride + kSlack) * bytes);
        return start;
    };
    tile.x = reinterpret_cast<T*>(take(made.features, sizeof(T)));
    tile.context = reinterpret_cast<T*>(take(made.context, sizeof(T)));
    tile.units = reinterpret_cast<T*>(take(made.layers * (made.hidden + kSlack), sizeof(T)));
    tile.carry = reinterpret_cast<T*>(take(made.residual ? made.hidden : 0, sizeof(T)));
    tile.raw = reinterpret_cast<T*>(take(made.widest_panel * made.parameters, sizeof(T)));
#ifdef CALORAY_BF16
    tile.halves.rows_of_a_layer = halved_rows(made.hidden);
    tile.halves.words = reinterpret_cast<uint32_t*>(take(made.layers * tile.halves.rows_of_a_layer, sizeof(T)));
#endif
    tile.log_det.mantissa = reinterpret_cast<double*>(take(1, sizeof(double)));
    tile.log_det.exponent = reinterpret_cast<int64_t*>(take(1, sizeof(int64_t)));
    return next - memory;
}

// Rows of samples to columns; columns beyond the samples become 0.
template <class T>
static void transpose_in(const T* rows, int64_t columns, int64_t samples, T* tile, int64_t stride) {
    for (int64_t c = 0; c < columns; ++c) {
        T* out = tile + c * stride;
        for (int64_t s = 0; s < samples; ++s) out[s] = rows[s * columns + c];
        for (int64_t s = samples; s < stride; ++s) out[s] = 0;
    }
}

template <class T>
static void transpose_out(const T* tile, int64_t stride, int64_t columns, int64_t samples, T* rows) {
    for (int64_t s = 0; s < samples; ++s)
        for (int64_t c = 0; c < columns; ++c) rows[s * columns + c] = tile[c * stride + s];
}

template <class V>
CALORAY_INLINE void rectify(Number<V>* values, int64_t count) {
    for (int64_t i = 0; i < count; i += kLanes<V>) store<V>(values + i, at_least(load<V>(values + i), Number<V>(0)));
}

// What layer l reads.
template <class V>
CALORAY_INLINE const Number<V>* inputs_of(const Tile<V>& tile, int64_t l) {
    return l == 0 ? tile.x : tile.layer(l - 1);
}

// out = bias + W in, or out += W in without a bias.
template <class V>
CALORAY_INLINE void multiply(const Tile<V>& tile, const Product& product, const Number<V>* in, Number<V>* out,
                             const Number<V>* bias) {
    if constexpr (kLanes<V> == 1)
        multiply_single(product, in, out, bias);
    else
        multiply_tile(product, in, out, tile.stride, tile.vectors, bias);
}

// The same of what is known when a panel starts, layer by layer (the first reads dimensions, the output layer is
// one more): in bfloat16 where asked for, but for the first.
template <class V>
CALORAY_INLINE void multiply_known(const Tile<V>& tile, int64_t l, const Product& product, Number<V>* out,
                                   const Number<V>* bias) {
#ifdef CALORAY_BF16
    if (l > 0) return multiply_halves(product, tile.halves, l - 1, out, tile.stride, tile.vectors, bias);
#endif
    multiply(tile, product, inputs_of(tile, l), out, bias);
}

// The context's share of the hidden units: bias + C c + e, rectified before the bias is added in the first layer.
template <class V>
static void add_context(const Tile<V>& tile) {
    typedef Number<V> T;
    const Made& made = tile.made;
    for (int64_t l = 0; l < made.layers; ++l) {
        const Layer& layer = made.layer[l];
        if (!layer.context.rows) continue;
        T* out = tile.layer(l);
        multiply(tile, layer.context, tile.context, out, static_cast<const T*>(layer.context_bias));
        if (l == 0) rectify<V>(out, made.hidden * tile.stride);
        for (int64_t u = 0; u < made.hidden; ++u)
            for (int64_t i = u * tile.stride; i < (u + 1) * tile.stride; i += kLanes<V>)
                store<V>(out + i, load<V>(out + i) + static_cast<const T*>(layer.bias)[u]);
    }
}

// Start the panel: the share of what is known by now in all its hidden units and spline parameters.
template <class V>
static void start_panel(const Tile<V>& tile, const Panel& panel) {
    typedef Number<V> T;
    const Made& made = tile.made;
    for (int64_t l = 0; l < made.layers; ++l) {
        const Layer& layer = made.layer[l];
        const bool started = tile.conditioned && layer.context.rows;
        const T* bias = started ? nullptr : static_cast<const T*>(layer.bias) + panel.units.start;
        multiply_known(tile, l, panel.hidden[l], tile.layer(l) + panel.units.start * tile.stride, bias);
    }
    const T* bias = static_cast<const T*>(made.final_bias) + panel.dims.start * made.parameters;
    multiply_known(tile, made.layers, panel.outputs, tile.raw, bias);
    if (tile.conditioned && panel.direct.rows) multiply<V>(tile, panel.direct, tile.context, tile.raw, nullptr);
}

// Turn the sum of a layer's new units into what the next layer reads.
template <class V>
static void finish_units(const Tile<V>& tile, int64_t l, Range units) {
    typedef Number<V> T;
    T* own = tile.layer(l) + units.start * tile.stride;
    const int64_t count = (units.stop - units.start) * tile.stride;
    const Made& made = tile.made;
    if (!made.residual || l % 2) return rectify<V>(own, count);
    for (int64_t i = 0; i < count; i += kLanes<V>) {
        V sum = load<V>(own + i);
        if (l) sum += load<V>(tile.carry + i);
        store<V>(tile.carry + i, sum);
        store<V>(own + i, l == made.layers - 1 ? sum : at_least(sum, T(0)));
    }
}

template <class V>
static void solve_step(const Tile<V>& tile, const Panel& panel, const Step& step) {
    typedef Number<V> T;
    const Made& made = tile.made;
    const int64_t stride = tile.stride;
    T* raw = tile.raw + (step.dims.start - panel.dims.start) * made.parameters * stride;
    const T* last = tile.layer(made.layers - 1) + panel.units.start * stride;
    multiply<V>(tile, step.outputs, last, raw, nullptr);
    for (int64_t d = step.dims.start; d < step.dims.stop; ++d, raw += made.parameters * stride)
        if constexpr (kLanes<V> == 1)
            invert_single(made.spline, raw, tile.x + d, tile.log_det);
        else
            invert<V>(made.spline, raw, stride, tile.vectors, tile.x + d * stride, tile.log_det);
    if (step.units.start == step.units.stop) return;
    for (int64_t l = 0; l < made.layers; ++l) {
        const int64_t known = l == 0 ? panel.dims.start : panel.units.start;
        multiply<V>(tile, step.hidden[l], inputs_of(tile, l) + known * stride,
                    tile.layer(l) + step.units.start * stride, nullptr);
        finish_units(tile, l, step.units);
#ifdef CALORAY_BF16
        halve(tile.layer(l), step.units, tile.stride, tile.halves, l);
#endif
    }
}

template <class T>
static void write_log_det(LogDet log_det, int64_t samples, T* out) {
    constexpr int lanes = kLanes<vdouble>;
    for (int64_t s = 0; s < samples; s += lanes) {
        const vlong exponent = *reinterpret_cast<const vlong*>(log_det.exponent + s);
        const vdouble sum = log(load<vdouble>(log_det.mantissa + s)) +
                            __builtin_convertvector(exponent, vdouble) * 0.69314718055994530942;
        for (int64_t i = 0; i < lanes && s + i < samples; ++i) out[s + i] = T(sum[i]);
    }
}

// Solve `samples` samples from `first` on, at most one tile.
template <class V>
static void solve_tile(const Made& made, const Batch& batch, int64_t first, int64_t samples, char* memory) {
    typedef Number<V> T;
    constexpr int lanes = kLanes<V>;
    const int64_t vectors = (samples + lanes - 1) / lanes;
    Tile<V> tile{made, vectors, vectors * lanes, batch.context != nullptr, {}, {}, {}, {}, {}, {}, {}};
    lay_out(tile, memory);
    transpose_in(static_cast<const T*>(batch.noise) + first * made.features, made.features, samples, tile.x,
                 tile.stride);
    if (tile.conditioned) {
        transpose_in(static_cast<const T*>(batch.context) + first * made.context, made.context, samples,
                     tile.context, tile.stride);
        add_context(tile);
    }
    for (int64_t s = 0; s < tile.stride || s < kLanes<vdouble>; ++s) {
        tile.log_det.mantissa[s] = 1;
        tile.log_det.exponent[s] = 0;
    }
#ifdef CALORAY_BF16
    clear(tile.halves, made.layers, tile.stride);
#endif
    for (int64_t p = 0; p < made.panels; ++p) {
        const Panel& panel = made.panel[p];
        start_panel(tile, panel);
        for (int64_t s = panel.steps.start; s < panel.steps.stop; ++s) solve_step(tile, panel, made.step[s]);
    }
    transpose_out(tile.x, tile.stride, made.features, samples,
                  static_cast<T*>(batch.x) + first * made.features);
    write_log_det(tile.log_det, samples, static_cast<T*>(batch.log_det) + first);
}

template <class T>
static void solve(const Made& made, const Batch& batch, int64_t first, int64_t stop, char* memory) {
#ifdef CALORAY_BF16
    const Configured configured;
#else
    if (batch.samples == 1) return solve_tile<T>(made, batch, first, 1, memory);
#endif
    const int64_t most = kTileVectors * kLanes<Vector<T>>;
    for (; first < stop; first += most)
        solve_tile<Vector<T>>(made, batch, first, stop - first < most ? stop - first : most, memory);
}

template <class T>
static int64_t workspace(const Made& made, int64_t samples) {
    constexpr int64_t lanes = kLanes<Vector<T>>;
    int64_t vectors = (samples + lanes - 1) / lanes;
    vectors = vectors < kTileVectors ? vectors : kTileVectors;
    Tile<Vector<T>> tile{made, vectors, vectors * lanes, false, {}, {}, {}, {}, {}, {}, {}};
    return lay_out(tile, nullptr);
}

}  // namespace CALORAY_ISA
