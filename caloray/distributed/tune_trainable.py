"""What Ray Tune runs for each trial: take the rows, carry the trial out, say how it ended.

A trial is a plain function in one process, which serves one trial after the other. Only a trial with several
data-parallel workers is a small driver of its own, with a Ray Train below it. All that counts is written
into the trial's folder; Ray is told no more than that the trial is over.
"""

from __future__ import annotations

__all__ = ["Bench", "carry_out_trial", "last_error", "refused"]

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import ray
import torch

from caloray.atomic import write_bytes, write_json
from caloray.config import RunConfig, WorkerConfig
from caloray.distributed.jobs import identity_of, shared_batches
from caloray.distributed.layer_feed import Column, Columns, LayerFeed, join_layers
from caloray.distributed.loop import ComponentJob
from caloray.distributed.trainer import Training
from caloray.errors import CaloRayError, ConfigError, InterruptedRunError, StorageError
from caloray.interrupt import StopRequest
from caloray.io.lock import exclusive
from caloray.io.manifest import Manifest
from caloray.io.store import LayerStore
from caloray.preprocess.statistics import TrainingStatistics
from caloray.schemes.build import build_scheme
from caloray.training.files import ComponentResult
from caloray.training.run import TrainRequest
from caloray.tuning.ledger import Ledger, Trial
from caloray.tuning.limits import Limits, TrialStop
from caloray.tuning.resolve import component_names, run_of_trial
from caloray.tuning.settings import AshaFidelity, PopulationFidelity, TuneConfig
from caloray.tuning.trial import Stores, TrialJob, carry_out, told, train_here

ERROR = "error.json"
STOP = "stop"
POLL = 0.3
PATIENCE = 60.0


@dataclass(frozen=True)
class Bench:
    """What all trials of a campaign share.

    Args:
        settings: The campaign.
        base: The run config that it searches around.
        shards: The ingested showers.
        manifest: Their manifest.
        statistics: What preprocessing learned from the training split.
        columns: Object references of each layer by split, for those that were foreseen.
    """

    settings: TuneConfig
    base: RunConfig
    shards: Path
    manifest: Manifest
    statistics: TrainingStatistics
    columns: Mapping[Column, Mapping[str, Any]]

    @property
    def output(self) -> Path:
        """The campaign's directory."""
        return self.settings.output.absolute()

    @property
    def splits(self) -> tuple[str, ...]:
        """Splits that trials read."""
        confirm = self.settings.confirm
        return ("train", "validation", *(["test"] if confirm is not None and confirm.split == "test" else []))

    def feed(self, layers: Sequence[int], *, sums: bool) -> Columns:
        """References to these layers; a layer that nobody foresaw is read from the shards."""
        wanted = [(layer, sums) for layer in layers]
        if all(column in self.columns for column in wanted):
            return {split: [self.columns[column][split] for column in wanted] for split in self.splits}
        paths = {split: self.paths(split) for split in self.splits}
        return LayerFeed(paths, self.manifest.readout).columns(layers, sums=sums)

    def paths(self, split: str) -> list[Path]:
        """Shards of one split."""
        return [self.shards / entry.path for entry in self.manifest.of(split)]


