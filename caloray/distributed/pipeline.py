"""A run config carried out: ingest, train, assemble, generate, evaluate; each step keeps what is done.

The command line, the job scripts and notebooks call the same functions. A step that was interrupted goes
on where it stopped when the same config is carried out again.
"""

from __future__ import annotations

__all__ = ["Progress", "evaluate_run", "generate_run", "ingest_run", "train_run"]

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caloray.atomic import require_space
from caloray.bundle import Bundle
from caloray.config import RunConfig, WorkerConfig
from caloray.distributed.assemble import assemble_bundle
from caloray.distributed.feed import Feed
from caloray.distributed.generate import GenerationLoad, generate_with_ray
from caloray.distributed.ingest import ingest_with_ray
from caloray.distributed.jobs import component_jobs
from caloray.distributed.outline import require_known
from caloray.distributed.progress import ComponentState
from caloray.distributed.room import Room
from caloray.distributed.run_directory import RunDirectory
from caloray.distributed.session import Session
from caloray.distributed.train import Outcome, train_components
from caloray.distributed.trainer import resources_of
from caloray.errors import CaloRayError, InterruptedRunError
from caloray.interrupt import StopRequest, watch_signals
from caloray.io.manifest import Manifest
from caloray.tracking import Tracker, open_tracker
from caloray.training.files import ComponentFolder, ComponentResult

_LOG = logging.getLogger(__name__)
GRACE = 20.0


def _ignore(*_: object) -> None:
    return None


@dataclass(frozen=True)
class Progress:
    """Who wants to hear how far a run is; every callback is optional.

    Args:
        ingested: (rows done, rows in all).
        trained: Each component's place in the training.
        generated: Showers finished since the last call.
        evaluated: (stage, showers done, showers in all).
    """

    ingested: Callable[[int, int], None] = _ignore
    trained: Callable[[Sequence[ComponentState]], None] = _ignore
    generated: Callable[[int], None] = _ignore
    evaluated: Callable[[str, int, int], None] = _ignore


def ingest_run(config: RunConfig, session: Session, progress: Progress = Progress()) -> Manifest:
    """Shards in ``<output>/shards``, unless they are there.

    Raises:
        DataError: An input file is damaged or breaks a rule.
        StorageError: The directory holds other data, or the disk is full.
    """
    return ingest_with_ray(session, config.data, RunDirectory.of(config).shards, progress.ingested)


def train_run(
    config: RunConfig, session: Session, progress: Progress = Progress(), only: Sequence[str] = ()
) -> Bundle | None:
    """Train every component that is not trained yet, and assemble the bundle.

    Args:
        config: The run.
        session: An open Ray session.
        progress: Told how far it is.
        only: Train these components alone; the bundle is assembled when the others are there.

    Returns:
        The bundle, or None while components are missing.

    Raises:
        InterruptedRunError: After SIGTERM or SIGINT; the same call continues.
        CaloRayError: Components failed; the others are finished and kept.
    """
    run = RunDirectory.of(config)
    require_space(run.path, 50 << 20)
    session.check_directory(run.path)
    run.write_config(config)
    with watch_signals(grace=GRACE + 10.0, what="training") as stop:
        feed = Feed(run.shards)
        scheme, statistics, jobs = component_jobs(config, run, feed, stop)
        require_known(only, scheme.components)
        chosen = [job for job in jobs if not only or job.name in only]
        _require_room(config, session, [job.name for job in chosen])
        tracker = open_tracker(run.path, config.tracking)
        tracker.start(config.name, scheme.components, config.model_dump(mode="json"))
        room = Room(config.cluster.max_trainers, grows=not session.owned)
        outcomes = _train(config, run, feed, chosen, stop, tracker, progress, room)
    _all_or_error(outcomes, tracker)
    results = {
        job.name: result for job in jobs if (result := ComponentFolder(job.request.directory).result())
    }
    if len(results) < len(jobs):
        tracker.close("KILLED")
        return None
    bundle = assemble_bundle(config, run, feed.manifest, statistics, results)
    tracker.artifact("bundle", run.bundle)
    tracker.summary({f"val_loss_{name}": result.validation_loss for name, result in results.items()})
    tracker.close("FINISHED")
    return bundle


