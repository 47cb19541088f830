// The forward spline of training and its backward, for one instruction set. Rows are samples; lanes run over
// features, which are contiguous in raw (rows, 3K - 1, features), so nothing is gathered: an element's bin is
// found by comparing with one knot after the other and keeping what belongs to the last knot passed. Backward
// keeps nothing of forward, it computes it again.
//
// The map is that of caloray/flows/spline.py (Durkan et al. 2019, section 3.1), whose names are used here:
// with theta = (x - left) / width, s = height / width, t = theta (1 - theta),
//     y = bottom + height beta / den,   beta = s theta^2 + slope0 t,   den = s + (slope0 + slope1 - 2 s) t,
//     dy/dx = s^2 q / den^2,            q = slope1 theta^2 + 2 s t + slope0 (1 - theta)^2.
// An edge is a multiple of the smallest size plus `unit` times a running sum of exponentials, counted from
// the interval's lower end.
#include "spline_train.h"
#include "vector_math.h"

namespace CALORAY_ISA {
namespace {

constexpr int MAX_BINS = 256;
constexpr int MAX_RAW = 3 * MAX_BINS - 1;

// SplineShape in the kernel's precision: smallest sizes of bins, and lengths that the softmaxes share out.
template <class T>
struct Shape {
    int bins;
    int64_t features;
    T bound, min_width, rest_width, min_height, rest_height, min_slope;

    explicit Shape(const SplineShape& s)
        : bins(s.bins), features(s.features), bound(T(s.tail_bound)),
          min_width(T(2 * s.tail_bound * s.min_width)),
          rest_width(T(2 * s.tail_bound * (1 - s.min_width * s.bins))),
          min_height(T(2 * s.tail_bound * s.min_height)),
          rest_height(T(2 * s.tail_bound * (1 - s.min_height * s.bins))), min_slope(T(s.min_derivative)) {}
};

// The parameters of one vector of features: parameter p stands at `first + p * stride`.
template <class V>
struct Column {
    const Number<V>* first;
    int64_t stride;

    V operator[](int parameter) const { return load_any<V>(first + parameter * stride); }
};

// A sum that carries its rounding error along (Kahan), so that 256 bins are added as exactly as 8.
template <class V>
struct RunningSum {
    V value = {}, lost = {};

    void add(V term) {
        const V corrected = term - lost;
        const V next = value + corrected;
        lost = (next - value) - corrected;
        value = next;
    }
};

// exp(logit - largest logit) of all bins, and one over their sum.
template <class V, int Bins>
struct Exponentials {
    V of[Bins ? Bins : MAX_BINS];
    V per_total;

    Exponentials(Column<V> raw, int first, int bins) {
        V largest = raw[first];
        for (int b = 1; b < bins; ++b) {
            const V logit = raw[first + b];
            largest = logit > largest ? logit : largest;
        }
        RunningSum<V> total;
        for (int b = 0; b < bins; ++b) total.add(of[b] = exp_nonpositive(raw[first + b] - largest));
        per_total = Number<V>(1) / total.value;
    }
};

// What every lane has found: its bin's number, the exponentials below and at it, and its raw slopes.
template <class V>
struct Bin {
    V number, below_width, lost_width, at_width, below_height, at_height, raw0, raw1;
};

template <class V, int Bins>
CALORAY_INLINE Bin<V> locate(V distance, Column<V> raw, const Exponentials<V, Bins>& widths,
                             const Exponentials<V, Bins>& heights, const Shape<Number<V>>& shape) {
    const int bins = Bins ? Bins : shape.bins;
    const V unit = shape.rest_width * widths.per_total;
    RunningSum<V> width, height;
    V before = raw[2 * bins];
    Bin<V> bin = {{}, {}, {}, widths.of[0], {}, heights.of[0], before, before};
    for (int b = 1; b < bins; ++b) {
        width.add(widths.of[b - 1]);
        height.add(heights.of[b - 1]);
        const V edge = shape.min_width * Number<V>(b) + unit * width.value;
        const V after = b < bins - 1 ? raw[2 * bins + b] : before;
        const auto passed = distance >= edge;
        bin.number = passed ? splat<V>(b) : bin.number;
        bin.below_width = passed ? width.value : bin.below_width;
        bin.lost_width = passed ? width.lost : bin.lost_width;
        bin.at_width = passed ? widths.of[b] : bin.at_width;
        bin.below_height = passed ? height.value : bin.below_height;
        bin.at_height = passed ? heights.of[b] : bin.at_height;
        bin.raw0 = passed ? before : bin.raw0;
        bin.raw1 = passed ? after : bin.raw1;
        before = after;
    }
    return bin;
}

// As torch does, softplus(x) is x above 20.
template <class V>
CALORAY_INLINE V interior_slope(V raw, Number<V> smallest) {
    return smallest + (raw > splat<V>(20) ? raw : softplus(raw));
}

template <class V>
CALORAY_INLINE V sigmoid(V x) {
    const V small = exp(-absolute(x));
    return (x > V{} ? splat<V>(1) : small) / (small + Number<V>(1));
}

// The map inside the bin: what values and derivatives are made of.
template <class V>
struct Point {
    V width, per_width, height, s, slope0, slope1, theta, t, beta, den, q;

