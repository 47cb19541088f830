r"""The exact inverse of a MADE by Jacobi iteration: a few passes over many dimensions at once.

The inverse solves :math:`x_i = S^{-1}(z_i;\, r_i(x_1 \dots x_{i-1}))` with S the spline and r_i its raw
parameters. Instead of dimension by dimension, all dimensions of a panel are solved at once from the last
iterate, again and again (Song et al., "Accelerating feedforward computation via parallel nonlinear equation
solving", ICML 2021):

* After k iterations the dimensions of the panel's first k steps are exact, whatever the weights, because
  they depend on earlier ones only. A panel of g steps is therefore done after at most g iterations.
* It is usually done much sooner: as soon as one iteration changes nothing by more than a tolerance of the
  order of the rounding error.

Panels follow each other (block Gauss-Seidel); what the hidden units of earlier panels contribute is
multiplied out once. One panel over the whole network costs the fewest launches, panels of one step are the
walk of :mod:`caloray.flows.incremental`.

Every sample stops for itself: once its numbers have settled they are frozen, so that a block's result depends
neither on how long other samples of the block take nor on NaN in them. NaN never keeps the iteration going;
it stays in its sample, where it may spread to all dimensions of the panel.
"""

from __future__ import annotations

__all__ = ["JacobiInverter", "Panel", "Relaxation", "Solution", "SplineSolver"]

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as nnf

from caloray.flows.incremental import HiddenUnits
from caloray.flows.schedule import DegreeSchedule, Step
from caloray.flows.spline import SplineConfig, spline_inverse

SplineSolver = Callable[[Tensor, Tensor, SplineConfig], tuple[Tensor, Tensor]]


class Solution(NamedTuple):
    """What one call found.

    Args:
        x: (batch, D) data.
        log_det: (batch,) log |det Jacobian|.
        sweeps: Number of iterations of each panel.
    """

    x: Tensor
    log_det: Tensor
    sweeps: tuple[int, ...]


class Panel(NamedTuple):
    """Consecutive steps of the walk, solved together.

    Args:
        whole: The steps as one: their dimensions, and the hidden units that these complete.
        steps: Their number: so many iterations are always enough.
        known: (n_raw * dims, units before) output weights of the units that earlier panels completed.
        inner: (n_raw * dims, units) output weights of the panel's own units.
        bias: (n_raw * dims, 1).
        direct: (n_raw * dims, C) weights of the context, or None.
    """

    whole: Step
    steps: int
    known: Tensor
    inner: Tensor
    bias: Tensor
    direct: Tensor | None

    @staticmethod
    def of(schedule: DegreeSchedule, steps: tuple[Step, ...]) -> Panel:
        """Cut the output weights of these steps."""
        first, last = steps[0], steps[-1]
        dims, units = slice(first.dims.start, last.dims.stop), slice(first.units.start, last.units.stop)
        bias = schedule.final_bias[:, dims].reshape(-1, 1)
        weight = schedule.final[:, dims]
        return Panel(
            whole=Step(dims, first.ready, units),
            steps=len(steps),
            known=weight[:, :, : units.start].reshape(len(bias), -1),
            inner=weight[:, :, units].reshape(len(bias), -1),
            bias=bias,
            direct=_direct(schedule, dims),
        )