def carry_out_trial(config: Mapping[str, Any], bench: Bench) -> dict[str, str]:
    """Runs on a worker: the trial whose number is in ``config``.

    What a run config or its data make impossible is not tried again: it ends the campaign.

    Raises:
        Exception: Whatever another attempt may get over; what it was is in the trial's folder.
    """
    trial = Ledger(bench.output).trials()[config["trial"]]
    job = _job(bench, trial)
    limits = bench.settings.trial
    torch.set_num_threads(max(1, int(limits.cpus)))
    with _alone(job.folder):
        (job.folder / ERROR).unlink(missing_ok=True)
        stop = TrialStop(job.folder / STOP, job.folder, Limits(limits.minutes, limits.memory_gb))
        try:
            train = _Nested(bench, job) if limits.workers > 1 else train_here
            result = carry_out(job, _rows(bench), bench.manifest.readout, bench.statistics, stop, train)
        except InterruptedRunError:
            return {"ended": "interrupted"}
        except ConfigError as error:
            stop.note()
            _note_error(job.folder, error)
            return {"ended": "refused"}
        except Exception as error:
            stop.note()
            _note_error(job.folder, error)
            raise
    return {"ended": result.status}


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait for a process that still works here: one whose driver was killed lives a moment longer.

    Raises:
        StorageError: It does not end.
    """
    end = time.monotonic() + PATIENCE
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(exclusive(folder))
                break
            except StorageError:
                if time.monotonic() > end:
                    raise
                time.sleep(POLL)
        yield


def last_error(folder: Path) -> str | None:
    """What the trial's last attempt failed with; None where it left no word."""
    try:
        return str(json.loads((folder / ERROR).read_text())["error"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def refused(folder: Path) -> ConfigError | None:
    """Why the trial's last attempt cannot be carried out at all; None where that was not so."""
    try:
        value = json.loads((folder / ERROR).read_text())
        return ConfigError(str(value["refused"]), hint=str(value["hint"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _job(bench: Bench, trial: Trial) -> TrialJob:
    settings = bench.settings
    run = run_of_trial(settings, trial, bench.base)
    names = component_names(settings, run)
    metrics = settings.metrics
    return TrialJob(
        trial=trial,
        run=run,
        output=bench.output,
        components=names,
        objective=settings.objective,
        identities=_identities(bench, run, names),
        split=trial.split,
        keep_checkpoints=isinstance(settings.fidelity, AshaFidelity | PopulationFidelity),
        shards=bench.shards,
        bundle=metrics[0].bundle if metrics else None,
        gpus=settings.trial.gpus * settings.trial.workers,
    )


def _identities(bench: Bench, run: RunConfig, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """As those of a run of its own: what a trial trained can be taken over by one."""
    found = {name: identity_of(run, bench.manifest, name) for name in names}
    workers = WorkerConfig(workers=bench.settings.trial.workers)
    if workers.workers > 1:
        scheme = build_scheme(run.scheme, bench.manifest.readout, bench.statistics, run.seed)
        for name in names:
            found[name] |= shared_batches(scheme.component(name), workers)
    return found


def _rows(bench: Bench) -> Stores:
    def take(split: str, layers: Sequence[int], *, sums: bool) -> LayerStore:
        return _joined(tuple(bench.feed(layers, sums=sums)[split]))

    return take


@lru_cache(maxsize=4)
def _joined(parts: tuple[Any, ...]) -> LayerStore:
    """Kept by the process for its next trial."""
    return join_layers(ray.get(list(parts)))


def _note_error(folder: Path, error: Exception) -> None:
    further: dict[str, str] = {}
    if isinstance(error, CaloRayError):
        text = told(error)
        if isinstance(error, ConfigError):
            further = {"refused": f"trial {int(folder.name)}: {error.message}", "hint": error.hint or ""}
    else:
        lines = str(error).strip().splitlines()
        text = f"{type(error).__name__}: {lines[-1][:300] if lines else ''}"
    write_json(folder / ERROR, {"error": text} | further)


class _Nested:
    """Trains a component with several data-parallel workers.

    Args:
        bench: The campaign.
        job: The trial.
    """

    def __init__(self, bench: Bench, job: TrialJob) -> None:
        self._bench, self._job = bench, job

    def __call__(self, request: TrainRequest, stores: Stores, stop: StopRequest) -> ComponentResult:
        """Train one component and wait for it.

        Raises:
            CaloRayError: It failed, or was stopped.
        """
        del stores
        wanted, folder = self._bench.settings.trial, self._job.folder
        relayed = folder / f"{STOP}-workers"
        relayed.unlink(missing_ok=True)
        job = ComponentJob(
            request,
            self._bench.manifest.readout,
            tuple(request.component.layers),
            relayed,
            threads=max(1, int(wanted.cpus)),
            sums=bool(getattr(request.component, "sums_only", False)),
        )
        workers = WorkerConfig(
            workers=wanted.workers, cpus=wanted.cpus, gpus=wanted.gpus, max_failures=wanted.retries
        )
        training = Training(job, self, workers, folder, stop)
        training.start()
        while training.is_alive():
            training.join(POLL)
            if stop.requested and not relayed.exists():
                write_bytes(relayed, f"{stop.signal}\n".encode())
        outcome = training.outcome()
        if isinstance(outcome, CaloRayError):
            raise outcome
        return outcome

    def columns(self, layers: Sequence[int], *, sums: bool = False) -> Columns:
        """The rows of the component, as :class:`caloray.distributed.layer_feed.LayerFeed` gives them."""
        return self._bench.feed(layers, sums=sums)
