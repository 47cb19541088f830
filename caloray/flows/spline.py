r"""Monotonic rational-quadratic splines with linear tails, branch-free and feature-major.

The map and its parameters are those of nflows (Durkan et al., "Neural Spline Flows", NeurIPS 2019, section
3.1; Gregory & Delbourgo 1982): K bins on [-B, B], identity outside, 3K - 1 raw numbers per dimension (K
width logits, K height logits, K - 1 interior slopes), boundary slopes 1. With :math:`\theta = (x - x_k) /
w_k`, :math:`s = h_k / w_k`, :math:`t = \theta (1 - \theta)`:

.. math:: y = y_k + h_k \frac{s \theta^2 + d_k t}{s + (d_{k+1} + d_k - 2 s) t}

What differs from nflows is the arithmetic: raw parameters come as (batch, 3K - 1, features) so that every
operation runs over contiguous features, nothing is indexed by a mask, the discriminant of the inverse is
clamped instead of asserted, the inverse is evaluated in float64 (in float32 it loses all digits for narrow
bins), and the forward direction has its own backward pass.
"""

from __future__ import annotations

__all__ = ["SplineConfig", "spline_forward", "spline_inverse"]

import math
from typing import Any, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor
from torch.nn import functional as nnf

from caloray.flows.native_spline import NativeSpline, usable


