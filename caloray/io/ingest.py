"""From CaloChallenge HDF5 files to a directory of shards, in one process.

Plan, independent tasks, manifest: tasks may run anywhere, in any order, any number of times. Each writes up
to three shards (one per split) and then a receipt; a task whose receipt and shards agree is skipped. The
manifest appears when every receipt is there. A killed and repeated ingest leaves the same bytes.
"""

from __future__ import annotations

__all__ = [
    "IngestConfig",
    "IngestPlan",
    "IngestTask",
    "SourceFile",
    "SplitFractions",
    "finish_ingest",
    "ingest",
    "plan_ingest",
    "prepare_ingest",
    "refuse_other",
    "run_ingest_task",
]

import json
from collections.abc import Callable
from pathlib import Path

from caloray import __version__
from caloray.atomic import require_space, sweep, write_json
from caloray.errors import DataError, IntegrityError, StorageError
from caloray.io.ingest_plan import IngestConfig, IngestPlan, IngestTask, SourceFile, plan_ingest
from caloray.io.ingest_task import read_receipt, receipt_path, run_ingest_task
from caloray.io.lock import LOCK, exclusive
from caloray.io.manifest import MANIFEST, Manifest, ShardEntry
from caloray.io.split import SPLITS, SplitFractions

REQUEST = "request.json"
UNKNOWN = "of unknown origin"


def prepare_ingest(plan: IngestPlan, directory: Path) -> None:
    """Claim ``directory`` for this request and remove what a killed run left half-written.

    Raises:
        StorageError: The directory holds another request's output, or the disk is too small.
    """
    refuse_other(plan, directory)
    for folder in (directory, directory / "receipts", *(directory / name for name in SPLITS)):
        sweep(folder)
    if not (directory / REQUEST).is_file() or _only_claimed(directory):
        require_space(directory, sum(source.bytes for source in plan.sources))
        write_json(directory / REQUEST, {"digest": plan.digest, "request": plan.request})


def finish_ingest(plan: IngestPlan, directory: Path) -> Manifest:
    """Write the manifest from the receipts of all tasks.

    Raises:
        DataError: Every row was dropped.
        IntegrityError: A task has no valid receipt yet, or one of its shards is gone.
    """
    shards: list[ShardEntry] = []
    dropped: dict[str, int] = {}
    for task in plan.tasks:
        receipt = read_receipt(directory, task.index, task.request)
        if receipt is None or any(not (directory / e.path).is_file() for e in receipt.shards):
            raise IntegrityError(
                f"{receipt_path(directory, task.index)}: task {task.index} is not finished",
                hint="run the same ingest again; it continues where it stopped",
            )
        shards.extend(receipt.shards)
        for rule, count in receipt.dropped.items():
            dropped[rule] = dropped.get(rule, 0) + count
    if not shards:
        raise DataError(
            f"{directory}: no row of {plan.n_rows} was kept, dropped by rule: {dropped}",
            hint="look at the input with `caloray data verify`; energies must be in MeV",
        )
    shards.sort(key=lambda e: (SPLITS.index(e.split), e.path))
    manifest = Manifest(
        kind="geant4",
        geometry=plan.geometry.to_dict(),
        geometry_digest=plan.geometry.digest,
        shards=tuple(shards),
        created={"caloray": __version__, "request": plan.digest},
        dropped=dropped,
        sources=tuple(source.described() for source in plan.sources),
        split={"fractions": plan.request["split"], "seed": plan.request["split_seed"]},
    )
    manifest.save(directory)
    return manifest


def ingest(
    config: IngestConfig, directory: Path, progress: Callable[[int, int], None] | None = None
) -> Manifest:
    """Plan, run every task in this process, and write the manifest.

    Args:
        config: What to ingest.
        directory: Where the shards go; a rerun of the same request continues there.
        progress: Called with (rows done, rows in all) after each task.
    """
    plan = plan_ingest(config)
    refuse_other(plan, directory)
    with exclusive(directory):
        prepare_ingest(plan, directory)
        done = 0
        for task in plan.tasks:
            run_ingest_task(task, directory)
            done += task.stop - task.start
            if progress is not None:
                progress(done, plan.n_rows)
        return finish_ingest(plan, directory)


def refuse_other(plan: IngestPlan, directory: Path) -> None:
    """Stop if ``directory`` belongs to another request; nothing is touched.

    Raises:
        StorageError: Naming both digests.
    """
    found = _request_of(directory)
    if found is not None and found != plan.digest:
        raise StorageError(
            f"{directory}: holds the output of another request ({found}), this one is {plan.digest}",
            hint="choose another output directory, or remove this one",
            found=found,
            expected=plan.digest,
        )


def _request_of(directory: Path) -> str | None:
    """Digest of the request that ``directory`` belongs to, None for a fresh one."""
    try:
        if (directory / REQUEST).is_file():
            if _only_claimed(directory):
                return None
            return str(json.loads((directory / REQUEST).read_bytes())["digest"])
        if (directory / MANIFEST).is_file():
            return f"manifest {Manifest.load(directory).digest}"
        if (directory / "receipts").exists():
            return UNKNOWN
    except (OSError, ValueError, KeyError, TypeError, IntegrityError):
        return UNKNOWN
    return None


def _only_claimed(directory: Path) -> bool:
    """Whether a request left nothing here but its claim: it was refused before its first shard."""
    return {path.name for path in directory.iterdir()} <= {REQUEST, LOCK}
