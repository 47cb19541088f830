"""A campaign of trials on Ray Tune: the director says what comes next, Ray carries it out.

The ledger in the campaign's directory is the only truth. Ray Tune keeps its own notes in ``<output>/ray``
while it works; nothing is read from there, and they are removed at the end. A campaign whose driver was
killed goes on with the same command: trials that have no result are handed out again and go on from their
last checkpoint, then the search goes on as it would have done.
"""

from __future__ import annotations

__all__ = ["TuneProgress", "campaign_data", "claim_output", "run_tuning"]

import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from caloray.config import RunConfig
from caloray.distributed.feed import Feed
from caloray.distributed.footprint import worker_memory
from caloray.distributed.ingest import ingest_with_ray
from caloray.distributed.jobs import training_statistics
from caloray.distributed.layer_feed import Column, LayerFeed
from caloray.distributed.run_directory import RunDirectory
from caloray.distributed.session import Session
from caloray.distributed.trainer import reserved
from caloray.distributed.trial_search import Crew, fit
from caloray.distributed.trial_tracking import TrialTracker
from caloray.distributed.tune_finish import finish_tuning, write_record, write_settings
from caloray.distributed.tune_trainable import Bench
from caloray.errors import CaloRayError, ClusterError, ConfigError, IntegrityError, InterruptedRunError
from caloray.interrupt import StopRequest, watch_signals
from caloray.io.ingest import plan_ingest
from caloray.io.lock import exclusive
from caloray.io.manifest import Manifest
from caloray.preprocess.statistics import TrainingStatistics
from caloray.schemes.build import build_scheme
from caloray.tuning.director import Director
from caloray.tuning.ledger import Ledger, Trial
from caloray.tuning.readiness import require_ready
from caloray.tuning.resolve import base_run, component_names, identity
from caloray.tuning.settings import TuneConfig

_LOG = logging.getLogger(__name__)
GRACE = 20.0
DRIVER_MEMORY = 1 << 20
"""What Ray sets aside for the driver of a nested trial: Ray Tune refuses nothing at all [bytes]."""
_POLL = 0.3
CONTINUE = "all results are kept: the same command continues (--debug shows the traceback)"
_TRACK_EVERY = 5.0


def _ignore(*_: object) -> None:
    return None


@dataclass(frozen=True)
class TuneProgress:
    """Who wants to hear how far a campaign is; every callback is optional.

    Args:
        ingested: (rows done, rows in all).
        tried: The director, and the trials that run now.
    """

    ingested: Callable[[int, int], None] = _ignore
    tried: Callable[[Director, Sequence[Trial]], None] = _ignore


def run_tuning(
    settings: TuneConfig,
    session: Session,
    progress: TuneProgress = TuneProgress(),
    data: tuple[Path, str] | None = None,
) -> Director:
    """Carry out every trial of a campaign that has no result yet.

    Args:
        settings: The campaign.
        session: An open Ray session.
        progress: Told how far it is.
        data: What :func:`claim_output` has given; None: the input files are looked at here.

    Returns:
        The director, who knows all results.

    Raises:
        StorageError: The directory is another campaign's, or is in use.
        InterruptedRunError: After SIGTERM or SIGINT; the same call continues.
        ClusterError: Ray has no room for a trial, or gave up.
    """
    base, output = base_run(settings), settings.output.absolute()
    with exclusive(output):
        shards, digest = data or campaign_data(settings, base)
        ledger = Ledger(output)
        ledger.claim(identity(settings, digest))
        session.check_directory(output)
        write_settings(settings)
        if shards == output / "shards":
            ingest_with_ray(session, base.data, shards, progress.ingested)
        with watch_signals(grace=GRACE + 10.0, what="tuning") as stop:
            director = Director(settings, ledger, digest)
            campaign = _Campaign(settings, base, shards, director, stop, progress)
            campaign.run(session)
        campaign.finish(session)
    return director


def claim_output(settings: TuneConfig) -> tuple[Path, str]:
    """Take the campaign's directory, before anything is started that would only have to be stopped again.

    Returns:
        What :func:`campaign_data` gives, for :func:`run_tuning`.

    Raises:
        StorageError: The directory is another campaign's, is in use, or cannot be written.
        DataError: An input file is damaged or missing.
    """
    base, output = base_run(settings), settings.output.absolute()
    with exclusive(output):
        data = campaign_data(settings, base)
        Ledger(output).claim(identity(settings, data[1]))
    return data


def campaign_data(settings: TuneConfig, base: RunConfig) -> tuple[Path, str]:
    """Where the showers are or shall be ingested, and what names them.

    The run config's own directory is taken if it holds exactly the data that the run config asks for.

    Raises:
        DataError: An input file is damaged or missing.
    """
    digest = plan_ingest(base.data).digest
    theirs = RunDirectory.of(base).shards
    try:
        if Manifest.load(theirs).created.get("request") == digest:
            return theirs, digest
    except IntegrityError:
        _LOG.debug("%s: no shards to be shared", theirs)
    return settings.output.absolute() / "shards", digest


