"""One task of an ingest: a row range of a file becomes up to three shards and a receipt."""

from __future__ import annotations

__all__ = ["Receipt", "read_receipt", "receipt_path", "run_ingest_task"]

import json
import logging
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from caloray.atomic import sha256_file, write_json
from caloray.errors import DataError
from caloray.io.challenge import ChallengeFile
from caloray.io.ingest_plan import IngestTask
from caloray.io.manifest import ShardEntry, check_shard
from caloray.io.shards import ShardWriter
from caloray.io.split import SPLITS, assign_splits, event_ids
from caloray.showers import Showers, apply_policy

CHUNK_BYTES = 32 << 20
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Receipt:
    """What a finished task left: its shards and the rows that it dropped, per rule."""

    shards: tuple[ShardEntry, ...]
    dropped: dict[str, int]


def receipt_path(directory: Path, index: int) -> Path:
    """Where the receipt of task number ``index`` lies."""
    return directory / "receipts" / f"task-{index:05d}.json"


def read_receipt(directory: Path, index: int, request: str) -> Receipt | None:
    """The receipt of one task, or None if there is none that is sound and belongs to ``request``."""
    path = receipt_path(directory, index)
    try:
        value = json.loads(path.read_bytes())
        shards = tuple(ShardEntry(**entry) for entry in value["shards"])
        dropped = {str(rule): int(count) for rule, count in value["dropped"].items()}
        sound = value["request"] == request and all(
            entry.path == shard_name(entry.split, index) for entry in shards
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return Receipt(shards, dropped) if sound else None


def shard_name(split: str, index: int) -> str:
    """Relative path of the shard of one task and split."""
    return f"{split}/part-{index:05d}.parquet"


def run_ingest_task(task: IngestTask, directory: Path) -> list[ShardEntry]:
    """Write the shards and the receipt of one task, unless they are there and intact.

    Raises:
        DataError: Rows that break a rule (with policy "reject"), or a file that changed since planning.
        StorageError: The disk is full or not writable.
    """
    kept = _finished(task, directory)
    if kept is not None:
        return kept
    if not task.path.is_file() or task.path.stat().st_size != task.bytes:
        raise DataError(f"{task.path}: changed since the ingest was planned", hint="start the ingest again")
    dropped, rows = _write_shards(task, directory)
    entries = [_entry(task, directory, split, n) for split, n in rows.items()]
    receipt = {"request": task.request, "dropped": dropped, "shards": [asdict(e) for e in entries]}
    write_json(receipt_path(directory, task.index), receipt)
    return entries


def _finished(task: IngestTask, directory: Path) -> list[ShardEntry] | None:
    receipt = read_receipt(directory, task.index, task.request)
    if receipt is None:
        return None
    problems = [p for entry in receipt.shards for p in check_shard(directory, entry)]
    for problem in problems:
        _LOG.warning("%s; making it again", problem.message)
    return None if problems else list(receipt.shards)


def _write_shards(task: IngestTask, directory: Path) -> tuple[dict[str, int], dict[str, int]]:
    """Stream the task's rows into one writer per split; return dropped rows per rule and rows per split."""
    step = max(1, CHUNK_BYTES // (4 * task.geometry.n_voxels))
    dropped: dict[str, int] = {}
    writers: dict[str, ShardWriter] = {}
    with ExitStack() as stack:
        file = stack.enter_context(ChallengeFile.open(task.path, task.geometry))
        for start in range(task.start, task.stop, step):
            showers = _sound_rows(task, file.read(start, min(start + step, task.stop)), start, dropped)
            parts = assign_splits(showers.ids, task.split, task.split_seed)
            for position in np.unique(parts):
                split = SPLITS[position]
                if split not in writers:
                    path = directory / shard_name(split, task.index)
                    writers[split] = stack.enter_context(
                        ShardWriter(path, task.geometry, conditions=file.conditions)
                    )
                writers[split].append(showers.select(parts == position))
    return dropped, {split: writers[split].rows for split in SPLITS if split in writers}


def _sound_rows(task: IngestTask, showers: Showers, start: int, dropped: dict[str, int]) -> Showers:
    """Give the rows their event ids, and reject or drop those that break a rule."""
    keep, found = apply_policy(
        showers,
        task.geometry,
        task.on_invalid,
        max_ratio=task.max_ratio,
        where=str(task.path),
        first_row=start,
    )
    for violation in found:
        dropped[violation.rule] = dropped.get(violation.rule, 0) + violation.count
    ids = event_ids(task.sha256, start, start + len(showers))
    named = Showers(showers.incident_energies, showers.voxels, ids, showers.conditions)
    return named if keep.all() else named.select(keep)


def _entry(task: IngestTask, directory: Path, split: str, rows: int) -> ShardEntry:
    path = directory / shard_name(split, task.index)
    source = {"file": task.sha256, "start": task.start, "stop": task.stop}
    return ShardEntry(
        path=shard_name(split, task.index),
        rows=rows,
        bytes=path.stat().st_size,
        sha256=sha256_file(path),
        split=split,
        source=source,
    )
