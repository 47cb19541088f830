"""What a production would take, told before it starts: files, bytes, hours, free disk."""

from __future__ import annotations

__all__ = ["Forecast", "Trial", "forecast", "try_out"]

import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from caloray.atomic import free_bytes
from caloray.errors import IntegrityError, StorageError
from caloray.generation.campaign import CampaignModel, CampaignRequest, plan_campaign
from caloray.generation.particle_sources import FileParticles, GridParticles, ParticleSpec
from caloray.generation.plan import PLAN, GenerationPlan
from caloray.generation.receipts import read_receipt
from caloray.generation.shard import make_shard
from caloray.generation.totals import Totals
from caloray.quality.reference import QualityReference

TRIED = 2
"""Blocks that are timed."""


@dataclass(frozen=True)
class Trial:
    """What some blocks took on this machine.

    Args:
        seconds: Wall time of one worker for a shower, from the particle to the file; None: nobody knows, the
            workers have something that this machine has not.
        bytes: What a shower took on disk.
        device: Where it was sampled.
    """

    seconds: float | None
    bytes: float
    device: str


@dataclass(frozen=True)
class Forecast:
    """What a production would take.

    Args:
        plan: The request.
        done: Showers that are there already, by their receipts.
        bytes: What the others take on disk.
        free: Bytes that are free there now.
        worker_hours: Hours of one worker, if blocks were timed.
        hours: Wall time, if the number of workers is known as well.
        trial: What was timed.
    """

    plan: GenerationPlan
    done: int
    bytes: int
    free: int
    worker_hours: float | None
    hours: float | None
    trial: Trial | None

    @property
    def fits(self) -> bool:
        """Whether the disk has room."""
        return self.bytes <= self.free


def forecast(
    plan: GenerationPlan, directory: Path, workers: int | None = None, trial: Trial | None = None
) -> Forecast:
    """Put the numbers of a plan together.

    Args:
        plan: The request.
        directory: Where it would go.
        workers: How many would work at the same time; None: nobody knows.
        trial: What some of its blocks took.
    """
    done = _done(plan, directory)
    rows, shards = plan.rows - done.planned, max(1, plan.n_shards - done.shards)
    per_row = plan.estimated_bytes / plan.rows if trial is None else trial.bytes
    seconds = None if trial is None else trial.seconds
    worker_hours = None if seconds is None else seconds * rows / 3600
    hours = None if worker_hours is None or not workers else worker_hours / min(workers, shards)
    size = int(per_row * rows)
    return Forecast(plan, done.planned, size, free_bytes(directory), worker_hours, hours, trial)


def _done(plan: GenerationPlan, directory: Path) -> Totals:
    """What an earlier run has made; its receipts are believed."""
    totals = Totals()
    for index in range(plan.n_shards if (directory / PLAN).exists() else 0):
        try:
            receipt = read_receipt(directory, plan, index)
        except IntegrityError:
            continue
        if receipt is not None:
            totals.add(receipt)
    return totals


def try_out(
    request: CampaignRequest,
    model: CampaignModel,
    rows: int,
    reference: QualityReference | None = None,
) -> Trial:
    """Make a few blocks of a campaign in a temporary folder, after one that warms up, and time them.

    They are spread evenly over a spectrum or grid; of a file the first ones are taken.

    Args:
        request: The campaign.
        model: Its model.
        rows: Particles of the campaign.
        reference: Count the showers' observables for a comparison with it, as the workers do.

    Raises:
        StorageError: No folder for temporary files can be written into.
    """
    wanted = min(rows, TRIED * model.block_size)
    changes: Mapping[str, Any] = {
        "particles": _few(request.particles, wanted),
        "rows_per_shard": model.block_size,
    }
    few = request.model_copy(update=changes)
    with _somewhere() as folder:
        places = [folder / word for word in ("warm", "timed")]
        for place in places:
            place.mkdir()
        plan, _ = plan_campaign(few, model, places[0])
        make_shard(model, plan, 0, places[0], reference=reference)
        plan, _ = plan_campaign(few, model, places[1])
        chosen = sorted({(2 * i + 1) * plan.n_shards // (2 * TRIED) for i in range(TRIED)})
        began = time.perf_counter()
        receipts = [make_shard(model, plan, index, places[1], reference=reference) for index in chosen]
        seconds = time.perf_counter() - began
    planned = sum(receipt.planned for receipt in receipts)
    size = sum(receipt.bytes for receipt in receipts)
    numerics = receipts[0].numerics
    return Trial(seconds / planned, size / planned, f"{numerics.get('device')} {numerics.get('backend')}")


@contextmanager
def _somewhere() -> Iterator[Path]:
    """A temporary folder."""
    try:
        folder = tempfile.TemporaryDirectory(prefix="caloray-")
    except OSError as error:
        raise StorageError(
            f"no folder for temporary files ({error.strerror or error})",
            hint="set TMPDIR to one that can be written into, or pass --no-timing",
        ) from error
    with folder as name:
        yield Path(name)


def _few(particles: ParticleSpec, rows: int) -> ParticleSpec:
    """Particles like those of a campaign, in a list that is quickly written."""
    match particles:
        case FileParticles():
            return particles.model_copy(update={"n": rows})
        case GridParticles():
            return _thinned(particles, rows)
        case _:
            return particles


def _thinned(grid: GridParticles, rows: int) -> GridParticles:
    """A grid over the same ranges with about ``rows`` particles: its longest axes lose points."""
    axes: dict[str, tuple[float, ...]] = {
        "energies": grid.energies,
        "theta": grid.theta or (),
        "phi": grid.phi,
    }
    axes |= {f"conditions.{name}": values for name, values in grid.conditions.items()}
    while int(np.prod([max(1, len(values)) for values in axes.values()], dtype=float)) > rows:
        name = max(axes, key=lambda axis: len(axes[axis]))
        values = axes[name]
        kept = np.linspace(0, len(values) - 1, (len(values) + 1) // 2) if len(values) > 2 else np.zeros(1)
        axes[name] = tuple(values[int(at)] for at in kept)
    points = int(np.prod([max(1, len(values)) for values in axes.values()]))
    return grid.model_copy(
        update={
            "energies": axes["energies"],
            "theta": axes["theta"] or None,
            "phi": axes["phi"],
            "conditions": {name: axes[f"conditions.{name}"] for name in grid.conditions},
            "repeat": min(grid.repeat, max(1, rows // points)),
        }
    )
