"""The inverse spline as one Triton kernel; imported by :mod:`caloray.flows.triton_spline` where Triton is.

One lane solves one element and reads its raw parameters where they are, so nothing of the size of the
parameters is written, where :func:`caloray.flows.spline.spline_inverse` writes several such arrays. The
arithmetic is that function's, in float64 whatever the dtype of the data. Comparisons are written with
``where`` because Triton's minimum and maximum may lose NaN.
"""
# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201, ANN202

from __future__ import annotations

__all__ = ["inverse_kernel"]

import triton
import triton.language as tl


@triton.jit
def _logit(raw, number, stride, mask):
    """Raw parameter ``number`` of every lane in float64."""
    return tl.load(raw + number * stride, mask=mask, other=0.0).to(tl.float64)


@triton.jit
def _bin(raw, bins: tl.constexpr, stride, mask, smallest, share, index, search: tl.constexpr):
    """Lower edge, size and index of one bin as shares: of the one that holds ``share``, or of ``index``."""
    top = _logit(raw, 0, stride, mask)
    for k in tl.static_range(1, bins):
        value = _logit(raw, k, stride, mask)
        top = tl.where(value > top, value, top)
    total = tl.zeros_like(top)
    for k in tl.static_range(bins):
        total += tl.exp(_logit(raw, k, stride, mask) - top)
    rest = 1.0 - smallest * bins
    softmax = tl.exp(_logit(raw, 0, stride, mask) - top) / total
    edge, size, running = tl.zeros_like(total), smallest + rest * softmax, softmax
    for k in tl.static_range(1, bins):
        softmax = tl.exp(_logit(raw, k, stride, mask) - top) / total
        lower = smallest * k + rest * running
        here = share >= lower if search else index == k
        edge = tl.where(here, lower, edge)
        size = tl.where(here, smallest + rest * softmax, size)
        index = tl.where(here, k, index)
        running += softmax
    return edge, size, index


@triton.jit
def _slope(raw, knot, stride, mask, interior, smallest):
    """Slope at an interior knot, 1 at the ends of the interval."""
    value = _logit(raw, knot, stride, mask & interior)
    smooth = tl.where(value > 0, value, 0.0) + tl.log(1.0 + tl.exp(-tl.abs(value)))
    return tl.where(interior, tl.where(value > 20, value, smooth) + smallest, 1.0)


@triton.jit
def _solve(rise, height, width, slope0, slope1):
    """Position within the bin and log |dy/dx| there, for the rise above the bin's lower edge."""
    s = height / width
    bend = slope0 + slope1 - 2.0 * s
    a = height * (s - slope0) + rise * bend
    b = height * slope0 - rise * bend
    c = -s * rise
    square = b * b - 4.0 * a * c
    theta = 2.0 * c / (-b - tl.sqrt(tl.where(square < 0, 0.0, square)))
    theta = tl.where(theta < 0, 0.0, tl.where(theta > 1, 1.0, theta))
    t = theta * (1.0 - theta)
    q = slope1 * theta * theta + 2.0 * s * t + slope0 * (1.0 - theta) * (1.0 - theta)
    return theta, 2.0 * tl.log(s) + tl.log(q) - 2.0 * tl.log(s + bend * t)


@triton.jit
def inverse_kernel(
    noise, raw, data, log_slope, elements, features, shape, bins: tl.constexpr, lanes: tl.constexpr
):
    """Solve ``lanes`` elements.

    Args:
        noise: (batch, features).
        raw: (batch, 3K - 1, features).
        data: (batch, features), written.
        log_slope: (batch, features), log |dx/dy|, written.
        elements: batch * features.
        features: Features.
        shape: (4,) float64: tail bound, smallest width, height and slope.
        bins: Number of bins K.
        lanes: Elements per program.
    """
    bound = tl.load(shape)
    stride = tl.cast(features, tl.int64)
    element = tl.program_id(0).to(tl.int64) * lanes + tl.arange(0, lanes)
    mask = element < elements
    raw += (element // stride) * (3 * bins - 1) * stride + element % stride
    y = tl.load(noise + element, mask=mask, other=0.0).to(tl.float64)
    inside = (y >= -bound) & (y <= bound)
    value = tl.where(y < -bound, -bound, tl.where(y > bound, bound, y))
    share = (value + bound) / (2.0 * bound)
    none = tl.zeros_like(element)
    heights, slopes = raw + bins * stride, raw + 2 * bins * stride
    bottom, height, index = _bin(heights, bins, stride, mask, tl.load(shape + 2), share, none, True)
    left, width, index = _bin(raw, bins, stride, mask, tl.load(shape + 1), share, index, False)
    smallest = tl.load(shape + 3)
    slope0 = _slope(slopes, index - 1, stride, mask, index > 0, smallest)
    slope1 = _slope(slopes, index, stride, mask, index < bins - 1, smallest)
    span = 2.0 * bound
    height, width = span * height, span * width
    theta, log_rise = _solve(value - (span * bottom - bound), height, width, slope0, slope1)
    tl.store(data + element, tl.where(inside, span * left - bound + theta * width, y), mask=mask)
    tl.store(log_slope + element, tl.where(inside, -log_rise, 0.0), mask=mask)
