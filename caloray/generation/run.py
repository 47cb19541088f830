"""Carry out a plan: shard after shard here, or through any function that maps shards over workers."""

from __future__ import annotations

__all__ = ["Progress", "ShardMap", "finish", "generate", "produce"]

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import caloray
from caloray.errors import IntegrityError
from caloray.generation.blocks import BlockSampler, Redraws
from caloray.generation.output import open_output, pending, require_space_for
from caloray.generation.plan import GenerationPlan
from caloray.generation.receipts import Receipt, read_receipt
from caloray.generation.shard import Progress, make_shard, require_model
from caloray.interrupt import StopRequest
from caloray.io.manifest import Manifest, ShardEntry

logger = logging.getLogger(__name__)

ShardMap = Callable[[Sequence[int]], Iterable[Receipt]]
"""Makes the shards of the given indices, in any order, and yields their receipts."""


def generate(
    sampler: BlockSampler,
    plan: GenerationPlan,
    directory: Path,
    progress: Progress | None = None,
    stop: StopRequest | None = None,
) -> Manifest:
    """Make all showers of ``plan`` in this process; a directory that is partly done is continued.

    Raises:
        StorageError: The directory is another request's, is in use, or the disk is full.
        NumericalError: Invalid showers, see :func:`caloray.generation.blocks.draw_block`.
        InterruptedRunError: ``stop`` was requested; the same call continues.
    """

    def one_after_the_other(indices: Sequence[int]) -> Iterator[Receipt]:
        for index in indices:
            yield make_shard(sampler, plan, index, directory, progress, stop)

    require_model(sampler, plan)
    return produce(plan, directory, one_after_the_other, progress)


def produce(
    plan: GenerationPlan, directory: Path, make_shards: ShardMap, progress: Progress | None = None
) -> Manifest:
    """Drive a plan to its manifest; ``make_shards`` decides where the shards are made and reports progress.

    Raises:
        StorageError: The directory is another request's, is in use, or the disk is full.
    """
    with open_output(plan, directory):
        todo, done = pending(plan, directory)
        if progress is not None and done:
            progress(sum(receipt.rows for receipt in done))
        for receipt in make_shards(todo):
            done.append(receipt)
            require_space_for(plan, directory, done)
        return finish(plan, directory)


def finish(plan: GenerationPlan, directory: Path) -> Manifest:
    """Write the manifest once every shard has its receipt.

    Raises:
        IntegrityError: Receipts are missing or do not add up to the plan.
    """
    found = [read_receipt(directory, plan, index) for index in range(plan.n_shards)]
    receipts = [receipt for receipt in found if receipt is not None]
    if len(receipts) < len(found) or sum(receipt.rows for receipt in receipts) != plan.rows:
        raise IntegrityError(
            f"{directory}: {len(receipts)} of {plan.n_shards} shards have a receipt",
            hint="run the same command again: it makes the missing ones",
        )
    geometry = plan.readout
    manifest = Manifest(
        kind="generated",
        geometry=geometry.to_dict(),
        geometry_digest=geometry.digest,
        shards=tuple(_entry(plan, receipt) for receipt in receipts),
        created=_created(plan, receipts),
    )
    manifest.save(directory)
    return manifest


def _entry(plan: GenerationPlan, receipt: Receipt) -> ShardEntry:
    blocks = plan.shard(receipt.index).blocks
    source = {
        "blocks": [blocks[0], blocks[-1]],
        "ids": [receipt.first_id, receipt.last_id],
        "layer_energies": list(receipt.layer_energies),
    }
    return ShardEntry(receipt.path, receipt.rows, receipt.bytes, receipt.sha256, "generated", source)


def _differences(fingerprints: list[dict[str, str]]) -> str:
    """In what the machines differed, and what that means."""
    keys = sorted({key for machine in fingerprints for key in machine})
    found = {key: sorted({machine.get(key, "not recorded") for machine in fingerprints}) for key in keys}
    parts = "; ".join(f"{key} {' and '.join(values)}" for key, values in found.items() if len(values) > 1)
    approximate = any(name.startswith("native-bf16") for name in found.get("backend", []))
    return f"{parts}; {'some showers are approximate (bfloat16)' if approximate else 'last bits may differ'}"


def _created(plan: GenerationPlan, receipts: list[Receipt]) -> dict[str, Any]:
    """Facts for the manifest that depend on the request and on where it was computed, not on when."""
    total = sum((receipt.redraws for receipt in receipts), Redraws())
    blocks = "".join(digest for receipt in receipts for digest in receipt.blocks)
    fingerprints = [dict(items) for items in sorted({tuple(sorted(r.numerics.items())) for r in receipts})]
    if len(fingerprints) > 1:
        logger.warning("shards were made in different ways: %s", _differences(fingerprints))
    return {
        "caloray": caloray.__version__,
        "plan": plan.identity(),
        "plan_digest": plan.digest,
        "bundle_digest": plan.bundle_digest,
        "content_digest": hashlib.sha256(blocks.encode()).hexdigest(),
        "redraws": {
            "showers": total.rows,
            "draws": total.draws,
            "attempts": total.attempts,
            "vetoed": total.vetoed,
        },
        "numerics": fingerprints,
    }
