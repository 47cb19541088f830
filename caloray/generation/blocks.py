"""One block of showers: asked of the model, checked row by row, redrawn where that is allowed."""

from __future__ import annotations

__all__ = ["BlockSampler", "Redraws", "draw_block"]

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from caloray.errors import BundleError, NumericalError
from caloray.geometry import Geometry
from caloray.preprocess.condition_range import ConditionRange

if TYPE_CHECKING:
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
    """

    block: int
    seed: int
    energies: np.ndarray
    keep: np.ndarray
    first_id: int
    max_attempts: int
    command: Callable[[list[int]], str]
    conditions: np.ndarray | None = None


def draw_block(sampler: BlockSampler, request: BlockRequest) -> tuple[np.ndarray, Redraws]:
    """Showers (k, n_voxels) float32 [MeV] of the kept rows of one block, all finite and not negative.

    Rows that are invalid at attempt a are replaced by the same rows of attempt a + 1; the outcome is a pure
    function of the request.

    Raises:
        NumericalError: Invalid showers that may not be redrawn, or that never became valid.
        BundleError: The model returned another shape than its geometry asks for.
    """
    made = _attempt(sampler, request, 0)
    voxels, bad, vetoed = made.voxels, made.bad, int(made.vetoes.sum())
    rows = draws = int(bad.sum())
    attempt = 0
    while bad.any():
        if attempt == request.max_attempts:
            raise _failure(request, voxels, bad, made)
        attempt += 1
        made = _attempt(sampler, request, attempt)
        voxels[bad] = made.voxels[bad]
        vetoed += int(made.vetoes[bad].sum())
        bad &= made.bad
        draws += int(bad.sum())
    return voxels, Redraws(rows, draws, attempt, vetoed)


@dataclass(frozen=True)
class _Attempt:
    """The kept rows of one draw.

    Args:
        voxels: (k, n_voxels) float32 [MeV].
        bad: (k,) which of them are invalid.
        vetoes: (k,) draws of layer energies that the scheme threw away.
        component: The one to blame, if it is known.
    """

    voxels: np.ndarray
    bad: np.ndarray
    vetoes: np.ndarray
    component: str = ""


def _attempt(sampler: BlockSampler, request: BlockRequest, attempt: int) -> _Attempt:
    shape = (len(request.energies), sampler.geometry.n_voxels)
    none = np.zeros(len(request.keep), dtype=np.int64)
    try:
        made = sampler.make_block(request.energies, request.seed, request.block, attempt, request.conditions)
    except NumericalError as error:
        if request.max_attempts == 0:
            raise _located(error, request) from error
        missing = np.full((len(request.keep), shape[1]), np.nan, dtype=np.float32)
        component = str(error.context.get("component", ""))
        return _Attempt(missing, np.ones(len(missing), dtype=bool), none, component)
    if made.voxels.shape != shape:
        raise BundleError(
            f"block {request.block}: the model returned an array of shape {made.voxels.shape}, "
            f"expected {shape}",
            hint="run `caloray model verify` on the bundle",
        )
    voxels = np.array(made.voxels[request.keep], dtype=np.float32)
    bad = np.logical_not((np.isfinite(voxels) & (voxels >= 0)).all(axis=1))
    vetoes = none if made.vetoes is None else made.vetoes[request.keep]
    lost = np.logical_not(np.isfinite(made.layer_energies[request.keep]).all(axis=1))
    blamed = "layer_energies" if bad.any() and lost[bad].all() else ""
    return _Attempt(voxels, bad, vetoes, blamed)


def _failure(request: BlockRequest, voxels: np.ndarray, bad: np.ndarray, last: _Attempt) -> NumericalError:
    ids = [request.first_id + int(row) for row in request.keep[bad]]
    faults = voxels[bad]
    negative = int((faults < 0).any(axis=1).sum())
    tried = f" after {request.max_attempts} redraws" if request.max_attempts else ""
    blamed = f" of component {last.component}" if last.component else ""
    blamed += ", above the scheme's max_ratio in every draw," if blamed and last.vetoes[bad].all() else ""
    shown = ", ".join(str(i) for i in ids[:10]) + (", ..." if len(ids) > 10 else "")
    return NumericalError(
        f"block {request.block}, seed {request.seed}: {len(ids)} showers{blamed} are invalid{tried} "
        f"({len(ids) - negative} with NaN or infinity, {negative} negative), ids {shown}",
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
