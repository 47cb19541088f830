"""The inverse of a whole flow for a fixed number of rows, in pieces that can be recorded and replayed.

A small operation takes a GPU less time than launching it takes the host. :class:`Stepper` therefore keeps all
numbers in buffers that never move and splits the inverse into pieces of work without any decision in them;
each piece can be recorded as one CUDA graph (:mod:`caloray.flows.cuda_graph`) and launched as a whole.
Decisions are left to the host:

* A MADE inverted by :class:`caloray.flows.jacobi.JacobiInverter` is one piece per panel: everything up to and
  including a fixed number of sweeps. All pieces of the flow are launched in a row, then the host looks once
  whether every sample had settled. Where some had not, one further sweep is launched until they have (never
  more often than the panel has steps), and everything behind is repeated. What comes out is the result of
  iterating to the end, however few sweeps were recorded.
* Any other back-end (:class:`caloray.flows.incremental.IncrementalInverter`) is one piece and needs no look.

Nothing random is recorded: noise is an input. Without a recorder the same pieces run one by one, on any
device; that is how the logic is tested.
"""

from __future__ import annotations

__all__ = ["Maker", "Recorder", "Stepper", "Work"]

from collections.abc import Callable
from dataclasses import dataclass

import torch
from nflows.transforms.base import Transform
from nflows.transforms.permutations import Permutation
from torch import Tensor

from caloray.errors import ConfigError
from caloray.flows.inverse import Inverter
from caloray.flows.jacobi import JacobiInverter, Relaxation
from caloray.flows.masked import MaskedSpline
from caloray.flows.schedule import DegreeSchedule
from caloray.flows.spline import SplineConfig

Work = Callable[[], None]
Recorder = Callable[[Work], Work]
Maker = Callable[[DegreeSchedule, SplineConfig], Inverter]


@dataclass
class _Piece:
    """Some work that ends with the question whether it was enough.

    Args:
        first: The work.
        again: One more sweep.
        spare: How many of those can be necessary at most.
    """

    first: Work
    again: Work
    spare: int