class _Campaign:
    """One session of a campaign."""

    def __init__(
        self,
        settings: TuneConfig,
        base: RunConfig,
        shards: Path,
        director: Director,
        stop: StopRequest,
        progress: TuneProgress,
    ) -> None:
        self._settings, self._base, self._shards = settings, base, shards
        self._director, self._stop, self._progress = director, stop, progress
        self._output = settings.output.absolute()
        self._tracker = TrialTracker(settings, director.ledger)
        self._crew = Crew(settings, director, self._tracker)

    def run(self, session: Session) -> None:
        """Until the director has nothing left, or a stop.

        Raises:
            InterruptedRunError: A stop.
            ClusterError: Ray gave up.
        """
        feed = Feed(self._shards)
        run = RunDirectory(self._output)
        statistics = training_statistics(run, feed, self._stop)
        splits = Bench(self._settings, self._base, self._shards, feed.manifest, statistics, {}).splits
        self._require_splits(feed, splits)
        layers = LayerFeed({split: feed.paths(split) for split in splits}, feed.manifest.readout)
        columns, memory = self._foreseen(feed.manifest, layers, statistics)
        bench = Bench(self._settings, self._base, self._shards, feed.manifest, statistics, columns)
        require_ready(self._settings, self._base, feed.manifest.readout, statistics, self._shards)
        resources = self._resources(session, memory)
        self._tracker.start()
        with self._closing():
            try:
                self._carry_out(bench, resources)
            finally:
                shutil.rmtree(self._output / "ray", ignore_errors=True)

    def finish(self, session: Session) -> None:
        """Table, page, best settings, bundle: on disk and in MLflow."""
        with self._closing():
            summary = write_record(self._settings)
            bundle = finish_tuning(self._settings, session, self._shards)
        files = {name: self._output / name for name in ("trials.csv", "report.html")}
        files["run.yaml"] = self._output / "best" / "run.yaml"
        if bundle is not None:
            files["bundle"] = bundle
        for name, path in files.items():
            if path.exists():
                self._tracker.artifact(name, path)
        best = summary.data["chosen"]
        if best is not None:
            self._tracker.summary(self._director.ledger.results()[best].objectives)
        self._tracker.close("FINISHED")

    @contextmanager
    def _closing(self) -> Iterator[None]:
        """Close the campaign's run in MLflow if what happens in the block ends it."""
        try:
            yield
        except (InterruptedRunError, KeyboardInterrupt, SystemExit):
            self._tracker.close("KILLED")
            raise
        except BaseException:
            self._tracker.close("FAILED")
            raise

    def _carry_out(self, bench: Bench, resources: dict[str, float]) -> None:
        """Ray Tune in a thread; this one watches signals, the clock and MLflow."""
        failures: list[Exception] = []

        def work() -> None:
            try:
                fit(self._crew, bench, resources)
            except Exception as error:  # raised below: a campaign must not end as if it were done
                failures.append(error)
                raise SystemExit from error  # ends the thread without a word

        thread = threading.Thread(target=work, name="tune", daemon=True)
        thread.start()
        tracked = time.monotonic()
        while thread.is_alive():
            thread.join(_POLL)
            self._look()
            if time.monotonic() - tracked >= _TRACK_EVERY:
                tracked = time.monotonic()
                self._tracker.poll()
            if self._stop.requested:
                self._crew.stop(self._stop)
                thread.join(GRACE)
                raise self._stop.error("tuning")
        self._look()
        error = self._crew.error or (failures[0] if failures else None)
        if error is not None:
            _raise_ours(error)
        if not self._crew.done:
            raise ClusterError("Ray Tune ended before the campaign did", hint=CONTINUE)

    def _look(self) -> None:
        """Show the trials; stop those whose time is over with the budget's."""
        running = self._crew.running()
        self._progress.tried(self._director, running)
        if self._crew.over_budget():
            for trial in running:
                if trial.kind != "confirm":
                    self._crew.stop_trial(trial.number)

    def _require_splits(self, feed: Feed, splits: Sequence[str]) -> None:
        for split in splits:
            if not feed.manifest.counts.get(split):
                raise ConfigError(
                    f"{self._settings.config}: data.split.{split} leaves no showers, but trials need them",
                    hint="give it a share, or set confirm.split: validation",
                )

    def _foreseen(
        self, manifest: Manifest, feed: LayerFeed, statistics: TrainingStatistics
    ) -> tuple[dict[Column, dict[str, Any]], int]:
        """Layers that the components read with the run config's own settings, and memory of a trial."""
        scheme = build_scheme(self._base.scheme, manifest.readout, statistics, self._base.seed)
        columns: dict[Column, dict[str, Any]] = {}
        memory = 0
        for name in component_names(self._settings, self._base):
            part = scheme.component(name)
            sums = bool(getattr(part, "sums_only", False))
            found = feed.columns(part.layers, sums=sums)
            for position, layer in enumerate(part.layers):
                columns[layer, sums] = {split: refs[position] for split, refs in found.items()}
            training = self._base.training_of(name)
            memory = max(memory, worker_memory(part, training, manifest.readout, manifest.counts))
        return columns, memory

    def _resources(self, session: Session, memory: int) -> dict[str, float]:
        """What Ray sets aside for one trial; refuses what the cluster can never place."""
        wanted = self._settings.trial
        worker = {"CPU": wanted.cpus, **({"GPU": wanted.gpus} if wanted.gpus else {})}
        session.require(worker, "a trial", wanted.workers)
        if wanted.workers > 1:
            return {"cpu": 0, "memory": DRIVER_MEMORY}  # Ray Train sets the workers aside
        limit = memory if wanted.memory_gb is None else int(wanted.memory_gb * 1e9)
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        asked = reserved(worker, limit, 1, nodes)
        return {{"CPU": "cpu", "GPU": "gpu"}.get(name, name): amount for name, amount in asked.items()}


def _raise_ours(error: Exception) -> None:
    if isinstance(error, CaloRayError):
        raise error
    lines = str(error).strip().splitlines()
    raise ClusterError(
        f"Ray Tune gave up ({type(error).__name__}: {lines[-1][:200] if lines else ''})",
        hint=CONTINUE,
    ) from error
