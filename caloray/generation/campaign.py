"""A campaign of mass production: what its file asks for, and the plan that comes of it."""

from __future__ import annotations

__all__ = ["CampaignModel", "CampaignRequest", "plan_campaign"]

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Protocol

from pydantic import BaseModel, ConfigDict, Field

from caloray.generation.blocks import BlockSampler
from caloray.generation.control import QualitySettings
from caloray.generation.output import refuse_other
from caloray.generation.particle_lists import PlannedParticles, resolve_particles
from caloray.generation.particle_sources import Domain, ParticleSpec
from caloray.generation.plan import PLAN, GenerationPlan, Invalid, Production, make_plan
from caloray.io.lock import exclusive
from caloray.io.manifest import MANIFEST
from caloray.io.particle_table import PARTICLES
from caloray.io.shards import Layout

HIT_BYTES, ROW_BYTES = 5.0, 80.0
"""What a hit voxel and a shower's other columns take in a sparse shard."""
SPARE_RESPONSE = 1.5
"""By default a shower may have this times the largest response of the training split."""


class CampaignModel(BlockSampler, Protocol):
    """A sampler that also knows its training data; :class:`caloray.bundle.Bundle` is one."""

    @property
    def largest_response(self) -> float:
        """Largest energy of a training shower, in units of its incident energy."""
        ...

    @property
    def hits_per_shower(self) -> float | None:
        """Mean number of hit voxels, if it is known."""
        ...


class CampaignRequest(BaseModel):
    """What is produced, whoever does it.

    Args:
        name: Name of the campaign in MLflow.
        bundle: The model.
        output: The campaign's directory.
        seed: Of the showers, and of particles that are drawn.
        particles: Who comes in: drawn from a spectrum, read from a file, or a grid.
        domain: What is done about particles outside the trained ranges: "error" refuses the campaign, "flag"
            makes them and marks them, "skip" leaves them out and lists them for the full simulation.
        on_invalid: What is done about showers with NaN, infinity, negative or far too much energy.
        max_attempts: Redraws that such a shower may have.
        max_response: A shower with more than this times the incident energy is invalid; None: 1.5 times the
            largest of the training split; 0: none is.
        likelihood: Add the column ``log_prob``, the log density of each shower under the flows.
        format: "sparse" (hit voxels) or "dense" (all voxels) shards.
        rows_per_shard: Showers in one file, rounded down to whole blocks.
        quality: Comparison with the bundle's reference while showers are made.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    bundle: Path
    output: Path
    seed: int = Field(default=1, ge=0, lt=1 << 64)
    particles: ParticleSpec
    domain: Domain = "error"
    on_invalid: Invalid = "resample"
    max_attempts: int = Field(default=10, ge=1, le=100)
    max_response: float | None = Field(default=None, ge=0)
    likelihood: bool = False
    format: Layout = "sparse"
    rows_per_shard: int = Field(default=10_000, ge=1)
    quality: QualitySettings = QualitySettings()


def plan_campaign(
    request: CampaignRequest,
    model: CampaignModel,
    directory: Path,
    ids: Sequence[int] | None = None,
    *,
    write: bool = True,
) -> tuple[GenerationPlan, tuple[str, ...]]:
    """The plan of a campaign; a list of particles is brought into ``<directory>/particles.parquet`` first.

    Args:
        request: The campaign.
        model: Its model.
        directory: Output directory.
        ids: Make only these showers.
        write: Whether anything may be written.

    Returns:
        The plan, and the columns of the list of particles that the model makes no use of.

    Raises:
        ConfigError: A number, energy or condition that does not fit, particles outside the trained ranges.
        DataError: A list that cannot be read, or of unphysical particles.
        StorageError: The directory is another request's, or is in use.
    """

    def resolved(*, keep: bool) -> PlannedParticles:
        domain = request.domain
        ranges = (model.energy_range, model.conditions)
        return resolve_particles(request.particles, *ranges, directory, domain, write=keep)

    with exclusive(directory) if write else nullcontext():
        # A directory that is somebody else's is refused before a list is written into it.
        taken = any((directory / name).exists() for name in (PLAN, MANIFEST))
        careful = write and taken and not (directory / PARTICLES).exists()
        particles = resolved(keep=write and not careful)
        plan = _planned(request, model, particles, ids)
        if write:
            refuse_other(plan, directory)
        if careful:
            resolved(keep=True)
    return plan, particles.unused


def _planned(
    request: CampaignRequest, model: CampaignModel, particles: PlannedParticles, ids: Sequence[int] | None
) -> GenerationPlan:
    limit = request.max_response
    hits = model.hits_per_shower
    sparse = request.format == "sparse" and hits is not None
    return make_plan(
        model,
        particles.n,
        request.seed,
        energies=particles.energies,
        conditions=particles.conditions,
        ids=ids,
        blocks_per_shard=max(1, request.rows_per_shard // model.block_size),
        on_invalid=request.on_invalid,
        max_attempts=request.max_attempts,
        allow_extrapolation=request.domain != "error",
        bundle=str(request.bundle),
        production=Production(
            particles=particles.identity,
            domain=request.domain,
            max_response=(SPARE_RESPONSE * model.largest_response if limit is None else limit) or None,
            likelihood=request.likelihood,
            format=request.format,
        ),
        shower_bytes=ROW_BYTES + HIT_BYTES * (hits or 0.0) if sparse else None,
    )
