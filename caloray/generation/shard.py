"""One shard: its blocks drawn, checked, streamed into a file, and vouched for by a receipt.

A shard is a pure function of the plan, so it does not matter who makes it, how often, or in which order.
"""

from __future__ import annotations

__all__ = ["Progress", "content_digest", "make_shard", "require_model"]

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from caloray.atomic import sha256_file
from caloray.errors import BundleError
from caloray.generation.blocks import BlockRequest, BlockSampler, DrawnBlock, Redraws, draw_block
from caloray.generation.particles import ParticleBlock, ParticleStream
from caloray.generation.plan import GenerationPlan, ShardPlan
from caloray.generation.receipts import Receipt, verified_receipt, write_receipt
from caloray.interrupt import StopRequest
from caloray.io.shards import ShardWriter
from caloray.preprocess.condition_range import columns_of
from caloray.quality.counter import QualityCounter
from caloray.quality.reference import QualityReference
from caloray.showers import Showers

Progress = Callable[[int], None]
"""Called with the number of showers that have been finished since the last call."""

OUTSIDE, REDRAWN = 1, 2
"""Bits of the column ``flags``."""

EXTRAS = {
    "run": "int64",
    "event": "int64",
    "particle": "int32",
    "pdg": "int32",
    "flags": "uint8",
    "attempts": "uint8",
}
"""Further columns of a campaign's shards, before ``log_prob`` (float32) where it is asked for."""


def make_shard(
    sampler: BlockSampler,
    plan: GenerationPlan,
    index: int,
    directory: Path,
    progress: Progress | None = None,
    stop: StopRequest | None = None,
    reference: QualityReference | None = None,
) -> Receipt:
    """Make one shard and then its receipt; if both are already there and agree, nothing is done.

    At most one row group of showers and one block are in memory.

    Args:
        sampler: The model.
        plan: The request.
        index: Number of the shard.
        directory: Output directory.
        progress: Called with the number of planned showers that are done since the last call.
        stop: Asked between blocks.
        reference: Count the showers' observables for a comparison with it.

    Raises:
        BundleError: ``sampler`` is not the model of the plan.
        NumericalError: Invalid showers.
        StorageError: The disk is full or not writable.
        InterruptedRunError: ``stop`` was requested; no partial file is left.
    """
    require_model(sampler, plan)
    if (done := verified_receipt(directory, plan, index)) is not None:
        return done
    start = _Clock.now()
    shard = plan.shard(index)
    path = directory / shard.path
    books = _Books(plan, QualityCounter(reference) if reference is not None else None)
    with _writer(sampler, plan, path) as writer:
        for made in _blocks(sampler, plan, shard, directory, stop):
            writer.append(made.showers, made.extras or None)
            books.enter(made)
            if progress is not None:
                progress(len(made.showers) + made.skipped)
    receipt = _receipt(sampler, plan, shard, path, books, start)
    write_receipt(directory, receipt)
    return receipt


def _receipt(
    sampler: BlockSampler, plan: GenerationPlan, shard: ShardPlan, path: Path, books: _Books, start: _Clock
) -> Receipt:
    """What the shard at ``path`` holds, and what it took since ``start``."""
    digest = sha256_file(path)
    spent = _Clock.now() - start
    return Receipt(
        plan=plan.digest,
        index=shard.index,
        path=shard.path,
        rows=books.rows,
        first_id=int(plan.kept(shard.blocks[0])[0]),
        last_id=int(plan.kept(shard.blocks[-1])[-1]),
        bytes=path.stat().st_size,
        sha256=digest,
        blocks=tuple(books.digests),
        layer_energies=tuple(float(value) for value in books.sums),
        redraws=books.redraws,
        numerics=dict(sampler.numerics),
        seconds=round(spent.wall, 3),
        skipped=books.skipped,
        flagged=books.flagged,
        quality=None if books.counter is None else books.counter.counts.to_json(),
        timing=_timing(books.sampling, spent),
        empty=books.empty,
    )


def content_digest(showers: Showers) -> str:
    """sha256 over ids (int64), incident energies (float64) and voxels (float32), little-endian.

    Conditions (float64) follow in the order of their names, where there are any.
    """
    digest = hashlib.sha256()
    for values, dtype in (
        (showers.ids, "<i8"),
        (showers.incident_energies, "<f8"),
        (showers.voxels, "<f4"),
        *((values, "<f8") for _, values in sorted(showers.conditions.items())),
    ):
        digest.update(np.ascontiguousarray(values, dtype=dtype).reshape(-1).data)
    return digest.hexdigest()


@dataclass(frozen=True)
class _Clock:
    """Seconds of the clock on the wall and of this process's CPUs."""

    wall: float
    cpu: float

    @staticmethod
    def now() -> _Clock:
        return _Clock(time.monotonic(), time.process_time())

    def __add__(self, other: _Clock) -> _Clock:
        return _Clock(self.wall + other.wall, self.cpu + other.cpu)

    def __sub__(self, other: _Clock) -> _Clock:
        return _Clock(self.wall - other.wall, self.cpu - other.cpu)


