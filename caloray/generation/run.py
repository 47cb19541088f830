"""Carry out a plan: shard after shard here, or through any function that maps shards over workers."""

from __future__ import annotations

__all__ = ["Observer", "Progress", "ShardMap", "finish", "generate", "produce"]

import hashlib
import logging
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import caloray
from caloray.atomic import sha256_file
from caloray.errors import IntegrityError
from caloray.generation.blocks import BlockSampler
from caloray.generation.output import open_output, pending, require_room_in_manifest, require_space_for
from caloray.generation.particles import ParticleStream, write_skipped
from caloray.generation.plan import PLAN, GenerationPlan, read_plan
from caloray.generation.receipts import Receipt, receipts_of
from caloray.generation.shard import Progress, make_shard, require_model
from caloray.generation.totals import Totals
from caloray.interrupt import StopRequest
from caloray.io.manifest import Manifest, ShardEntry
from caloray.io.particle_table import SKIPPED
from caloray.io.worker_notes import announced
from caloray.preprocess.condition_range import ConditionRange
from caloray.quality.reference import QualityReference

logger = logging.getLogger(__name__)

ShardMap = Callable[[Sequence[int]], Iterable[Receipt]]
"""Makes the shards of the given indices, in any order, and yields their receipts."""


class Observer(Protocol):
    """Somebody who looks at every receipt, and may stop the production by raising."""

    def add(self, receipt: Receipt, /, *, new: bool) -> None:
        """One more shard is there, made now (``new``) or in an earlier run."""

    def caught_up(self) -> None:
        """All shards of earlier runs were shown; what comes next is made now."""

    def facts(self) -> dict[str, Any]:
        """What the manifest shall say of it, as JSON; asked once, at the end."""


def generate(
    sampler: BlockSampler,
    plan: GenerationPlan,
    directory: Path,
    progress: Progress | None = None,
    stop: StopRequest | None = None,
    observer: Observer | None = None,
    reference: QualityReference | None = None,
) -> Manifest:
    """Make all showers of ``plan`` in this process; a directory that is partly done is continued.

    Raises:
        StorageError: The directory is another request's, is in use, or the disk is full.
        NumericalError: Invalid showers, see :func:`caloray.generation.blocks.draw_block`.
        InterruptedRunError: ``stop`` was requested; the same call continues.
    """

    def one_after_the_other(indices: Sequence[int]) -> Iterator[Receipt]:
        for index in indices:
            with announced(directory, f"{index:05d}"):
                receipt = make_shard(sampler, plan, index, directory, progress, stop, reference)
            yield receipt

    require_model(sampler, plan)
    return produce(plan, directory, one_after_the_other, progress, observer, sampler.conditions)


def produce(
    plan: GenerationPlan,
    directory: Path,
    make_shards: ShardMap,
    progress: Progress | None = None,
    observer: Observer | None = None,
    ranges: Sequence[ConditionRange] = (),
) -> Manifest:
    """Drive a plan to its manifest; ``make_shards`` decides where the shards are made and reports progress.

    Args:
        plan: The request.
        directory: Output directory.
        make_shards: Makes what is missing.
        progress: Called with the number of showers that were there already.
        observer: Shown every receipt.
        ranges: Conditions of the model.

    Raises:
        StorageError: The directory is another request's, is in use, or the disk is full.
    """
    blocks = len(plan.blocks)
    require_room_in_manifest(plan.n_shards, blocks * plan.block_size, plan.block_size)
    look = observer.add if observer is not None else _look_away
    found = partial(look, new=False)
    with open_output(plan, directory):
        todo, done = pending(plan, directory, found)
        if progress is not None and done.planned:
            progress(done.planned)
        if observer is not None and done.planned:
            observer.caught_up()
        with _closed_after(make_shards(todo)) as receipts:
            for receipt in receipts:
                done.add(receipt)
                look(receipt, new=True)
                require_space_for(plan, directory, done)
        return finish(plan, directory, observer, ranges)


