"""The plan of a request: which showers, in which blocks, in which shards.

Showers depend on (bundle, seed, energies, conditions, block) only. The plan adds the layout (blocks per
shard) and the number of events; its digest covers all of it and names the one request that may write into a
directory.
"""

from __future__ import annotations

__all__ = ["GenerationPlan", "ShardPlan", "count_events", "make_plan"]

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
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
from caloray.errors import ConfigError
from caloray.generation.blocks import BlockSampler
from caloray.generation.condition_words import spell_conditions
from caloray.generation.conditions import ConditionSpec, check_conditions, resolve_conditions
from caloray.generation.energies import (
    EnergySpec,
    FromFile,
    Listed,
    LogUniform,
    Uniform,
    check_range,
    resolve,
)
from caloray.geometry import Geometry

Invalid = Literal["error", "resample"]
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


class GenerationPlan(BaseModel):
    """Everything that a request is made of.

    ``bundle`` is only where the model was found; its ``bundle_digest`` is what counts.
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

    @model_serializer(mode="wrap")
    def _as_before_conditions(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without conditions the key is left out, so that digests of older plans stay what they were."""
        value: dict[str, Any] = handler(self)
        if not self.conditions:
            value.pop("conditions", None)
        return value

    @model_validator(mode="after")
    def _ids_exist(self) -> GenerationPlan:
        if self.ids is not None:
            if not 0 < len(self.ids) <= MAX_IDS or list(self.ids) != sorted(set(self.ids)):
                raise ValueError(f"ids must be 1 to {MAX_IDS} different numbers in ascending order")
            if self.ids[-1] >= self.n:
                raise ValueError(f"id {self.ids[-1]} does not exist among {self.n} events")
        return self

    @cached_property
    def digest(self) -> str:
        """sha256 over the request and its layout; paths of files do not count, their content does."""
        return digest_json(self.identity())

    def identity(self) -> dict[str, Any]:
        """What the digest covers, as JSON."""
        fields = self.model_dump(mode="json", exclude={"bundle"})
        fields["geometry"] = self.readout.digest
        for spec in (fields["energies"], *fields.get("conditions", ())):
            spec.pop("path", None)
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
        return int(self.rows * (16 + 4 * self.readout.n_voxels * ZSTD_SHARE))

    def command(self, ids: Sequence[int]) -> str:
        """The command line that makes the showers ``ids`` of this request again."""
        words = ["caloray", "generate", self.bundle or "BUNDLE", "-n", str(self.n), "--seed", str(self.seed)]
        words += ["--energies", _spell(self.energies), "--on-invalid", self.on_invalid]
        lists = (self.energies, *self.conditions)
        words += ["--repeat-energies"] if any(getattr(spec, "repeat", False) for spec in lists) else []
        words += spell_conditions(self.conditions)
        words += ["--allow-extrapolation"] if self.allow_extrapolation else []
        return shlex.join([*words, "--ids", ",".join(str(i) for i in ids), "-o", "repro"])


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
    allow_extrapolation: bool = False,
    bundle: str = "",
) -> GenerationPlan:
    """Plan a request and refuse it here if it cannot be carried out.

    Args:
        sampler: The model (a bundle).
        n: Number of events; may be left out when a list or file of energies, or ``ids``, tells it.
        seed: Of the request.
        energies: Where incident energies come from; log-uniform over the trained range when omitted.
        conditions: Where the model's conditions come from; what is not given is taken from the file of
            energies, if that is one of particles.
        ids: Make only these events of the request.
        blocks_per_shard: Layout; about 2000 showers per shard when omitted.
        on_invalid: What to do about showers with NaN, infinite or negative voxels.
        allow_extrapolation: Permit energies and conditions outside the trained ranges.
        bundle: Path of the model, for messages.

    Raises:
        ConfigError: A number, energy range, condition or list that does not fit.
        DataError: Energies that are not positive numbers.
    """
    low, high = sampler.energy_range
    spec = resolve(energies if energies is not None else LogUniform(min=low, max=high))
    wanted = None if ids is None else tuple(sorted({int(i) for i in ids}))
    total = count_events(spec, n, wanted)
    check_range(spec, (low, high), allow_extrapolation=allow_extrapolation)
    given = resolve_conditions(conditions, spec, [item.name for item in sampler.conditions])
    check_conditions(given, sampler.conditions, total, allow_extrapolation=allow_extrapolation)
    try:
        return GenerationPlan(
            bundle=bundle,
            bundle_digest=sampler.digest,
            geometry=sampler.geometry.to_dict(),
            n=total,
            seed=seed,
            ids=wanted,
            energies=spec,
            conditions=given,
            energy_range=(low, high),
            allow_extrapolation=allow_extrapolation,
            on_invalid=on_invalid,
            block_size=sampler.block_size,
            blocks_per_shard=blocks_per_shard or max(1, ROWS_PER_SHARD // sampler.block_size),
        )
    except ValidationError as error:
        reason = error.errors()[0]
        where = ".".join(str(part) for part in reason["loc"]) or "plan"
        message = f"generation: {where}: {reason['msg']}"
        raise ConfigError(message, hint="see `caloray generate --help`") from error


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
        case FromFile(repeat=False):
            return spec.rows
        case _:
            return None


def _spell(spec: EnergySpec) -> str:
    match spec:
        case LogUniform() | Uniform():
            return f"{spec.kind}:{spec.min!r}:{spec.max!r}"
        case Listed():
            return ",".join(repr(value) for value in spec.values)
        case FromFile():
            return str(spec.path)
