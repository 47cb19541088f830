"""One block of showers: asked of the model, checked row by row, redrawn where that is allowed."""

from __future__ import annotations

__all__ = ["BlockRequest", "BlockSampler", "DrawnBlock", "Redraws", "draw_block"]

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from caloray.errors import BundleError, NumericalError
from caloray.geometry import Geometry
from caloray.preprocess.condition_range import ConditionRange

if TYPE_CHECKING:
    from caloray.bundle import Piece
    from caloray.schemes.component import Sampled


class BlockSampler(Protocol):
    """A model that makes blocks of showers; :class:`caloray.bundle.Bundle` is one."""

    @property
    def geometry(self) -> Geometry:
        """Readout of the showers."""
        ...

    @property
    def block_size(self) -> int:
        """Showers of a full block."""
        ...

    @property
    def digest(self) -> str:
        """sha256 that names the model."""
        ...

    @property
    def energy_range(self) -> tuple[float, float]:
        """Incident energies [MeV] that the model was trained on."""
        ...

    @property
    def conditions(self) -> Sequence[ConditionRange]:
        """Name, unit and trained range of what the model needs besides the incident energy, in its order."""
        ...

    @property
    def numerics(self) -> Mapping[str, str]:
        """Versions and hardware that decide the last bits."""
        ...

    def make_block(
        self,
        energies: np.ndarray,
        seed: int,
        block: int,
        attempt: int,
        conditions: np.ndarray | None = None,
        /,
    ) -> Sampled:
        """Showers for energies (n,) [MeV] and conditions (n, P), with their layer energies and vetoes.

        Row i depends on nothing but i, its energy and conditions, the seed, the block and the attempt.
        """
        ...

    def make_pieces(self, pieces: Sequence[Piece], /) -> list[Sampled]:
        """What :meth:`make_block` gives for some rows of some blocks, bit for bit; NaN where it raises."""
        ...


@dataclass(frozen=True)
class Redraws:
    """How many showers were redrawn because their first draw was invalid, and with how many attempts.

    Args:
        rows: Showers that were redrawn at least once.
        draws: Invalid draws that were thrown away.
        attempts: Highest number of redraws that one shower needed.
        vetoed: Draws of layer energies that the scheme itself threw away, because their sum was above its
            largest ratio to E_inc, and drew again.
    """

    rows: int = 0
    draws: int = 0
    attempts: int = 0
    vetoed: int = 0

    def __add__(self, other: Redraws) -> Redraws:
        return Redraws(
            self.rows + other.rows,
            self.draws + other.draws,
            max(self.attempts, other.attempts),
            self.vetoed + other.vetoed,
        )


@dataclass(frozen=True)
class BlockRequest:
    """One block of a request.

    Args:
        block: Its index.
        seed: Of the request.
        energies: (n,) float64 [MeV] of the block's events from its first on.
        keep: (k,) positions in the block that are wanted.
        max_attempts: Redraws that an invalid shower may have; 0 to fail at once.
        command: Spells the command that makes given event ids again.
        conditions: (n, P) float64 of the same events, in the model's order; None for a model without.
        max_response: A shower whose energy is above this times E_inc is invalid; None: none is.
    """

    block: int
    seed: int
    energies: np.ndarray
    keep: np.ndarray
    first_id: int
    max_attempts: int
    command: Callable[[list[int]], str]
    conditions: np.ndarray | None = None
    max_response: float | None = None


@dataclass(frozen=True)
class DrawnBlock:
    """The wanted showers of one block.

    Args:
        voxels: (k, n_voxels) float32 [MeV], all finite and not negative.
        attempts: (k,) uint8, how often each was redrawn.
        redraws: The same, summed up.
        log_prob: (k,) float64, log density of what the flows drew; None where the model does not tell.
    """

    voxels: np.ndarray
    attempts: np.ndarray
    redraws: Redraws
    log_prob: np.ndarray | None = None


def draw_block(sampler: BlockSampler, request: BlockRequest) -> DrawnBlock:
    """Draw the kept rows of one block.

    Rows that are invalid at attempt a are replaced by the same rows of attempt a + 1, which alone are drawn
    again; the outcome is a pure function of the request.

    Raises:
        NumericalError: Invalid showers that may not be redrawn, or that never became valid.
        BundleError: The model returned another shape than its geometry asks for.
    """
    made = _first(sampler, request)
    bad, draws, attempt = made.bad, int(made.bad.sum()), 0
    rows, vetoed = draws, int(made.vetoes.sum())
    attempts = np.zeros(len(bad), dtype=np.uint8)
    while bad.any():
        if attempt == request.max_attempts:
            raise _failure(request, made)
        attempt += 1
        again = _again(sampler, request, bad, attempt)
        vetoed += int(again.vetoes.sum())
        made.replace(bad, again)
        attempts[bad] = attempt
        bad = made.bad
        draws += int(bad.sum())
    return DrawnBlock(made.voxels, attempts, Redraws(rows, draws, attempt, vetoed), made.log_prob)