def _timing(sampling: _Clock, whole: _Clock) -> dict[str, float]:
    """Seconds of sampling and of everything else, which is writing, counting and hashing."""
    rest = whole - sampling
    found = {"sample": sampling.wall, "write": rest.wall, "sample_cpu": sampling.cpu, "write_cpu": rest.cpu}
    return {name: round(seconds, 4) for name, seconds in found.items()}


@dataclass(frozen=True)
class _Made:
    """One block of a shard.

    Args:
        showers: What goes into the shard.
        extras: Its further columns.
        redraws: What was thrown away.
        skipped: Wanted showers that are left out.
        sampling: What the sampling took.
    """

    showers: Showers
    extras: dict[str, np.ndarray]
    redraws: Redraws
    skipped: int
    sampling: _Clock


@dataclass
class _Books:
    """What a receipt says, gathered block by block."""

    plan: GenerationPlan
    counter: QualityCounter | None
    digests: list[str] = field(default_factory=list)
    sums: np.ndarray = field(init=False)
    redraws: Redraws = field(default_factory=Redraws)
    rows: int = 0
    skipped: int = 0
    flagged: int = 0
    empty: int = 0
    sampling: _Clock = field(default_factory=lambda: _Clock(0.0, 0.0))

    def __post_init__(self) -> None:
        """Nothing has been deposited yet."""
        self.sums = np.zeros(self.plan.readout.n_layers)

    def enter(self, made: _Made) -> None:
        """Count one block."""
        self.digests.append(content_digest(made.showers))
        layers = made.showers.layer_energies(self.plan.readout)
        self.sums += layers.sum(axis=0)
        self.empty += int((layers.sum(axis=1) == 0).sum())
        self.redraws += made.redraws
        self.rows += len(made.showers)
        self.skipped += made.skipped
        self.sampling += made.sampling
        if made.extras:
            self.flagged += int((made.extras["flags"] & OUTSIDE).sum())
        if self.counter is not None:
            self.counter.add(made.showers)


def _writer(sampler: BlockSampler, plan: GenerationPlan, path: Path) -> ShardWriter:
    facts = {"bundle": plan.bundle_digest, "seed": str(plan.seed)}
    units = {item.name: item.unit for item in sampler.conditions}
    if plan.production is None:
        return ShardWriter(path, plan.readout, facts, units)
    density = {"log_prob": "float32"} if plan.production.likelihood else {}
    layout = plan.production.format
    return ShardWriter(path, plan.readout, facts, units, layout=layout, extras=EXTRAS | density)


def _blocks(
    sampler: BlockSampler,
    plan: GenerationPlan,
    shard: ShardPlan,
    directory: Path,
    stop: StopRequest | None,
) -> Iterator[_Made]:
    """The showers of a shard, one block at a time."""
    names = tuple(item.name for item in sampler.conditions)
    with ParticleStream(plan, sampler.conditions, directory) as stream:
        for block in shard.blocks:
            if stop is not None:
                stop.check("generation")
            first, ids = block * plan.block_size, plan.kept(block)
            particles = stream.block(block)
            wanted = ids - first
            keep = wanted[~particles.skipped[wanted]]
            began = _Clock.now()
            drawn = draw_block(sampler, _request(plan, block, particles, keep))
            spent = _Clock.now() - began
            table = None if particles.conditions is None else particles.conditions[keep]
            showers = Showers(particles.energies[keep], drawn.voxels, keep + first, columns_of(names, table))
            extras = _extras(plan, particles, keep, drawn)
            yield _Made(showers, extras, drawn.redraws, len(wanted) - len(keep), spent)


def _request(plan: GenerationPlan, block: int, particles: ParticleBlock, keep: np.ndarray) -> BlockRequest:
    return BlockRequest(
        block=block,
        seed=plan.seed,
        energies=particles.energies,
        keep=keep,
        first_id=block * plan.block_size,
        max_attempts=plan.max_attempts if plan.on_invalid == "resample" else 0,
        command=plan.command,
        conditions=particles.conditions,
        max_response=None if plan.production is None else plan.production.max_response,
    )


def _extras(
    plan: GenerationPlan, particles: ParticleBlock, keep: np.ndarray, drawn: DrawnBlock
) -> dict[str, np.ndarray]:
    """The further columns of the showers; none for a plain request."""
    if plan.production is None:
        return {}
    columns = {name: getattr(particles, name)[keep] for name in ("run", "event", "particle", "pdg")}
    columns["flags"] = (OUTSIDE * particles.outside[keep] + REDRAWN * (drawn.attempts > 0)).astype(np.uint8)
    columns["attempts"] = drawn.attempts
    if plan.production.likelihood:
        density = np.full(len(keep), np.nan) if drawn.log_prob is None else drawn.log_prob
        columns["log_prob"] = density.astype(np.float32)
    return columns


def require_model(sampler: BlockSampler, plan: GenerationPlan) -> None:
    """Refuse a model that is not the one that ``plan`` was made for.

    Raises:
        BundleError: Digest, block size or geometry differ.
    """
    found = (sampler.digest, sampler.block_size, sampler.geometry.digest)
    if found != (plan.bundle_digest, plan.block_size, plan.readout.digest):
        raise BundleError(
            f"the plan was made for bundle {plan.bundle_digest[:12]} with blocks of {plan.block_size}, "
            f"this one is {sampler.digest[:12]} with blocks of {sampler.block_size}",
            hint="use the same bundle on every worker",
        )
