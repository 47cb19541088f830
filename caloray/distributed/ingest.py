"""Ingest over Ray workers: the tasks of :mod:`caloray.io.ingest`, wherever there is room."""

from __future__ import annotations

__all__ = ["ingest_with_ray"]

from collections.abc import Callable
from pathlib import Path

from caloray.distributed.session import Session
from caloray.distributed.tasks import Load, map_tasks
from caloray.interrupt import watch_signals
from caloray.io.ingest import (
    IngestConfig,
    finish_ingest,
    plan_ingest,
    prepare_ingest,
    refuse_other,
    run_ingest_task,
)
from caloray.io.lock import exclusive
from caloray.io.manifest import Manifest

TASK_MEMORY = 700 << 20
"""Bytes set aside for one task: one row group and one chunk of rows, in several copies, and the libraries."""


def ingest_with_ray(
    session: Session,
    config: IngestConfig,
    directory: Path,
    progress: Callable[[int, int], None] | None = None,
) -> Manifest:
    """Ingest like :func:`caloray.io.ingest.ingest`, with the same bytes as result.

    Args:
        session: An open Ray session.
        config: What to ingest.
        directory: Where the shards go, on a file system that all nodes see.
        progress: Called with (rows done, rows in all) after each task.

    Raises:
        DataError: A file is damaged, or rows break a rule under the policy "reject".
        StorageError: The directory holds another request's output, or the disk is full.
        ClusterError: Workers kept dying, or a node does not see the directory.
        InterruptedRunError: After SIGTERM or SIGINT; the same call continues.
    """
    directory = directory.absolute()
    plan = plan_ingest(config)
    refuse_other(plan, directory)
    with exclusive(directory), watch_signals() as stop:
        prepare_ingest(plan, directory)
        session.check_directory(directory)
        rows = 0
        load = Load(memory=TASK_MEMORY)
        for index, _ in map_tasks(run_ingest_task, plan.tasks, directory, load, what="ingest", stop=stop):
            rows += plan.tasks[index].stop - plan.tasks[index].start
            if progress is not None:
                progress(rows, plan.n_rows)
        return finish_ingest(plan, directory)