    Point(V x, V distance, const Bin<V>& bin, V unit_width, V unit_height, const Shape<Number<V>>& shape) {
        typedef Number<V> T;
        const V one = splat<V>(1);
        width = shape.min_width + unit_width * bin.at_width;
        height = shape.min_height + unit_height * bin.at_height;
        per_width = one / width;
        s = height * per_width;
        slope0 = bin.number == V{} ? one : interior_slope(bin.raw0, shape.min_slope);
        slope1 = bin.number == splat<V>(shape.bins - 1) ? one : interior_slope(bin.raw1, shape.min_slope);
        const V rounded = x - (distance - shape.bound);
        const V small = (rounded - shape.min_width * bin.number) + unit_width * bin.lost_width;
        const V from_left = (distance - unit_width * bin.below_width) + small;
        theta = at_most(at_least(from_left * per_width, T(0)), T(1));
        const V rest = one - theta;
        t = theta * rest;
        beta = s * theta * theta + slope0 * t;
        den = s + (slope0 + slope1 - T(2) * s) * t;
        q = slope1 * theta * theta + T(2) * s * t + slope0 * rest * rest;
    }
};

// Derivatives of gy * y + gl * log(dy/dx) by what the point is made of; `height` leaves out its part in s.
template <class V>
struct Gradients {
    V theta, s, height, slope0, slope1;

    Gradients(const Point<V>& p, V gy, V gl) {
        typedef Number<V> T;
        const V rest = T(1) - p.theta, turn = T(1) - T(2) * p.theta, straight = T(1) - T(2) * p.t;
        const V per_den = T(1) / p.den, bend = p.slope0 + p.slope1 - T(2) * p.s;
        const V ratio = gy * p.height * per_den * per_den;
        const V of_den = T(2) * gl * per_den, of_q = gl / p.q;
        theta = ratio * p.s * p.q - of_den * bend * turn +
                T(2) * of_q * (p.slope1 * p.theta + p.s * turn - p.slope0 * rest);
        s = ratio * (p.theta * p.theta * p.den - p.beta * straight) + T(2) * gl / p.s + T(2) * of_q * p.t -
            of_den * straight;
        height = gy * p.beta * per_den;
        slope0 = ratio * p.t * (p.den - p.beta) + of_q * rest * rest - of_den * p.t;
        slope1 = of_q * p.theta * p.theta - ratio * p.t * p.beta - of_den * p.t;
    }
};

// The softmax p enters by the bin's edge (the sum of p below) and by its size: with T = edge * sum(below) +
// size * p[at], the derivative by logit b is p[b] * (edge if b is below, size if it is the bin, 0 above - T).
template <class V, int Bins>
CALORAY_INLINE void write_logits(Number<V>* to, int64_t stride, const Exponentials<V, Bins>& exponentials,
                                 V number, V below, V at, V edge, V size, int bins) {
    const V per_total = exponentials.per_total;
    const V total = (edge * below + size * at) * per_total;
    const V if_below = (edge - total) * per_total, if_at = (size - total) * per_total;
    const V if_above = -total * per_total;
    for (int b = 0; b < bins; ++b) {
        const V reached = number == splat<V>(b) ? if_at : if_above;
        store_any<V>(to + b * stride, exponentials.of[b] * (number > splat<V>(b) ? if_below : reached));
    }
}

template <class V>
CALORAY_INLINE void write_slopes(Number<V>* to, int64_t stride, const Bin<V>& bin, V left, V right,
                                 int bins) {
    left *= sigmoid(bin.raw0);
    right *= sigmoid(bin.raw1);
    for (int knot = 0; knot < bins - 1; ++knot) {
        const V other = bin.number == splat<V>(knot) ? right : V{};
        store_any<V>(to + knot * stride, bin.number == splat<V>(knot + 1) ? left : other);
    }
}

// `tail` outside the interval, `inner` inside and for NaN.
template <class V>
CALORAY_INLINE V outside(V x, Number<V> bound, V tail, V inner) {
    return absolute(x) > splat<V>(bound) ? tail : inner;
}

// Everything about one vector of elements.
template <class V, int Bins>
struct Elements {
    int bins;
    Exponentials<V, Bins> widths, heights;
    V unit_width, unit_height, inside, distance;
    Bin<V> bin;
    Point<V> point;