def finish(
    plan: GenerationPlan,
    directory: Path,
    observer: Observer | None = None,
    ranges: Sequence[ConditionRange] = (),
) -> Manifest:
    """Write the manifest, and the list of skipped particles before it, once every shard has its receipt.

    Raises:
        IntegrityError: Receipts are missing or do not add up to the plan.
    """
    totals, content = Totals(), hashlib.sha256()
    entries: list[ShardEntry] = []
    gaps: list[int] = []
    for receipt in receipts_of(directory, plan):
        totals.add(receipt)
        content.update("".join(receipt.blocks).encode())
        entries.append(_entry(plan, receipt))
        gaps += plan.shard(receipt.index).blocks if receipt.skipped else ()
    if totals.shards < plan.n_shards or totals.planned != plan.rows:
        raise IntegrityError(
            f"{directory}: {totals.shards} of {plan.n_shards} shards have a receipt",
            hint="run the same command again: it makes the missing ones",
        )
    created = _created(plan, totals, content.hexdigest())
    if plan.production is not None:
        created |= _campaign_facts(plan, directory, totals, gaps, ranges)
    if observer is not None:
        created |= observer.facts()
    geometry = plan.readout
    manifest = Manifest(
        kind="generated",
        geometry=geometry.to_dict(),
        geometry_digest=geometry.digest,
        shards=tuple(entries),
        created=created,
        sources=tuple(_sources(plan, directory)),
    )
    manifest.save(directory)
    return manifest


@contextmanager
def _closed_after(receipts: Iterable[Receipt]) -> Iterator[Iterable[Receipt]]:
    """Close a generator however its consumer ends, so that no worker outlives the lock on the directory."""
    try:
        yield receipts
    finally:
        if isinstance(receipts, Generator):
            receipts.close()


def _look_away(receipt: Receipt, /, *, new: bool) -> None:
    del receipt, new


def _entry(plan: GenerationPlan, receipt: Receipt) -> ShardEntry:
    blocks = plan.shard(receipt.index).blocks
    source: dict[str, Any] = {
        "blocks": [blocks[0], blocks[-1]],
        "ids": [receipt.first_id, receipt.last_id],
    }
    if plan.production is None:  # the receipts have it, and a campaign has many shards
        source["layer_energies"] = list(receipt.layer_energies)
    return ShardEntry(receipt.path, receipt.rows, receipt.bytes, receipt.sha256, "generated", source)


def _campaign_facts(
    plan: GenerationPlan,
    directory: Path,
    totals: Totals,
    gaps: Sequence[int],
    ranges: Sequence[ConditionRange],
) -> dict[str, Any]:
    """What the manifest of a campaign says besides; ``skipped.parquet`` is written on the way."""
    facts = {"counts": totals.counts(), "devices": totals.by_device(), "timing": totals.speed()}
    if plan.production is not None and plan.production.domain == "skip":
        path = directory / SKIPPED
        with ParticleStream(plan, ranges, directory) as stream:
            listed = write_skipped(stream, gaps, path)
        if listed != totals.skipped:
            raise IntegrityError(
                f"{path}: lists {listed} particles, the receipts count {totals.skipped}",
                hint="run `caloray campaign verify` on the directory",
            )
        facts["skipped"] = {"path": SKIPPED, "rows": listed, "sha256": sha256_file(path)}
    return facts


def _sources(plan: GenerationPlan, directory: Path) -> Iterator[dict[str, Any]]:
    """What the list of particles was made of, as the directory's first run found it."""
    recorded = read_plan(directory) if (directory / PLAN).exists() else plan
    for source in recorded.sources:
        facts = {"name": Path(source.path).name, "path": source.path, "sha256": source.sha256}
        yield facts | {"rows": plan.n}


def _differences(fingerprints: list[dict[str, str]]) -> str:
    """In what the machines differed, and what that means."""
    keys = sorted({key for machine in fingerprints for key in machine})
    found = {key: sorted({machine.get(key, "not recorded") for machine in fingerprints}) for key in keys}
    parts = "; ".join(f"{key} {' and '.join(values)}" for key, values in found.items() if len(values) > 1)
    approximate = any(name.startswith("native-bf16") for name in found.get("backend", []))
    return f"{parts}; {'some showers are approximate (bfloat16)' if approximate else 'last bits may differ'}"


def _created(plan: GenerationPlan, totals: Totals, content: str) -> dict[str, Any]:
    """Facts for the manifest that depend on the request and on where it was computed, not on when."""
    fingerprints = totals.fingerprints()
    if len(fingerprints) > 1:
        logger.warning("shards were made in different ways: %s", _differences(fingerprints))
    return {
        "caloray": caloray.__version__,
        "plan": plan.identity(),
        "plan_digest": plan.digest,
        "bundle_digest": plan.bundle_digest,
        "content_digest": content,
        "redraws": {
            "showers": totals.redraws.rows,
            "draws": totals.redraws.draws,
            "attempts": totals.redraws.attempts,
            "vetoed": totals.redraws.vetoed,
        },
        "numerics": fingerprints,
    }