class SplineConfig(BaseModel):
    """Shape of the spline.

    Args:
        bins: Number of bins K.
        tail_bound: Half width B of the interval; identity outside.
        min_width: Smallest bin width as a share of the interval.
        min_height: Smallest bin height as a share of the interval.
        min_derivative: Smallest slope at an interior knot.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    bins: int = Field(8, ge=2, le=256)
    tail_bound: float = Field(14.0, gt=0)
    min_width: float = Field(1e-6, gt=0)
    min_height: float = Field(1e-6, gt=0)
    min_derivative: float = Field(1e-6, gt=0, lt=1)

    @model_validator(mode="after")
    def _room_for_all_bins(self) -> SplineConfig:
        if max(self.min_width, self.min_height) * self.bins >= 1:
            raise ValueError(f"min_width and min_height must be below 1/bins = {1 / self.bins:g}")
        return self

    @property
    def n_raw(self) -> int:
        """Raw parameters per dimension."""
        return 3 * self.bins - 1


class _Knots(NamedTuple):
    """Quantities of the bin that each element falls into, all (batch, features)."""

    number: Tensor
    left: Tensor
    width: Tensor
    bottom: Tensor
    height: Tensor
    slope0: Tensor
    slope1: Tensor


def spline_forward(x: Tensor, raw: Tensor, config: SplineConfig) -> tuple[Tensor, Tensor]:
    """Map data to noise; by the native library on a CPU, where it is there.

    Args:
        x: (batch, features).
        raw: (batch, 3K - 1, features).
        config: The spline's shape.

    Returns:
        y and log |dy/dx|, both (batch, features).
    """
    function = NativeSpline if usable(x, raw) else _SplineForward
    y, log_slope = function.apply(x, raw, config)  # type: ignore[no-untyped-call]
    return y, log_slope


def spline_inverse(y: Tensor, raw: Tensor, config: SplineConfig) -> tuple[Tensor, Tensor]:
    """Map noise to data, evaluated in float64 and returned in the dtype of ``y``; differentiable.

    Args:
        y: (batch, features).
        raw: (batch, 3K - 1, features).
        config: The spline's shape.

    Returns:
        x and log |dx/dy|, both (batch, features).
    """
    bound, span = config.tail_bound, 2 * config.tail_bound
    wanted = y.double()
    clamped = wanted.clamp(-bound, bound)
    height = ((clamped + bound) / span).unsqueeze(1)
    start, size, slope = _bin_of_height(height, raw, config)
    (left, bottom), (width, tall), (slope0, slope1) = (pair.unbind(1) for pair in (start, size, slope))
    # Everything in shares of the interval; theta does not change with the unit.
    s = tall / width
    bend = torch.sub(slope0 + slope1, s, alpha=2)
    rise = height.squeeze(1) - bottom
    bent = rise * bend
    a = torch.addcmul(bent, tall, s - slope0)
    b = tall * slope0 - bent
    c = s * rise
    root = torch.addcmul(b * b, a, c, value=4).clamp_min(0.0).sqrt()
    theta = (2 * c / (b + root)).clamp(0.0, 1.0)
    rest = 1 - theta
    t = theta * rest
    q = torch.addcmul(torch.addcmul(slope1 * theta * theta, s, t, value=2), slope0 * rest, rest)
    step = torch.addcmul(s, bend, t) / s
    inside = clamped == wanted
    x = torch.where(inside, span * torch.addcmul(left, theta, width) - bound, wanted)
    log_slope = torch.where(inside, torch.log(step * step / q), torch.zeros_like(x))
    return x.to(y.dtype), log_slope.to(y.dtype)


def _bin_of_height(height: Tensor, raw: Tensor, config: SplineConfig) -> tuple[Tensor, Tensor, Tensor]:
    """The bin that each height (batch, 1, features), a share of the interval, falls into.

    Returns:
        Its lower edges and its sizes, each (batch, 2, features) float64 shares, widths before heights; and
        the slopes at its two knots (batch, 2, features). The interval's ends have slope 1.
    """
    k = config.bins
    softmax = torch.softmax(raw[:, : 2 * k].reshape(len(raw), 2, k, raw.shape[2]), dim=2, dtype=torch.float64)
    running = torch.cumsum(softmax, dim=2)
    heights = _Shares(softmax[:, 1], running[:, 1], config.min_height)
    index = (height >= heights.inner_edges()).sum(dim=1, keepdim=True)
    both = index.unsqueeze(1).expand(-1, 2, -1, -1)
    share = softmax.gather(2, both).squeeze(2)
    below = running.gather(2, both).squeeze(2) - share
    smallest = (config.min_width, config.min_height)
    if smallest[0] == smallest[1]:
        start = below.mul(heights.rest).add_(index, alpha=smallest[0])
        size = share.mul(heights.rest).add_(smallest[0])
    else:
        number = index.double().squeeze(1)
        halves = [(part, 1 - k * least, least) for part, least in enumerate(smallest)]
        start = torch.stack([below[:, i] * rest + number * least for i, rest, least in halves], dim=1)
        size = torch.stack([share[:, i] * rest + least for i, rest, least in halves], dim=1)
    unit = math.log(math.expm1(1 - config.min_derivative))
    padded = nnf.pad(raw[:, 2 * k :].double(), (0, 0, 1, 1), value=unit)
    knots = padded.gather(1, torch.cat([index, index + 1], dim=1))
    return start, size, nnf.softplus(knots) + config.min_derivative


def _locate(value: Tensor, raw: Tensor, config: SplineConfig) -> tuple[_Knots, _Shares, _Shares]:
    """Find each element's bin and read that bin's knots; also what the gradients of the logits need."""
    k, span = config.bins, 2 * config.tail_bound
    widths = _Shares.of(raw[:, :k], config.min_width)
    heights = _Shares.of(raw[:, k : 2 * k], config.min_height)
    share = ((value + config.tail_bound) / span).unsqueeze(1)
    index = (share >= widths.inner_edges()).sum(dim=1, keepdim=True)
    (left, width), (bottom, height) = widths.bin(index), heights.bin(index)
    slope0, slope1 = _slopes(raw[:, 2 * k :], index, config)
    knots = _Knots(
        number=index,
        left=span * left - config.tail_bound,
        width=span * width,
        bottom=span * bottom - config.tail_bound,
        height=span * height,
        slope0=slope0,
        slope1=slope1,
    )
    return knots, widths, heights


class _Shares(NamedTuple):
    """Bin sizes as shares of the interval: ``smallest + rest * softmax``, and the softmax's running sum."""

    softmax: Tensor
    running: Tensor
    smallest: float

    @staticmethod
    def of(logits: Tensor, smallest: float) -> _Shares:
        softmax = torch.softmax(logits.contiguous(), dim=1)
        return _Shares(softmax, torch.cumsum(softmax, dim=1), smallest)

    @property
    def rest(self) -> float:
        """Share that the softmax distributes."""
        return 1 - self.smallest * self.softmax.shape[1]

    def inner_edges(self) -> Tensor:
        """(batch, K - 1, features) right edges of all bins but the last."""
        k = self.softmax.shape[1]
        first = self.smallest * torch.arange(1, k, device=self.softmax.device, dtype=self.softmax.dtype)
        return torch.add(first.view(1, -1, 1), self.running[:, :-1], alpha=self.rest)

    def bin(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Lower edge and size of the bins ``index``, both (batch, features)."""
        size = self.softmax.gather(1, index)
        below = self.running.gather(1, index) - size
        edge = self.smallest * index.to(size.dtype) + self.rest * below
        return edge.squeeze(1), (self.smallest + self.rest * size).squeeze(1)


def _slopes(raw: Tensor, index: Tensor, config: SplineConfig) -> tuple[Tensor, Tensor]:
    """Slopes at the left and right knot of each element's bin; 1 at the interval's two ends."""
    k = config.bins
    left = nnf.softplus(raw.gather(1, (index - 1).clamp_min(0))) + config.min_derivative
    right = nnf.softplus(raw.gather(1, index.clamp_max(k - 2))) + config.min_derivative
    one = torch.ones((), dtype=raw.dtype, device=raw.device)
    return (
        torch.where(index == 0, one, left).squeeze(1),
        torch.where(index == k - 1, one, right).squeeze(1),
    )


class _SplineForward(torch.autograd.Function):
    """The forward spline with a hand-written backward that passes over the raw parameters once."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, raw: Tensor, config: SplineConfig) -> tuple[Tensor, Tensor]:
        """Evaluate the map and keep what its derivatives need."""
        bound = config.tail_bound
        inside = (x >= -bound) & (x <= bound)
        clamped = x.clamp(-bound, bound)
        knots, widths, heights = _locate(clamped, raw, config)
        theta = ((clamped - knots.left) / knots.width).clamp(0.0, 1.0)
        s = knots.height / knots.width
        t = theta * (1 - theta)
        beta = s * theta**2 + knots.slope0 * t
        den = s + (knots.slope0 + knots.slope1 - 2 * s) * t
        q = knots.slope1 * theta**2 + 2 * s * t + knots.slope0 * (1 - theta) ** 2
        y = torch.where(inside, knots.bottom + knots.height * beta / den, x)
        log_slope = 2 * torch.log(s) + torch.log(q) - 2 * torch.log(den)
        ctx.config = config
        ctx.save_for_backward(raw, inside, widths.softmax, heights.softmax, theta, s, beta, den, q, *knots)
        return y, torch.where(inside, log_slope, torch.zeros_like(x))

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor, grad_l: Tensor) -> tuple[Tensor, Tensor, None]:
        """Chain rule through the bin's knots, then through the two softmaxes and the softplus."""
        raw, inside, soft_w, soft_h, theta, s, beta, den, q, *rest = ctx.saved_tensors
        knots = _Knots(*rest)
        gy, gl = grad_y * inside, grad_l * inside
        t, turn = theta * (1 - theta), 1 - 2 * theta
        bend = knots.slope0 + knots.slope1 - 2 * s
        per_den = 1 / den
        gyd, gld, glq = gy * knots.height * per_den * per_den, gl * per_den, gl / q
        g_theta = (
            gy * knots.width * s * s * q * per_den * per_den
            + glq * 2 * (knots.slope1 * theta + s * turn - knots.slope0 * (1 - theta))
            - 2 * gld * bend * turn
        )
        g_s = gyd * (theta**2 * den - beta * (1 - 2 * t)) + 2 * gl / s + 2 * glq * t - 2 * gld * (1 - 2 * t)
        g_slope0 = gyd * t * (den - beta) + glq * (1 - theta) ** 2 - 2 * gld * t
        g_slope1 = -gyd * beta * t + glq * theta**2 - 2 * gld * t
        g_left = -g_theta / knots.width
        g_width = g_left * theta - g_s * s / knots.width
        g_height = gy * beta * per_den + g_s / knots.width
        config: SplineConfig = ctx.config
        index, k = knots.number, config.bins
        grad_raw = torch.empty_like(raw)
        for soft, g_edge, g_size, smallest, part in (
            (soft_w, g_left, g_width, config.min_width, grad_raw[:, :k]),
            (soft_h, gy, g_height, config.min_height, grad_raw[:, k : 2 * k]),
        ):
            scale = 2 * config.tail_bound * (1 - smallest * k)
            _add_share_gradient(part, soft, index, g_edge, g_size, scale)
        _add_slope_gradient(grad_raw[:, 2 * k :], raw[:, 2 * k :], index, g_slope0, g_slope1)
        return torch.where(inside, -g_left, grad_y), grad_raw, None


