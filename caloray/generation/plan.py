"""The plan of a request: which showers, in which blocks, in which shards.

Showers depend on (bundle, seed, energies, conditions, block) only. The plan adds the layout (blocks per
shard) and the number of events; its digest covers all of it and names the one request that may write into a
directory.
"""

from __future__ import annotations

__all__ = [
    "GenerationPlan",
    "ParticleSource",
    "Production",
    "ShardPlan",
    "count_events",
    "make_plan",
    "read_plan",
]

import json
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from caloray.atomic import digest_json
from caloray.errors import CaloRayError, ConfigError, IntegrityError, StorageError
from caloray.generation.blocks import BlockSampler
from caloray.generation.condition_words import spell_conditions
from caloray.generation.conditions import ConditionSpec, check_conditions, resolve_conditions
from caloray.generation.energies import (
    EnergySpec,
    FromFile,
    FromTable,
    Listed,
    LogUniform,
    Uniform,
    check_range,
    resolve,
)
from caloray.generation.particle_sources import Domain, ParticleIdentity
from caloray.geometry import Geometry
from caloray.io.shards import Layout

Invalid = Literal["error", "resample"]
PLAN = "plan.json"
ROWS_PER_SHARD = 2000
MAX_IDS = 100_000
ZSTD_SHARE = 0.25
"""Typical size of a compressed shard against its plain float32 voxels, for the estimate before writing."""


@dataclass(frozen=True)
class ShardPlan:
    """One shard: its position, its blocks and how many showers it will hold."""

    index: int
    blocks: tuple[int, ...]
    rows: int

    @property
    def path(self) -> str:
        """Path of the shard relative to the output directory."""
        return f"shards/shard-{self.index:05d}.parquet"


class Production(BaseModel):
    """What a campaign asks for beyond a plain request.

    Args:
        particles: Where run, event and particle numbers come from.
        domain: What is done about particles outside the trained ranges.
        max_response: A shower whose energy is above this times E_inc is invalid; None: none is.
        likelihood: Whether each shower carries its log density under the flows.
        format: Layout of the shards.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    particles: ParticleIdentity
    domain: Domain = "error"
    max_response: float | None = Field(default=None, gt=0)
    likelihood: bool = False
    format: Layout = "sparse"


class ParticleSource(BaseModel):
    """A file that a campaign's list of particles was made of: where it was, and its sha256."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    sha256: str