    Elements(const Shape<Number<V>>& shape, V x, Column<V> raw)
        : bins(Bins ? Bins : shape.bins), widths(raw, 0, bins), heights(raw, bins, bins),
          unit_width(shape.rest_width * widths.per_total), unit_height(shape.rest_height * heights.per_total),
          inside(at_most(at_least(x, -shape.bound), shape.bound)), distance(inside + shape.bound),
          bin(locate<V, Bins>(distance, raw, widths, heights, shape)),
          point(inside, distance, bin, unit_width, unit_height, shape) {}
};

template <class V, int Bins>
CALORAY_INLINE void forward(const Shape<Number<V>>& shape, V x, Column<V> raw, V& y, V& log_slope) {
    typedef Number<V> T;
    const Elements<V, Bins> e(shape, x, raw);
    const Point<V>& p = e.point;
    const V per_den = T(1) / p.den;
    const V rise = shape.min_height * e.bin.number + p.height * p.beta * per_den;
    y = outside(x, shape.bound, x, (e.unit_height * e.bin.below_height - shape.bound) + rise);
    log_slope = outside(x, shape.bound, V{}, T(2) * log(p.s * per_den) + log(p.q));
}

template <class V, int Bins>
CALORAY_INLINE V backward(const Shape<Number<V>>& shape, V x, Column<V> raw, V grad_y, V grad_log,
                          Number<V>* grad_raw, int64_t stride) {
    const Elements<V, Bins> e(shape, x, raw);
    const Point<V>& p = e.point;
    const V gy = outside(x, shape.bound, V{}, grad_y), gl = outside(x, shape.bound, V{}, grad_log);
    const Gradients<V> g(p, gy, gl);
    const V left = -g.theta * p.per_width, size = g.s * p.per_width;
    Number<V>*heights = grad_raw + e.bins * stride, *slopes = heights + e.bins * stride;
    write_logits(grad_raw, stride, e.widths, e.bin.number, e.bin.below_width, e.bin.at_width,
                 shape.rest_width * left, shape.rest_width * (left * p.theta - size * p.s), e.bins);
    write_logits(heights, stride, e.heights, e.bin.number, e.bin.below_height, e.bin.at_height,
                 shape.rest_height * gy, shape.rest_height * (g.height + size), e.bins);
    write_slopes(slopes, stride, e.bin, g.slope0, g.slope1, e.bins);
    return outside(x, shape.bound, grad_y, -left);
}

// The first `count` numbers, zeros behind them; zeros alone where there is no array.
template <class V>
CALORAY_INLINE V load_part(const Number<V>* from, int64_t count) {
    V lanes = {};
    if (from) __builtin_memcpy(&lanes, from, count * sizeof(Number<V>));
    return lanes;
}

template <class V>
CALORAY_INLINE void store_part(Number<V>* to, V lanes, int64_t count) {
    __builtin_memcpy(to, &lanes, count * sizeof(Number<V>));
}

// The raw parameters (or their gradient) of a row that is shorter than a vector, padded.
template <class V>
struct ShortRow {
    Number<V> values[MAX_RAW * kLanes<V>];

