"""The directory that a request writes into: one driver at a time, one plan for ever."""

from __future__ import annotations

__all__ = ["open_output", "pending"]

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from caloray.atomic import require_space, sweep, write_json
from caloray.errors import StorageError
from caloray.generation.plan import GenerationPlan
from caloray.generation.receipts import Receipt, receipt_path, verified_receipt
from caloray.io.lock import exclusive
from caloray.io.manifest import MANIFEST

PLAN = "plan.json"


@contextmanager
def open_output(plan: GenerationPlan, directory: Path) -> Iterator[None]:
    """Hold ``directory`` for ``plan`` while the block runs.

    Writes ``plan.json`` into a new directory and removes what a killed run left half-written.

    Raises:
        StorageError: The directory holds something else, is in use by another process, or cannot be written.
    """
    _refuse_other(plan, directory)
    if not (directory / PLAN).exists():
        require_space(directory, plan.estimated_bytes)
    with exclusive(directory):
        _refuse_other(plan, directory)
        for folder in (directory, directory / "shards", directory / "receipts"):
            sweep(folder)
        if not (directory / PLAN).exists():
            write_json(directory / PLAN, {"digest": plan.digest, "plan": plan.model_dump(mode="json")})
        yield


def pending(plan: GenerationPlan, directory: Path) -> tuple[list[int], list[Receipt]]:
    """The shards that have to be made, and the receipts of those that are there, whole and unaltered.

    Every finished shard is hashed. A receipt that cannot be trusted is removed, with a warning.

    Raises:
        StorageError: What is missing will not fit on the disk.
    """
    todo, done = [], []
    for index in range(plan.n_shards):
        receipt = verified_receipt(directory, plan, index)
        if receipt is None:
            receipt_path(directory, index).unlink(missing_ok=True)
            todo.append(index)
        else:
            done.append(receipt)
    require_space_for(plan, directory, done)
    return todo, done


def require_space_for(plan: GenerationPlan, directory: Path, done: list[Receipt]) -> None:
    """Refuse to go on when the showers that are missing will not fit, judged by those that are there.

    Raises:
        StorageError: With the bytes needed and free.
    """
    rows = sum(receipt.rows for receipt in done)
    per_row = sum(receipt.bytes for receipt in done) / rows if rows else plan.estimated_bytes / plan.rows
    require_space(directory, int((plan.rows - rows) * per_row))


def _refuse_other(plan: GenerationPlan, directory: Path) -> None:
    """Refuse a directory with another plan, or with shards that no plan of ours made; touch nothing."""
    if directory.exists() and not directory.is_dir():
        raise StorageError(f"{directory}: is a file, not a directory", hint="choose another output directory")
    path = directory / PLAN
    if not path.exists():
        if (directory / MANIFEST).exists():
            raise StorageError(
                f"{directory}: holds other shards (a manifest but no plan)",
                hint="choose another output directory",
            )
        return
    found = _planned(path)
    if found != plan.digest:
        raise StorageError(
            f"{directory}: belongs to plan {found}, this request is plan {plan.digest}",
            hint="choose another output directory, or repeat the request that it was made with",
            found=found,
            expected=plan.digest,
        )


def _planned(path: Path) -> str:
    try:
        return str(json.loads(path.read_bytes())["digest"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StorageError(
            f"{path}: not a readable plan ({error})", hint="remove the directory, or choose another one"
        ) from error