@dataclass
class _Rows:
    """Some rows of a block as they are at present.

    Args:
        voxels: (k, n_voxels) float32 [MeV].
        bad: (k,) which of them are invalid.
        vetoes: (k,) draws of layer energies that the scheme threw away at the latest attempt.
        log_prob: (k,) float64, if the model tells it.
        component: The one to blame, if it is known.
    """

    voxels: np.ndarray
    bad: np.ndarray
    vetoes: np.ndarray
    log_prob: np.ndarray | None
    component: str = ""

    def replace(self, rows: np.ndarray, others: _Rows) -> None:
        """Put ``others`` in the place of the rows of a mask."""
        self.voxels[rows] = others.voxels
        self.vetoes[rows] = others.vetoes
        if self.log_prob is not None and others.log_prob is not None:
            self.log_prob[rows] = others.log_prob
        self.bad = self.bad.copy()
        self.bad[rows] = others.bad
        self.component = others.component


def _first(sampler: BlockSampler, request: BlockRequest) -> _Rows:
    """The kept rows of attempt 0, for which the whole block is drawn."""
    count = len(request.keep)
    if not count:
        return _judged([], sampler, request, request.keep)
    try:
        made = sampler.make_block(request.energies, request.seed, request.block, 0, request.conditions)
    except NumericalError as error:
        if request.max_attempts == 0:
            raise _located(error, request) from error
        missing = np.full((count, sampler.geometry.n_voxels), np.nan, dtype=np.float32)
        none, component = np.zeros(count, dtype=np.int64), str(error.context.get("component", ""))
        return _Rows(missing, np.ones(count, dtype=bool), none, np.full(count, np.nan), component)
    _require_shape(made, request, (len(request.energies), sampler.geometry.n_voxels))
    whole = count == len(request.energies)
    return _judged([made if whole else made.take(request.keep)], sampler, request, request.keep)


def _again(sampler: BlockSampler, request: BlockRequest, bad: np.ndarray, attempt: int) -> _Rows:
    """The rows of a mask at a later attempt; neighbours make one piece."""
    from caloray.bundle import Piece

    rows = request.keep[bad]
    block = Piece(request.seed, request.block, request.energies, conditions=request.conditions)
    made = sampler.make_pieces(block.runs(rows, attempt))
    return _judged(made, sampler, request, rows)


def _judged(made: Sequence[Sampled], sampler: BlockSampler, request: BlockRequest, rows: np.ndarray) -> _Rows:
    """The drawn ``rows`` of the block, with the invalid ones found."""
    empty = np.zeros((0, sampler.geometry.n_voxels), dtype=np.float32)
    voxels = np.concatenate([empty, *(part.voxels for part in made)]).astype(np.float32, copy=False)
    with np.errstate(invalid="ignore"):
        total = voxels.sum(axis=1, dtype=np.float64)  # neither NaN nor infinity gets lost in it
        bad = ~((voxels.min(axis=1) >= 0) & np.isfinite(total))
    if request.max_response is not None:
        bad |= total > request.max_response * request.energies[rows]
    lost = [~np.isfinite(part.layer_energies).all(axis=1) for part in made]
    blamed = "layer_energies" if bad.any() and np.concatenate(lost)[bad].all() else ""
    none = [np.zeros(len(part.voxels), dtype=np.int64) for part in made]
    vetoes = [zero if part.vetoes is None else part.vetoes for part, zero in zip(made, none, strict=True)]
    densities = [part.log_prob for part in made if part.log_prob is not None]
    log_prob = np.concatenate(densities) if densities else None
    return _Rows(voxels, bad, np.concatenate([np.zeros(0, dtype=np.int64), *vetoes]), log_prob, blamed)


def _require_shape(made: Sampled, request: BlockRequest, shape: tuple[int, int]) -> None:
    if made.voxels.shape != shape:
        raise BundleError(
            f"block {request.block}: the model returned an array of shape {made.voxels.shape}, "
            f"expected {shape}",
            hint="run `caloray model verify` on the bundle",
        )


def _failure(request: BlockRequest, last: _Rows) -> NumericalError:
    bad = last.bad
    ids = [request.first_id + int(row) for row in request.keep[bad]]
    faults = last.voxels[bad]
    negative = (faults < 0).any(axis=1)
    large = ~negative & np.isfinite(faults).all(axis=1)
    kinds = [f"{len(ids) - negative.sum() - large.sum()} with NaN or infinity", f"{negative.sum()} negative"]
    if request.max_response is not None:
        kinds.append(f"{large.sum()} with more than {request.max_response:g} times the incident energy")
    tried = f" after {request.max_attempts} redraws" if request.max_attempts else ""
    blamed = f" of component {last.component}" if last.component else ""
    blamed += ", above the scheme's max_ratio in every draw," if blamed and last.vetoes[bad].all() else ""
    shown = ", ".join(str(i) for i in ids[:10]) + (", ..." if len(ids) > 10 else "")
    return NumericalError(
        f"block {request.block}, seed {request.seed}: {len(ids)} showers{blamed} are invalid{tried} "
        f"({', '.join(kinds)}), ids {shown}",
        hint=f"make them again with: {request.command(ids[:10])}",
        block=request.block,
        seed=request.seed,
        ids=ids[:100],
        component=last.component,
    )


def _located(error: NumericalError, request: BlockRequest) -> NumericalError:
    ids = [request.first_id + int(row) for row in request.keep[:1]]
    return NumericalError(
        f"block {request.block}, seed {request.seed}: {error.message}",
        hint=f"make this block again with: {request.command(ids)}",
        **{**error.context, "block": request.block, "seed": request.seed},
    )
