// Calls of the training spline: the C interface of spline_train.cpp, and what its kernels are given.
#pragma once
#include <stdint.h>

// caloray.flows.spline.SplineConfig, and the sizes of the arrays. Those are contiguous: x, y, log_slope and
// their gradients (rows, features), raw and its gradient (rows, 3 bins - 1, features); all of float, or all
// of double where `wide` is not 0.
struct SplineShape {
    double tail_bound, min_width, min_height, min_derivative;
    int64_t rows, features;
    int32_t bins, wide;
};

struct SplineForward {
    SplineShape shape;
    const void *x, *raw;
    void *y, *log_slope;
};

// A null gradient of y or of log_slope counts as zero.
struct SplineBackward {
    SplineShape shape;
    const void *x, *raw, *grad_y, *grad_log;
    void *grad_x, *grad_raw;
};