    Column<V> fill(const Number<V>* raw, int64_t features, int parameters) {
        for (int p = 0; p < parameters; ++p)
            store_any<V>(values + p * kLanes<V>, load_part<V>(raw + p * features, features));
        return {values, kLanes<V>};
    }
    void spill(Number<V>* raw, int64_t features, int parameters) const {
        for (int p = 0; p < parameters; ++p)
            store_part(raw + p * features, load_any<V>(values + p * kLanes<V>), features);
    }
};

// Where the vector for `feature` begins: one that would end behind the row is moved back, and some elements
// are computed twice.
template <class V>
CALORAY_INLINE int64_t start(int64_t feature, int64_t features) {
    return feature + kLanes<V> <= features ? feature : features - kLanes<V>;
}

template <class T>
const T* plus(const void* array, int64_t offset) {
    return array ? static_cast<const T*>(array) + offset : nullptr;
}

template <class T>
T* plus(void* array, int64_t offset) {
    return static_cast<T*>(array) + offset;
}

template <class V, int Bins>
void forward_row(const Shape<Number<V>>& shape, const SplineForward& call, int64_t row) {
    typedef Number<V> T;
    const int64_t n = shape.features, parameters = 3 * shape.bins - 1;
    const T *x = plus<T>(call.x, row * n), *raw = plus<T>(call.raw, row * n * parameters);
    T *y = plus<T>(call.y, row * n), *log_slope = plus<T>(call.log_slope, row * n);
    V y_lanes, log_lanes;
    if (n < kLanes<V>) {
        ShortRow<V> padded;
        forward<V, Bins>(shape, load_part<V>(x, n), padded.fill(raw, n, parameters), y_lanes, log_lanes);
        store_part(y, y_lanes, n);
        store_part(log_slope, log_lanes, n);
        return;
    }
    for (int64_t feature = 0; feature < n; feature += kLanes<V>) {
        const int64_t f = start<V>(feature, n);
        forward<V, Bins>(shape, load_any<V>(x + f), {raw + f, n}, y_lanes, log_lanes);
        store_any(y + f, y_lanes);
        store_any(log_slope + f, log_lanes);
    }
}

template <class V, int Bins>
void backward_row(const Shape<Number<V>>& shape, const SplineBackward& call, int64_t row) {
    typedef Number<V> T;
    const int64_t n = shape.features, parameters = 3 * shape.bins - 1;
    const T *x = plus<T>(call.x, row * n), *raw = plus<T>(call.raw, row * n * parameters);
    const T *grad_y = plus<T>(call.grad_y, row * n), *grad_log = plus<T>(call.grad_log, row * n);
    T *grad_x = plus<T>(call.grad_x, row * n), *grad_raw = plus<T>(call.grad_raw, row * n * parameters);
    if (n < kLanes<V>) {
        ShortRow<V> padded, grad;
        const Column<V> column = padded.fill(raw, n, parameters);
        store_part(grad_x, backward<V, Bins>(shape, load_part<V>(x, n), column, load_part<V>(grad_y, n),
                                             load_part<V>(grad_log, n), grad.values, kLanes<V>), n);
        grad.spill(grad_raw, n, parameters);
        return;
    }
    for (int64_t feature = 0; feature < n; feature += kLanes<V>) {
        const int64_t f = start<V>(feature, n);
        const V gy = grad_y ? load_any<V>(grad_y + f) : V{}, gl = grad_log ? load_any<V>(grad_log + f) : V{};
        store_any(grad_x + f,
                  backward<V, Bins>(shape, load_any<V>(x + f), {raw + f, n}, gy, gl, grad_raw + f, n));
    }
}

template <class T, int Bins>
void rows(const SplineForward& call, int64_t first, int64_t last) {
    const Shape<T> shape(call.shape);
    for (int64_t row = first; row < last; ++row) forward_row<Vector<T>, Bins>(shape, call, row);
}

template <class T, int Bins>
void rows(const SplineBackward& call, int64_t first, int64_t last) {
    const Shape<T> shape(call.shape);
    for (int64_t row = first; row < last; ++row) backward_row<Vector<T>, Bins>(shape, call, row);
}

template <class T, class Call>
void by_bins(const Call& call, int64_t first, int64_t last) {
    switch (call.shape.bins) {
        case 8: return rows<T, 8>(call, first, last);
        case 10: return rows<T, 10>(call, first, last);
        default: return rows<T, 0>(call, first, last);
    }
}

template <class Call>
void by_type(const void* pointer, int64_t first, int64_t last) {
    const Call& call = *static_cast<const Call*>(pointer);
    return call.shape.wide ? by_bins<double>(call, first, last) : by_bins<float>(call, first, last);
}

}  // namespace
}  // namespace CALORAY_ISA

extern "C" void CALORAY_NAMED(spline_train_forward)(const void* call, int64_t first, int64_t last) {
    CALORAY_ISA::by_type<SplineForward>(call, first, last);
}

extern "C" void CALORAY_NAMED(spline_train_backward)(const void* call, int64_t first, int64_t last) {
    CALORAY_ISA::by_type<SplineBackward>(call, first, last);
}
