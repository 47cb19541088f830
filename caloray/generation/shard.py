"""One shard: its blocks drawn, checked, streamed into a file, and vouched for by a receipt.

A shard is a pure function of the plan, so it does not matter who makes it, how often, or in which order.
"""

from __future__ import annotations

__all__ = ["Progress", "content_digest", "make_shard", "require_model"]

import hashlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from caloray.atomic import sha256_file
from caloray.errors import BundleError
from caloray.generation.blocks import BlockRequest, BlockSampler, Redraws, draw_block
from caloray.generation.conditions import ConditionStream
from caloray.generation.energies import EnergyStream
from caloray.generation.plan import GenerationPlan, ShardPlan
from caloray.generation.receipts import Receipt, verified_receipt, write_receipt
from caloray.interrupt import StopRequest
from caloray.io.shards import ShardWriter
from caloray.preprocess.condition_range import columns_of
from caloray.showers import Showers

Progress = Callable[[int], None]
"""Called with the number of showers that have been finished since the last call."""


def make_shard(
    sampler: BlockSampler,
    plan: GenerationPlan,
    index: int,
    directory: Path,
    progress: Progress | None = None,
    stop: StopRequest | None = None,
) -> Receipt:
    """Make one shard and then its receipt; if both are already there and agree, nothing is done.

    At most one row group of showers and one block are in memory.

    Raises:
        BundleError: ``sampler`` is not the model of the plan.
        NumericalError: Invalid showers.
        StorageError: The disk is full or not writable.
        InterruptedRunError: ``stop`` was requested; no partial file is left.
    """
    require_model(sampler, plan)
    if (done := verified_receipt(directory, plan, index)) is not None:
        return done
    start = time.monotonic()
    shard = plan.shard(index)
    path = directory / shard.path
    digests: list[str] = []
    sums = np.zeros(plan.readout.n_layers)
    redraws = Redraws()
    extra = {"bundle": plan.bundle_digest, "seed": str(plan.seed)}
    units = {item.name: item.unit for item in sampler.conditions}
    with ShardWriter(path, plan.readout, extra, units) as writer:
        for showers, drawn in _blocks(sampler, plan, shard, stop):
            writer.append(showers)
            digests.append(content_digest(showers))
            sums += showers.layer_energies(plan.readout).sum(axis=0)
            redraws += drawn
            if progress is not None:
                progress(len(showers))
    receipt = Receipt(
        plan=plan.digest,
        index=index,
        path=shard.path,
        rows=shard.rows,
        first_id=int(plan.kept(shard.blocks[0])[0]),
        last_id=int(plan.kept(shard.blocks[-1])[-1]),
        bytes=path.stat().st_size,
        sha256=sha256_file(path),
        blocks=tuple(digests),
        layer_energies=tuple(float(value) for value in sums),
        redraws=redraws,
        numerics=dict(sampler.numerics),
        seconds=round(time.monotonic() - start, 3),
    )
    write_receipt(directory, receipt)
    return receipt


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


def _blocks(
    sampler: BlockSampler, plan: GenerationPlan, shard: ShardPlan, stop: StopRequest | None
) -> Iterator[tuple[Showers, Redraws]]:
    """The showers of a shard, one block at a time."""
    stream = EnergyStream(plan.energies, plan.seed, plan.block_size)
    names = tuple(item.name for item in sampler.conditions)
    conditions = ConditionStream(plan.conditions, names, plan.seed, plan.block_size)
    for block in shard.blocks:
        if stop is not None:
            stop.check("generation")
        first, ids = block * plan.block_size, plan.kept(block)
        energies = stream.block(block)[: plan.n - first]
        table = conditions.block(block, len(energies))
        request = BlockRequest(
            block=block,
            seed=plan.seed,
            energies=energies,
            keep=ids - first,
            first_id=first,
            max_attempts=plan.max_attempts if plan.on_invalid == "resample" else 0,
            command=plan.command,
            conditions=table,
        )
        voxels, redraws = draw_block(sampler, request)
        kept = None if table is None else table[request.keep]
        yield Showers(energies[request.keep], voxels, ids, columns_of(names, kept)), redraws


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