def generate_run(
    config: RunConfig, session: Session | None, progress: Progress = Progress()
) -> tuple[Manifest, Path | None]:
    """Showers of the run's own bundle, for its evaluation.

    Args:
        config: The run.
        session: An open Ray session, or None to stay in this process.
        progress: Told how far it is.

    Returns:
        The manifest of ``<output>/showers`` and the HDF5 file, if the config asks for one.

    Raises:
        NumericalError: Invalid showers, again after redrawing them.
        InterruptedRunError: After SIGTERM or SIGINT; the same call continues.
    """
    from caloray.distributed.held_out import run_plan
    from caloray.generation.export import export_hdf5
    from caloray.generation.run import generate

    run = RunDirectory.of(config)
    wanted = config.generation
    here = session is None
    device = "cuda" if wanted.gpus and here else "cpu"
    bundle = Bundle.load(run.bundle, device=device, backend=wanted.backend if here else "auto")
    plan = run_plan(config, run, bundle)
    if session is not None:
        load = GenerationLoad(gpus=wanted.gpus, workers=wanted.workers or None, backend=wanted.backend)
        manifest = generate_with_ray(session, run.bundle, plan, run.showers, progress.generated, load)
    else:
        with watch_signals(grace=0.5, what="generation") as stop:
            manifest = generate(bundle, plan, run.showers, progress.generated, stop)
    if not wanted.hdf5:
        return manifest, None
    if not _newer(run.hdf5, run.showers / "manifest.json"):
        with watch_signals(grace=0.0, what="export"):
            export_hdf5(run.showers, run.hdf5)
    return manifest, run.hdf5


def evaluate_run(config: RunConfig, progress: Progress = Progress()) -> dict[str, Any]:
    """Compare the run's showers with its held-out split; returns the content of ``results.json``.

    Raises:
        DataError: Too few showers.
    """
    from caloray.distributed.held_out import compare
    from caloray.report import draw, write_page

    run = RunDirectory.of(config)
    with watch_signals(grace=0.0, what="evaluation"):
        results = compare(config, run, progress.evaluated)
        if config.evaluation.figures and not _newer(run.page, run.results):
            labels = ("Geant4", config.name)
            draw(results.data, run.figures, labels)
            write_page(results.data, labels, run.figures, run.page)
    tracker = open_tracker(run.path, config.tracking)
    tracker.summary(results.numbers())
    tracker.artifact("results.json", run.results)
    if config.evaluation.figures:
        tracker.artifact("figures", run.figures)
        tracker.artifact("report.html", run.page)
    return results.data


def _require_room(config: RunConfig, session: Session, components: Sequence[str]) -> None:
    """Refuse workers that the cluster can never place; equal ones are looked at once."""
    seen: list[WorkerConfig] = []
    for name in components:
        workers = config.workers_of(name)
        if workers not in seen:
            seen.append(workers)
            session.require(resources_of(workers), f"component {name}", workers.workers)


def _train(
    config: RunConfig,
    run: RunDirectory,
    feed: Feed,
    jobs: Any,
    stop: StopRequest,
    tracker: Tracker,
    progress: Progress,
    room: Room,
) -> dict[str, Outcome]:
    workers = {job.name: config.workers_of(job.name) for job in jobs}
    try:
        return train_components(
            jobs,
            feed,
            workers,
            run.path,
            stop=stop,
            tracker=tracker,
            show=progress.trained,
            grace=GRACE,
            room=room,
        )
    except InterruptedRunError:
        tracker.close("KILLED")
        raise
    except CaloRayError:
        tracker.close("FAILED")
        raise


def _all_or_error(outcomes: Mapping[str, Outcome], tracker: Tracker) -> dict[str, ComponentResult]:
    """All results, or the first error with the names of the components that are not there."""
    results = {name: outcome for name, outcome in outcomes.items() if isinstance(outcome, ComponentResult)}
    failures = {name: outcome for name, outcome in outcomes.items() if isinstance(outcome, CaloRayError)}
    if not failures:
        return results
    tracker.close("FAILED")
    name, error = next(iter(failures.items()))
    kept = _few(list(results)) or "none"
    others = f"; also failed: {_few(list(failures)[1:])}" if len(failures) > 1 else ""
    hint = f"{error.hint + '; ' if error.hint else ''}finished components are kept ({kept})"
    raise type(error)(f"{error.message}{others}", hint=hint, **{"component": name, **error.context})


def _few(names: Sequence[str]) -> str:
    """Names in a line: the first and the last of many."""
    return (
        ", ".join(names)
        if len(names) <= 6
        else f"{', '.join(names[:3])} ... {names[-1]}, {len(names)} in all"
    )


def _newer(made: Path, source: Path) -> bool:
    return made.is_file() and made.stat().st_mtime_ns >= source.stat().st_mtime_ns
