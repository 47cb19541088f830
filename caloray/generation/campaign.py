"""A campaign of mass production: what its file asks for, and the plan that comes of it."""

from __future__ import annotations

__all__ = ["CampaignModel", "CampaignRequest", "plan_campaign"]

import logging
import os
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Protocol

from pydantic import BaseModel, ConfigDict, Field, field_validator

from caloray.atomic import require_space, sha256_file
from caloray.errors import CaloRayError, ConfigError
from caloray.generation.blocks import BlockSampler
from caloray.generation.claim import refuse_other, refuse_strangers
from caloray.generation.control import QualitySettings
from caloray.generation.output import require_room_in_manifest
from caloray.generation.particle_lists import PlannedParticles, resolve_particles
from caloray.generation.particle_sources import Domain, FileParticles, ParticleSpec, SpectrumParticles
from caloray.generation.plan import (
    PLAN,
    ZSTD_SHARE,
    GenerationPlan,
    Invalid,
    ParticleSource,
    Production,
    make_plan,
)
from caloray.io.lock import exclusive
from caloray.io.particle_table import PARTICLES
from caloray.io.shards import Layout

logger = logging.getLogger(__name__)
HIT_BYTES, ROW_BYTES = 5.0, 80.0
"""What a hit voxel and a shower's other columns take in a sparse shard."""
LISTED_BYTES = 1.0
"""What a particle takes in a list at the least, compressed."""
SMALLEST_SHARE = 0.25
"""Of the size of a file of particles is that of the list, at the least."""
MANY = 5_000_000
"""Particles from which on it is said that they are being listed."""
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

    @field_validator("bundle", "output")
    @classmethod
    def _at_home(cls, path: Path) -> Path:
        """``~`` is the user's home, as a shell would have it."""
        return Path(os.path.expanduser(path))  # noqa: PTH111  (Path's own raises where there is no home)


def plan_campaign(
    request: CampaignRequest,
    model: CampaignModel,
    directory: Path,
    ids: Sequence[int] | None = None,
    *,
    write: bool = True,
    spelled: Sequence[str] = ("CAMPAIGN.yaml",),
) -> tuple[GenerationPlan, tuple[str, ...]]:
    """The plan of a campaign; a list of particles is brought into ``<directory>/particles.parquet`` first.

    What is refused leaves nothing behind but the lock.

    Args:
        request: The campaign.
        model: Its model.
        directory: Output directory.
        ids: Make only these showers.
        write: Whether anything may be written.
        spelled: The words behind ``caloray produce`` that name the campaign, for messages.

    Returns:
        The plan, and the columns of the list of particles that the model makes no use of.

    Raises:
        ConfigError: A number, energy or condition that does not fit, particles outside the trained ranges,
            more shards than a manifest lists.
        DataError: A list that cannot be read, or of unphysical particles.
        StorageError: The directory is another request's, is in use, or the disk has not enough room.
        IntegrityError: The plan that is there is damaged.
    """

    def resolved(*, keep: bool) -> PlannedParticles:
        domain = request.domain
        ranges = (model.energy_range, model.conditions)
        return resolve_particles(request.particles, *ranges, directory, domain, write=keep)

    refuse_strangers(directory)  # before the lock: whoever is refused leaves nothing here
    listed = directory / PARTICLES
    with exclusive(directory) if write else nullcontext():
        refuse_strangers(directory)
        taken, there = (directory / PLAN).exists(), listed.exists()
        if not taken:
            _require_room(request, model, directory, ids)
        careful = write and taken and not there
        particles = resolved(keep=write and not careful)
        plan = _planned(request, model, particles, ids)
        plan = plan.model_copy(update={"campaign": tuple(spelled)})
        try:
            _admit(plan, directory, write=write and not taken)
        except CaloRayError:
            if write and not there and not taken:
                listed.unlink(missing_ok=True)
            raise
        if write and not taken:
            plan = plan.model_copy(update={"sources": _sources(request.particles)})
        if careful:
            resolved(keep=True)
    return plan, particles.unused


def _admit(plan: GenerationPlan, directory: Path, *, write: bool) -> None:
    """Refuse a plan that the directory or the manifest has no room for; ``write``: or the disk."""
    refuse_other(plan, directory)
    require_room_in_manifest(plan.n_shards, len(plan.blocks) * plan.block_size, plan.block_size)
    if write:
        require_space(directory, plan.estimated_bytes)


def _require_room(
    request: CampaignRequest, model: CampaignModel, directory: Path, ids: Sequence[int] | None
) -> None:
    """Refuse what cannot fit, as far as that is known before the particles are looked at."""
    spec, block = request.particles, model.block_size
    if isinstance(spec, FileParticles) and spec.n is None:
        with suppress(OSError):  # whoever reads it says what is wrong
            share = 0.0 if spec.pdg else SMALLEST_SHARE
            require_space(directory, int(share * spec.path.stat().st_size))
        return
    rows = (spec.n or 0) if isinstance(spec, FileParticles | SpectrumParticles) else spec.rows
    per_list = 0.0 if isinstance(spec, SpectrumParticles) else LISTED_BYTES
    blocks = -(-rows // block)
    if ids is None:
        shards = -(-blocks // max(1, request.rows_per_shard // block))
        require_room_in_manifest(shards, rows, block)
        per_list += _shower_bytes(request, model) or 16 + 4 * model.geometry.n_voxels * ZSTD_SHARE
    require_space(directory, int(per_list * rows))
    if rows >= MANY and not isinstance(spec, SpectrumParticles):
        logger.info("%d particles are looked at first", rows)


def _sources(spec: ParticleSpec) -> tuple[ParticleSource, ...]:
    """The file that a list is made of; it may be gone when the list is there already."""
    if not isinstance(spec, FileParticles):
        return ()
    with suppress(OSError):
        return (ParticleSource(path=str(spec.path), sha256=sha256_file(spec.path)),)
    return ()


def _shower_bytes(request: CampaignRequest, model: CampaignModel) -> float | None:
    """What a shower takes in a sparse shard; None where nobody knows."""
    hits = model.hits_per_shower
    return None if request.format != "sparse" or hits is None else ROW_BYTES + HIT_BYTES * hits


def _planned(
    request: CampaignRequest, model: CampaignModel, particles: PlannedParticles, ids: Sequence[int] | None
) -> GenerationPlan:
    limit = request.max_response
    try:
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
            shower_bytes=_shower_bytes(request, model),
        )
    except ConfigError as error:
        raise ConfigError(error.message, hint=_hint(error.hint), **error.context) from error


def _hint(hint: str) -> str:
    """What to do about it in a campaign, which has other words than ``caloray generate``."""
    if "--repeat-energies" in hint:
        return "list as many energies as particles.n, or set particles.energies.repeat: true"
    return "see docs/production.md" if "caloray generate" in hint else hint