@dataclass(frozen=True)
class JacobiInverter:
    """Iterate panel by panel; see the module's description.

    Args:
        schedule: Sorted weights of the MADE.
        spline: Shape of the spline.
        tolerance: Change of x below which a sample counts as settled; None: the machine epsilon times the
            spline's tail bound times 4 (7e-6 in float32, 1.2e-14 in float64 for a bound of 14).
        panel: Number of steps that are solved together; None: all.
        solve: The inverse spline; :func:`caloray.flows.spline.spline_inverse` or one with its contract.
    """

    schedule: DegreeSchedule
    spline: SplineConfig
    tolerance: float | None = None
    panel: int | None = None
    solve: SplineSolver = spline_inverse

    def __call__(self, noise: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """Noise to data.

        Args:
            noise: (batch, D).
            context: (batch, C) or None.

        Returns:
            Data (batch, D) and log |det Jacobian| (batch,).
        """
        found = self.solution(noise, context)
        return found.x, found.log_det

    def solution(self, noise: Tensor, context: Tensor | None) -> Solution:
        """The same, and how many iterations it took; the host waits for the device once per iteration."""
        run = Relaxation(self, noise.t().contiguous(), context)
        run.start()
        sweeps = []
        for index, panel in enumerate(self.panels):
            run.begin(index)
            for count in range(1, panel.steps + 1):
                run.sweep(index)
                if count == panel.steps or bool(run.settled[index].all()):
                    break
            sweeps.append(count)
            run.finish(index)
        return Solution(run.x.t().contiguous(), run.log_slope.sum(dim=0), tuple(sweeps))

    @cached_property
    def panels(self) -> tuple[Panel, ...]:
        """The walk, cut into panels."""
        steps, size = self.schedule.steps, self.panel or len(self.schedule.steps)
        starts = range(0, len(steps), size)
        return tuple(Panel.of(self.schedule, steps[start : start + size]) for start in starts)

    def tolerance_for(self, dtype: torch.dtype) -> float:
        """Largest change of a settled sample."""
        if self.tolerance is not None:
            return self.tolerance
        return 4 * torch.finfo(dtype).eps * self.spline.tail_bound


class Relaxation:
    """The state of one MADE's iteration; all its work is queued on the device without waiting for it.

    First :meth:`start`, then for each panel in turn :meth:`begin`, :meth:`sweep` until its row of ``settled``
    is all true or as many times as it has steps, and :meth:`finish`. A panel may be swept again later, if
    everything after it is repeated. The public tensors keep their addresses, so that the calls can be
    recorded once and replayed on other numbers (:mod:`caloray.flows.cuda_graph`).

    Args:
        inverter: The MADE and the rule for stopping.
        noise: (D, batch), contiguous.
        context: (batch, C) or None.
    """

    def __init__(self, inverter: JacobiInverter, noise: Tensor, context: Tensor | None) -> None:
        self.inverter = inverter
        self.noise = noise
        self.context = context
        self.x = torch.zeros_like(noise)
        self.log_slope = torch.zeros_like(noise)
        shape = len(inverter.panels), noise.shape[1]
        self.settled = torch.zeros(shape, dtype=torch.bool, device=noise.device)
        self._tolerance = inverter.tolerance_for(noise.dtype)
        self._fixed: dict[int, tuple[_PanelUnits, Tensor]] = {}

    def start(self) -> None:
        """What the context contributes to the hidden units, and those that see no dimension."""
        self._units = HiddenUnits(self.inverter.schedule, self.context, self.noise.shape[1], self.noise)
        self._units.complete_blind(self.x)

    def begin(self, index: int) -> None:
        """Multiply out everything that does not change between iterations; start from zero."""
        panel = self.inverter.panels[index]
        self.x[panel.whole.dims].zero_()
        self.settled[index].zero_()
        base = panel.bias
        if panel.known.shape[1]:
            base = torch.addmm(base, panel.known, self._units.last[: panel.known.shape[1]])
        if panel.direct is not None and self.context is not None:
            base = torch.addmm(base, panel.direct, self.context.t())
        self._fixed[index] = _PanelUnits(self._units, self.x, panel.whole), base

    def sweep(self, index: int) -> None:
        """One iteration of the samples that have not settled."""
        panel, settled = self.inverter.panels[index], self.settled[index]
        dims = panel.whole.dims
        units, base = self._fixed[index]
        units.complete(self.x, panel.whole)
        raw = torch.addmm(base, panel.inner, units.last[panel.whole.units])
        raw = raw.view(1, self.inverter.schedule.n_raw, -1)
        values, log_slope = self.inverter.solve(self.noise[dims].view(1, -1), raw, self.inverter.spline)
        old = self.x[dims]
        new = values.view(old.shape)
        moving = ((new - old).abs() > self._tolerance).any(dim=0)
        self.x[dims] = torch.where(settled, old, new)
        self.log_slope[dims] = torch.where(settled, self.log_slope[dims], log_slope.view(old.shape))
        settled.logical_or_(~moving)

    def finish(self, index: int) -> None:
        """The panel's hidden units from its final x, for the panels to come."""
        self._fixed[index][0].complete(self.x, self.inverter.panels[index].whole)


class _PanelUnits(HiddenUnits):
    """All hidden units, ready to complete those of one panel: its known inputs are multiplied out."""

    def __init__(self, units: HiddenUnits, x: Tensor, step: Step) -> None:
        self.schedule, self.layers, self.rectified = units.schedule, units.layers, units.rectified
        above, known = range(1, len(self.layers)), step.units.start
        inputs = [x[: step.dims.start], *(self._below(index)[:known] for index in above)]
        self._known = [len(part) for part in inputs]
        self._base = [units.weighted(index, part, step.units) for index, part in enumerate(inputs)]

    def _below(self, layer: int) -> Tensor:
        residual = self.schedule.residual and layer % 2 == 1
        return self.rectified[layer // 2] if residual else self.layers[layer - 1]

    def weighted(self, layer: int, inputs: Tensor, units: slice) -> Tensor:
        known = self._known[layer]
        weight = self.schedule.layers[layer].weight[units, known : len(inputs)]
        return torch.addmm(self._base[layer], weight, inputs[known:])


def _direct(schedule: DegreeSchedule, dims: slice) -> Tensor | None:
    """(n_raw * dims, C) weights of the context, zero where a dimension does not see it; None if none does."""
    direct = schedule.output_context
    if direct is None or dims.start >= direct.shape[1]:
        return None
    part = direct[:, dims]
    missing = dims.stop - dims.start - part.shape[1]
    return nnf.pad(part, (0, 0, 0, missing)).reshape(-1, direct.shape[2])
