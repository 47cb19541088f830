"""What a production would take, told before it starts: files, bytes, hours, free disk."""

from __future__ import annotations

__all__ = ["Forecast", "Trial", "forecast", "try_out"]

import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from caloray.generation.campaign import CampaignModel, CampaignRequest, plan_campaign
from caloray.generation.particle_sources import FileParticles, GridParticles, ParticleSpec
from caloray.generation.plan import GenerationPlan
from caloray.generation.shard import make_shard

TRIED = 2
"""Blocks that are timed."""


@dataclass(frozen=True)
class Trial:
    """What some blocks took on this machine.

    Args:
        seconds: Wall time of one worker for a shower, from the particle to the file.
        bytes: What a shower took on disk.
        device: Where it was sampled.
    """

    seconds: float
    bytes: float
    device: str


@dataclass(frozen=True)
class Forecast:
    """What a production would take.

    Args:
        plan: The request.
        bytes: On disk.
        free: Bytes that are free there now.
        worker_hours: Hours of one worker, if blocks were timed.
        hours: Wall time, if the number of workers is known as well.
        trial: What was timed.
    """

    plan: GenerationPlan
    bytes: int
    free: int
    worker_hours: float | None
    hours: float | None
    trial: Trial | None

    @property
    def fits(self) -> bool:
        """Whether the disk has room."""
        return self.bytes < self.free


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
    place = directory.absolute()
    while not place.exists():
        place = place.parent
    size = plan.estimated_bytes if trial is None else int(trial.bytes * plan.rows)
    worker_hours = None if trial is None else trial.seconds * plan.rows / 3600
    hours = None if worker_hours is None or not workers else worker_hours / min(workers, plan.n_shards)
    return Forecast(plan, size, shutil.disk_usage(place).free, worker_hours, hours, trial)


def try_out(request: CampaignRequest, model: CampaignModel, rows: int) -> Trial:
    """Make a few blocks of a campaign in a temporary folder, after one that warms up, and time them.

    They are spread evenly over a spectrum or grid; of a file the first ones are taken.

    Args:
        request: The campaign.
        model: Its model.
        rows: Particles of the campaign.
    """
    few = request.model_copy(
        update={"particles": _few(request.particles, min(rows, TRIED * model.block_size))}
    )
    few = few.model_copy(update={"rows_per_shard": model.block_size})
    with tempfile.TemporaryDirectory(prefix="caloray-") as name:
        places = [Path(name) / word for word in ("warm", "timed")]
        for place in places:
            place.mkdir()
        plan, _ = plan_campaign(few, model, places[0])
        make_shard(model, plan, 0, places[0])
        plan, _ = plan_campaign(few, model, places[1])
        chosen = sorted({(2 * i + 1) * plan.n_shards // (2 * TRIED) for i in range(TRIED)})
        began = time.perf_counter()
        receipts = [make_shard(model, plan, index, places[1]) for index in chosen]
        seconds = time.perf_counter() - began
    planned = sum(receipt.planned for receipt in receipts)
    size = sum(receipt.bytes for receipt in receipts)
    numerics = receipts[0].numerics
    return Trial(seconds / planned, size / planned, f"{numerics.get('device')} {numerics.get('backend')}")


def _few(particles: ParticleSpec, rows: int) -> ParticleSpec:
    """Particles like those of a campaign, in a list that is quickly written."""
    match particles:
        case FileParticles():
            return particles.model_copy(update={"n": rows})
        case GridParticles():
            return particles.model_copy(update={"repeat": 1})
        case _:
            return particles