def _add_share_gradient(
    out: Tensor, softmax: Tensor, index: Tensor, g_edge: Tensor, g_size: Tensor, scale: float
) -> None:
    """Write the gradient of the logits, given those of a bin's lower edge (sum of the bins below) and size.

    Only bins up to ``index`` count: with p the softmax and T = edge * sum(p below) + size * p_index, the
    gradient is p * (edge [below] + size [at index] - T).
    """
    k = softmax.shape[1]
    edge, size = (scale * g_edge).unsqueeze(1), (scale * g_size).unsqueeze(1)
    below = (torch.arange(k, device=index.device).view(1, -1, 1) < index).to(softmax.dtype)
    at = softmax.gather(1, index)
    total = edge * (softmax * below).sum(dim=1, keepdim=True) + size * at
    torch.addcmul(-total, below, edge, out=out)
    out.mul_(softmax).scatter_add_(1, index, at * size)


def _add_slope_gradient(out: Tensor, raw: Tensor, index: Tensor, g_left: Tensor, g_right: Tensor) -> None:
    """Write the gradient of the raw slopes: knot k - 1 is the bin's left one, knot k its right one."""
    out.zero_()
    left, right = (index - 1).clamp_min(0), index.clamp_max(raw.shape[1] - 1)
    for knot, gradient, interior in (
        (left, g_left, index > 0),
        (right, g_right, index < raw.shape[1]),
    ):
        out.scatter_add_(1, knot, gradient.unsqueeze(1) * interior * torch.sigmoid(raw.gather(1, knot)))
