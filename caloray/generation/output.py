"""The directory that a request writes into: one driver at a time, one plan for ever."""

from __future__ import annotations

__all__ = ["open_output", "pending", "require_room_in_manifest", "require_space_for"]

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from caloray.atomic import require_space, storage_error, sweep_staged, write_json
from caloray.errors import ConfigError
from caloray.generation.claim import refuse_other
from caloray.generation.plan import PLAN, GenerationPlan
from caloray.generation.receipts import Receipt, receipt_path, verified_receipt
from caloray.generation.totals import Totals
from caloray.io.lock import exclusive
from caloray.io.worker_notes import announced, forget

MOST_SHARDS = 150_000
"""What fits into a manifest."""
READERS = 4
"""Shards that are hashed at the same time when a production is continued."""


@contextmanager
def open_output(plan: GenerationPlan, directory: Path) -> Iterator[None]:
    """Hold ``directory`` for ``plan`` while the block runs.

    Writes ``plan.json`` into a new directory and removes what a killed run left half-written. Whoever looks
    at ``workers/driver.json`` meanwhile sees this process.

    Raises:
        StorageError: The directory holds something else, is in use by another process, or cannot be written.
        IntegrityError: Its plan is damaged.
    """
    refuse_other(plan, directory)
    if not (directory / PLAN).exists():
        require_space(directory, plan.estimated_bytes)
    with exclusive(directory):
        refuse_other(plan, directory)
        _sweep(directory)
        forget(directory)
        if not (directory / PLAN).exists():
            write_json(directory / PLAN, {"digest": plan.digest, "plan": plan.model_dump(mode="json")})
        try:
            with announced(directory, "driver"):
                yield
        finally:
            forget(directory)
            _sweep(directory)


def _sweep(directory: Path) -> None:
    for folder in (directory, directory / "shards", directory / "receipts"):
        sweep_staged(folder)


def pending(
    plan: GenerationPlan, directory: Path, keep: Callable[[Receipt], None]
) -> tuple[list[int], Totals]:
    """The shards that have to be made, and the sums over those that are there, whole and unaltered.

    Every finished shard is hashed. A receipt that cannot be trusted is removed, with a warning.

    Args:
        plan: The request.
        directory: Output directory.
        keep: Told of every finished shard, in order.

    Raises:
        StorageError: What is missing will not fit on the disk, or something stands where receipts belong.
    """
    todo, done = [], Totals()
    indices = range(plan.n_shards)
    readers = ThreadPoolExecutor(READERS)
    try:
        found = readers.map(lambda index: verified_receipt(directory, plan, index), indices)
        for index, receipt in zip(indices, found, strict=True):
            if receipt is None:
                _discard(receipt_path(directory, index))
                todo.append(index)
            else:
                done.add(receipt)
                keep(receipt)
    finally:
        readers.shutdown(cancel_futures=True)
    require_space_for(plan, directory, done)
    return todo, done


def require_space_for(plan: GenerationPlan, directory: Path, done: Totals) -> None:
    """Refuse to go on when the showers that are missing will not fit, judged by those that are there.

    Raises:
        StorageError: With the bytes needed and free.
    """
    per_row = done.bytes / done.planned if done.planned else plan.estimated_bytes / plan.rows
    require_space(directory, int((plan.rows - done.planned) * per_row))


def require_room_in_manifest(shards: int, showers: int, block_size: int) -> None:
    """Refuse more shards than a manifest can list.

    Args:
        shards: How many.
        showers: Of all of them.
        block_size: Showers of a block.

    Raises:
        ConfigError: Too many.
    """
    if shards > MOST_SHARDS:
        blocks = -(-showers // (block_size * MOST_SHARDS))
        raise ConfigError(
            f"{shards} shards; a directory holds {MOST_SHARDS} at most",
            hint=f"put {blocks} blocks or more ({blocks * block_size} showers) into a shard",
        )


def _discard(receipt: Path) -> None:
    try:
        receipt.unlink(missing_ok=True)
    except OSError as error:
        raise storage_error(error, receipt) from error