class Stepper:
    """A flow's inverse over buffers of a fixed number of rows.

    The weights are those at construction. Rows are processed in chunks of ``rows``; the last chunk is filled
    up with copies of its last row, which need no sweep that this row does not need.

    Args:
        transform: The flow's transform: MADEs (:class:`caloray.flows.masked.MaskedSpline`) and permutations,
            or a composite of them; its device and dtype are used.
        rows: Rows per launch.
        context: Number of conditioning features; 0 for none.
        make: How the inverse of one MADE is prepared.
        sweeps: Number of Jacobi iterations of every panel before the host looks.
        record: Makes a piece of work launchable; by default it just runs.

    Raises:
        ConfigError: The flow holds another kind of transform.
    """

    def __init__(
        self,
        transform: Transform,
        rows: int,
        *,
        context: int,
        make: Maker = JacobiInverter,
        sweeps: int = 5,
        record: Recorder | None = None,
    ) -> None:
        parts = list(reversed(_parts(transform)))
        made = next(part for part in parts if isinstance(part, MaskedSpline))
        like = next(made.parameters())
        self.rows = rows
        self.extra_sweeps = 0
        self._sweeps = sweeps
        self._noise = like.new_zeros(rows, made.features)
        self._context = like.new_zeros(rows, context) if context else None
        self._data = torch.zeros_like(self._noise)
        self._log_det = like.new_zeros(rows)
        self._log_slopes: list[Tensor] = []
        self._pieces: list[_Piece] = []
        self._settled = torch.zeros(len(parts) * made.features, dtype=torch.bool, device=like.device)
        with torch.no_grad():
            self._build(parts, make)
            self._record(record or _run_as_it_is)

    def __call__(self, noise: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """Noise to data.

        Args:
            noise: (n, D), any n.
            context: (n, C) or None.

        Returns:
            Data (n, D) and log |det Jacobian| (n,).

        Raises:
            ConfigError: Noise or context are not of the shape and precision that the buffers were made for.
        """
        self._check(noise, context)
        data, log_det = torch.empty_like(noise), noise.new_empty(len(noise))
        with torch.no_grad():
            for start in range(0, len(noise), self.rows):
                rows = slice(start, start + self.rows)
                _fill(self._noise, noise[rows])
                if context is not None and self._context is not None:
                    _fill(self._context, context[rows])
                self._launch()
                count = len(noise[rows])
                data[rows] = self._data[:count]
                log_det[rows] = self._log_det[:count]
        return data, log_det

    def inverse(self, noise: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The same, under the name that it has in a transform."""
        return self(noise, context)

    def _check(self, noise: Tensor, context: Tensor | None) -> None:
        for name, values, buffer in (("noise", noise, self._noise), ("context", context, self._context)):
            found = None if values is None else (*values.shape[1:], values.dtype)
            expected = None if buffer is None else (*buffer.shape[1:], buffer.dtype)
            if found != expected or (values is not None and len(values) != len(noise)):
                raise ConfigError(f"{name} is {found} for {len(noise)} rows, expected {expected}")

    def _launch(self) -> None:
        """All pieces; what had not settled is continued, what follows it repeated."""
        first, count = 0, len(self._pieces)
        while first < count:
            for piece in self._pieces[first:]:
                piece.first()
            settled = self._settled[first:count].tolist()
            if all(settled):
                break
            first += settled.index(False)
            self._continue(first)
            first += 1
        self._finish()

    def _continue(self, index: int) -> None:
        """Sweep one piece until every sample has settled."""
        piece = self._pieces[index]
        for _ in range(piece.spare):
            piece.again()
            self.extra_sweeps += 1
            if bool(self._settled[index]):
                return

    def _build(self, parts: list[Transform], make: Maker) -> None:
        """Chain the pieces: each reads the buffer that the one before wrote."""
        current, waiting = self._noise.t().contiguous(), []
        waiting.append(_copy(self._noise.t(), current))
        for part in parts:
            if isinstance(part, Permutation):
                target = torch.empty_like(current)
                waiting.append(_permute(current, part._inverse_permutation, target))
                current = target
                continue
            inverter = make(part.schedule(), part.spline)
            if isinstance(inverter, JacobiInverter):
                current = self._iterated(inverter, current, waiting)
            else:
                current = self._direct(inverter, current, waiting)
            waiting = []
        waiting += [_copy(current.t(), self._data), self._sum_log_slopes]
        self._finish = _all_of(waiting)

    def _direct(self, inverter: Inverter, noise: Tensor, before: list[Work]) -> Tensor:
        """One piece for a back-end that decides nothing on the way."""
        x, log_det = torch.empty_like(noise), torch.zeros_like(noise[:1])

        def solve() -> None:
            data, log_slope = inverter(noise.t(), self._context)
            x.copy_(data.t())
            log_det.copy_(log_slope)

        self._log_slopes.append(log_det)
        self._add([*before, solve], None, spare=0)
        return x

    def _iterated(self, inverter: JacobiInverter, noise: Tensor, before: list[Work]) -> Tensor:
        """One piece per panel."""
        run = Relaxation(inverter, noise, self._context)
        work = [*before, run.start]
        for index, panel in enumerate(inverter.panels):
            sweep = _bound(run.sweep, index)
            sweeps = min(self._sweeps, panel.steps)
            self._add(
                [*work, _bound(run.begin, index), *([sweep] * sweeps)],
                (sweep, run.settled[index]),
                spare=panel.steps - sweeps,
            )
            work = [_bound(run.finish, index)]
        self._log_slopes.append(run.log_slope)
        return run.x

    def _add(self, work: list[Work], sweep: tuple[Work, Tensor] | None, *, spare: int) -> None:
        """One more piece; its flag tells whether all samples have settled."""
        flag = self._settled[len(self._pieces)]
        if sweep is None or spare == 0:
            self._pieces.append(_Piece(_all_of([*work, _bound(flag.fill_, True)]), _nothing, 0))
            return
        again, settled = sweep

        def look() -> None:
            flag.copy_(settled.all())

        self._pieces.append(_Piece(_all_of([*work, look]), _all_of([again, look]), spare))

    def _sum_log_slopes(self) -> None:
        self._log_det.copy_(torch.stack([part.sum(dim=0) for part in self._log_slopes]).sum(dim=0))

    def _record(self, record: Recorder) -> None:
        for piece in self._pieces:
            piece.first = record(piece.first)
            if piece.spare:
                piece.again = record(piece.again)
        self._finish = record(self._finish)


def _parts(transform: Transform) -> list[Transform]:
    """All MADEs and permutations, from data to noise."""
    parts = list(getattr(transform, "_transforms", [transform]))
    for part in parts:
        if not isinstance(part, MaskedSpline | Permutation):
            raise ConfigError(
                f"the stepper knows MADEs and permutations, not {type(part).__name__}",
                hint="invert this flow with its own inverse()",
            )
    return parts


def _fill(buffer: Tensor, rows: Tensor) -> None:
    """Write the rows and repeat the last one."""
    buffer[: len(rows)] = rows
    buffer[len(rows) :] = rows[-1:]


def _run_as_it_is(work: Work) -> Work:
    return work


def _nothing() -> None:
    """No further sweep."""


def _all_of(works: list[Work]) -> Work:
    def run() -> None:
        for work in works:
            work()

    return run


def _bound(function: Callable[..., object], argument: object) -> Work:
    def run() -> None:
        function(argument)

    return run


def _copy(source: Tensor, target: Tensor) -> Work:
    return _bound(target.copy_, source)


def _permute(source: Tensor, order: Tensor, target: Tensor) -> Work:
    def run() -> None:
        torch.index_select(source, 0, order, out=target)

    return run