class GenerationPlan(BaseModel):
    """Everything that a request is made of.

    ``bundle`` is only where the model was found; its ``bundle_digest`` is what counts. ``shower_bytes``, the
    bytes that a shower is expected to take, only helps to judge the disk. ``sources`` are for the manifest,
    and ``campaign``, the words behind ``caloray produce`` that name the campaign, for messages.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    format: Literal[1] = 1
    bundle: str = ""
    bundle_digest: str
    geometry: dict[str, Any]
    n: int = Field(ge=1, lt=1 << 53)
    seed: int = Field(ge=0, lt=1 << 64)
    ids: tuple[Annotated[int, Field(ge=0)], ...] | None = None
    energies: EnergySpec
    conditions: tuple[ConditionSpec, ...] = ()
    energy_range: tuple[float, float]
    allow_extrapolation: bool = False
    on_invalid: Invalid = "error"
    max_attempts: int = Field(default=10, ge=1, le=100)
    block_size: int = Field(ge=1)
    blocks_per_shard: int = Field(ge=1)
    production: Production | None = None
    shower_bytes: float | None = Field(default=None, gt=0)
    sources: tuple[ParticleSource, ...] = ()
    campaign: tuple[str, ...] = Field(default=("CAMPAIGN.yaml",), exclude=True)

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Keys that came later are left out where they say nothing: digests of older plans stay the same."""
        value: dict[str, Any] = handler(self)
        for name in ("conditions", "production", "shower_bytes", "sources"):
            if not getattr(self, name):
                value.pop(name, None)
        return value

    @model_validator(mode="after")
    def _ids_exist(self) -> GenerationPlan:
        if self.ids is not None:
            if not 0 < len(self.ids) <= MAX_IDS or list(self.ids) != sorted(set(self.ids)):
                raise ValueError(f"ids must be 1 to {MAX_IDS} different numbers in ascending order")
            if self.ids[-1] >= self.n:
                raise ValueError(f"id {self.ids[-1]} does not exist, events are 0 to {self.n - 1}")
        return self

    @cached_property
    def digest(self) -> str:
        """sha256 over the request and its layout; paths of files do not count, their content does."""
        return digest_json(self.identity())

    def identity(self) -> dict[str, Any]:
        """What the digest covers, as JSON."""
        fields = self.model_dump(mode="json", exclude={"bundle", "shower_bytes", "sources"})
        fields["geometry"] = self.readout.digest
        for spec in (fields["energies"], *fields.get("conditions", ())):
            spec.pop("path", None)
        fields["energies"].pop("sha256", None)  # of a table; the Parquet library decides on its bytes
        return fields

    @cached_property
    def readout(self) -> Geometry:
        """The geometry of the showers."""
        return Geometry.from_dict(dict(self.geometry))

    @property
    def rows(self) -> int:
        """Showers that will be written."""
        return self.n if self.ids is None else len(self.ids)

    @cached_property
    def blocks(self) -> Sequence[int]:
        """The blocks that have to be made, ascending."""
        if self.ids is None:
            return range(-(-self.n // self.block_size))
        return sorted({i // self.block_size for i in self.ids})

    @property
    def n_shards(self) -> int:
        """Number of shards."""
        return -(-len(self.blocks) // self.blocks_per_shard)

    def shard(self, index: int) -> ShardPlan:
        """Shard number ``index``."""
        first = index * self.blocks_per_shard
        blocks = tuple(self.blocks[first : first + self.blocks_per_shard])
        return ShardPlan(index, blocks, sum(len(self.kept(block)) for block in blocks))

    def kept(self, block: int) -> np.ndarray:
        """Event ids of ``block`` that are written, (k,) int64."""
        start = block * self.block_size
        ids = np.arange(start, min(start + self.block_size, self.n), dtype=np.int64)
        return ids if self.ids is None else ids[np.isin(ids, np.array(self.ids, dtype=np.int64))]

    @property
    def estimated_bytes(self) -> int:
        """Rough size of all shards on disk."""
        return int(self.rows * (self.shower_bytes or 16 + 4 * self.readout.n_voxels * ZSTD_SHARE))

    def command(self, ids: Sequence[int]) -> str:
        """The command line that makes the showers ``ids`` of this request again."""
        if self.production is not None:
            named = ["caloray", "produce", *self.campaign, "--ids", ",".join(map(str, ids))]
            return shlex.join([*named, "--set", "output=repro"])
        words = ["caloray", "generate", self.bundle or "BUNDLE", "-n", str(self.n), "--seed", str(self.seed)]
        words += ["--energies", _spell(self.energies), "--on-invalid", self.on_invalid]
        lists = (self.energies, *self.conditions)
        words += ["--repeat-energies"] if any(getattr(spec, "repeat", False) for spec in lists) else []
        words += spell_conditions(self.conditions)
        words += ["--allow-extrapolation"] if self.allow_extrapolation else []
        return shlex.join([*words, "--ids", ",".join(str(i) for i in ids), "-o", "repro"])


@contextmanager
def _refusals() -> Iterator[None]:
    """What a plan does not take, as an error of ours."""
    try:
        yield
    except ValidationError as error:
        reason = error.errors()[0]
        where = "".join(f"{part}: " for part in reason["loc"])
        message = f"generation: {where}{reason['msg'].removeprefix('Value error, ')}"
        raise ConfigError(message, hint="see `caloray generate --help`") from error


@_refusals()
def make_plan(
    sampler: BlockSampler,
    n: int | None = None,
    seed: int = 0,
    *,
    energies: EnergySpec | None = None,
    conditions: Sequence[ConditionSpec] = (),
    ids: Sequence[int] | None = None,
    blocks_per_shard: int | None = None,
    on_invalid: Invalid = "error",
    max_attempts: int = 10,
    allow_extrapolation: bool = False,
    bundle: str = "",
    production: Production | None = None,
    shower_bytes: float | None = None,
) -> GenerationPlan:
    """Plan a request and refuse it here if it cannot be carried out.

    Args:
        sampler: The model.
        n: Number of events; may be left out when a list or file of energies, or ``ids``, tells it.
        seed: Of the request.
        energies: Where they come from; log-uniform over the trained range when omitted.
        conditions: Where they come from; what is not given is taken from a file of particles.
        ids: Make only these events of the request.
        blocks_per_shard: Layout; about 2000 showers per shard when omitted.
        on_invalid: What to do about invalid showers.
        max_attempts: Redraws that each may have.
        allow_extrapolation: Permit energies and conditions outside the trained ranges.
        bundle: Path of the model, for messages.
        production: What a campaign asks for beyond that.
        shower_bytes: Expected bytes of a shower on disk.

    Raises:
        ConfigError: A number, range, condition or list that does not fit.
        DataError: Energies that are not positive numbers.
    """
    wanted = None if ids is None else tuple(sorted({int(i) for i in ids}))
    total = count_events(spec := resolve(energies or _trained(sampler)), n, wanted)
    check_range(spec, sampler.energy_range, allow_extrapolation=allow_extrapolation)
    given = resolve_conditions(conditions, spec, [item.name for item in sampler.conditions])
    check_conditions(given, sampler.conditions, total, allow_extrapolation=allow_extrapolation)
    return GenerationPlan(
        bundle=bundle,
        bundle_digest=sampler.digest,
        geometry=sampler.geometry.to_dict(),
        n=total,
        seed=seed,
        ids=wanted,
        energies=spec,
        conditions=given,
        energy_range=sampler.energy_range,
        allow_extrapolation=allow_extrapolation,
        on_invalid=on_invalid,
        max_attempts=max_attempts,
        block_size=sampler.block_size,
        blocks_per_shard=blocks_per_shard or max(1, ROWS_PER_SHARD // sampler.block_size),
        production=production,
        shower_bytes=shower_bytes,
    )


def read_plan(directory: Path) -> GenerationPlan:
    """The plan that ``directory`` belongs to.

    Raises:
        StorageError: There is none.
        IntegrityError: It cannot be read, or was altered.
    """
    path = directory / PLAN
    try:
        value = json.loads(path.read_bytes())
        if not isinstance(value, dict) or not {"digest", "plan"} <= set(value):
            raise ValueError("it holds something else")
        plan = GenerationPlan.model_validate(value["plan"])
        if plan.digest != value["digest"]:
            raise ValueError("its digest does not fit its content")
    except (FileNotFoundError, NotADirectoryError) as error:
        hint = "give the output directory of `caloray produce` or `caloray generate`"
        raise StorageError(f"{directory}: no {PLAN} here", hint=hint) from error
    except (OSError, ValueError, KeyError, TypeError, RecursionError, CaloRayError) as error:
        hint = "put the file back, or run the command that made the directory again, into another one"
        raise IntegrityError(f"{path}: not a readable plan ({_reason(error)})", hint=hint) from error
    return plan


def _reason(error: Exception) -> str:
    """Why a plan is none, in a line."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error).split("\n", maxsplit=1)[0]


def _trained(sampler: BlockSampler) -> LogUniform:
    low, high = sampler.energy_range
    return LogUniform(min=low, max=high)


def count_events(spec: EnergySpec, n: int | None, ids: tuple[int, ...] | None = None) -> int:
    """The number of events: asked for, or told by the (resolved) energies or the highest id.

    Raises:
        ConfigError: Nothing tells it, or it does not fit the listed energies.
    """
    rows = _rows(spec)
    if rows is None:
        if n is None and not ids:
            raise ConfigError("generation: how many showers?", hint="pass -n, or energies that are listed")
        return n if n is not None else max(ids or ()) + 1
    short = n is not None and (n > rows or (isinstance(spec, Listed) and n != rows))
    if short:
        raise ConfigError(
            f"generation: {n} showers from {rows} incident energies",
            hint="leave -n out, give as many energies as showers, or pass --repeat-energies",
        )
    return n if n is not None else rows


def _rows(spec: EnergySpec) -> int | None:
    match spec:
        case Listed(repeat=False):
            return len(spec.values)
        case FromFile(repeat=False) | FromTable():
            return spec.rows
        case _:
            return None


def _spell(spec: EnergySpec) -> str:
    match spec:
        case LogUniform() | Uniform():
            return f"{spec.kind}:{spec.min!r}:{spec.max!r}"
        case Listed():
            return ",".join(repr(value) for value in spec.values)
        case FromFile() | FromTable():
            return str(spec.path)
