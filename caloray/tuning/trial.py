"""One trial carried out: its components trained, its objectives measured, its result written last.

Everything lies in the trial's folder, and every part of it is there whole or not at all. A trial that was
interrupted, or whose process was killed, goes on from its last checkpoint when it is carried out again, and
ends with the same weights. A trial that continues another one begins with a copy of that one's component
folders.

The weights of all trials stay, so that any of them can be looked at later; they are small. Checkpoints, which
hold the optimizer too, are removed when the trial has ended, unless another trial may continue from them.
"""

from __future__ import annotations

__all__ = [
    "Stores",
    "TrainComponent",
    "TrialJob",
    "carry_out",
    "remove_checkpoints",
    "rows_of",
    "told",
    "train_here",
]

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from caloray.config import RunConfig
from caloray.errors import CaloRayError, InterruptedRunError, NumericalError
from caloray.geometry import Geometry
from caloray.interrupt import StopRequest
from caloray.io.store import LayerStore
from caloray.preprocess.statistics import TrainingStatistics
from caloray.schemes.build import Scheme, build_scheme
from caloray.schemes.component import Component
from caloray.training.files import ComponentFolder, ComponentResult
from caloray.training.run import TrainRequest, train_component
from caloray.training.warm import WarmStart, find_source
from caloray.tuning.handover import adopt, continued_from
from caloray.tuning.ledger import Ledger, Status, Trial, TrialResult
from caloray.tuning.limits import TrialStop
from caloray.tuning.objectives import TrainedTrial, measure
from caloray.tuning.settings import Objective
from caloray.tuning.warm import not_before, source_of


class Stores(Protocol):
    """Gives showers to train on and to measure with."""

    def __call__(self, split: str, layers: Sequence[int], *, sums: bool) -> LayerStore:
        """Exactly these layers of one split; with ``sums`` their energies alone."""


TrainComponent = Callable[[TrainRequest, Stores, StopRequest], ComponentResult]


@dataclass(frozen=True)
class TrialJob:
    """What a trial needs to know.

    Args:
        trial: The trial.
        run: Its resolved run config.
        output: The campaign's directory.
        components: Components that it trains, in order.
        objective: What is measured.
        identities: By component, what determines its result besides its training settings.
        split: Split that the objectives are measured on.
        keep_checkpoints: Whether another trial may continue from this one.
        shards: Directory of the ingested showers, for objectives that compare generated ones.
        bundle: Model that lends the other components to these.
        gpus: How many it occupies.
    """

    trial: Trial
    run: RunConfig
    output: Path
    components: tuple[str, ...]
    objective: tuple[Objective, ...]
    identities: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    split: str = "validation"
    keep_checkpoints: bool = False
    shards: Path | None = None
    bundle: Path | None = None
    gpus: float = 0.0

    @property
    def folder(self) -> Path:
        """The trial's folder."""
        return Ledger(self.output).folder(self.trial.number)

    def component(self, name: str) -> ComponentFolder:
        """Folder of one component."""
        return ComponentFolder(self.folder / "components" / name)


def train_here(request: TrainRequest, stores: Stores, stop: StopRequest) -> ComponentResult:
    """Train a component in this process."""
    training, validation = (rows_of([request.component], stores, split) for split in ("train", "validation"))
    return train_component(request, training, validation, stop=stop)


def rows_of(parts: Sequence[Component], stores: Stores, split: str) -> LayerStore:
    """The layers that some components read between them."""
    layers = sorted({layer for part in parts for layer in part.layers})
    return stores(split, layers, sums=all(getattr(part, "sums_only", False) for part in parts))


def carry_out(
    job: TrialJob,
    stores: Stores,
    geometry: Geometry,
    statistics: TrainingStatistics,
    stop: TrialStop,
    train: TrainComponent = train_here,
) -> TrialResult:
    """Train and measure one trial, or go on with it; what has ended already is not touched.

    Args:
        job: The trial.
        stores: Gives the rows of a component.
        geometry: Readout of the showers.
        statistics: What preprocessing has to know of the training split.
        stop: Ends the training at the next step boundary, with a checkpoint.
        train: Trains one component.

    Returns:
        The result, which is in the ledger.

    Raises:
        InterruptedRunError: The campaign stops; there is no result, and the same call goes on.
        CaloRayError: Something that another attempt may or may not get over.
    """
    ledger = Ledger(job.output)
    before = ledger.result(job.trial.number)
    if before is not None:
        return before
    try:
        objectives, facts = _train_and_measure(job, stores, geometry, statistics, stop, train)
        result = _result(job, stop, "complete", "", objectives, facts)
    except NumericalError as error:
        result = _result(job, stop, "pruned", told(error))
    except InterruptedRunError:
        if stop.exceeded is None:
            stop.note()
            raise
        result = _result(job, stop, "stopped", stop.exceeded)
    ledger.finish(result)
    if not job.keep_checkpoints:
        remove_checkpoints(job.folder)
    return result


def told(error: CaloRayError) -> str:
    """An error in one line, its code first."""
    return f"{error.code} {error.message}"


def remove_checkpoints(folder: Path) -> None:
    """Remove a trial's checkpoints; weights, history and result stay."""
    for checkpoints in folder.glob("components/*/checkpoints"):
        shutil.rmtree(checkpoints, ignore_errors=True)


def _train_and_measure(
    job: TrialJob,
    stores: Stores,
    geometry: Geometry,
    statistics: TrainingStatistics,
    stop: TrialStop,
    train: TrainComponent,
) -> tuple[dict[str, float], dict[str, Any]]:
    scheme = build_scheme(job.run.scheme, geometry, statistics, job.run.seed)
    results: dict[str, ComponentResult] = {}
    for name in job.components:
        stop.check(f"trial {job.trial.number}")
        results[name] = train(_request(job, scheme, name), stores, stop)
    parts = [scheme.component(name) for name in job.components]
    trained = TrainedTrial(
        run=job.run,
        geometry=geometry,
        statistics=statistics,
        weights={name: job.component(name).weights() for name in job.components},
        stores={job.split: rows_of(parts, stores, job.split)},
        shards=job.shards,
        bundle=job.bundle,
        folder=job.folder,
        check=partial(stop.check, f"trial {job.trial.number}"),
    )
    measured = measure(job.objective, trained, split=job.split)
    components = {name: _component_facts(result) for name, result in results.items()}
    return measured.values, {"components": components, "split": job.split, **measured.facts}


def _request(job: TrialJob, scheme: Scheme, name: str) -> TrainRequest:
    """The training of one component, in a folder that holds the parent's work where it continues that."""
    training = job.run.training_of(name)
    folder = job.component(name)
    warm = _warm_start(job, scheme, name)
    request = TrainRequest(
        component=scheme.component(name),
        config=training,
        directory=folder.path,
        seed=job.run.seed,
        identity=dict(job.identities.get(name, {})),
        warm=warm,
    )
    trial = job.trial
    if trial.continues and trial.parent is not None:
        adopt(request, Ledger(job.output).folder(trial.parent) / "components" / name)
    return continued_from(request)


def _warm_start(job: TrialJob, scheme: Scheme, name: str) -> WarmStart | None:
    """Weights to start from: a path, or a component that this trial has trained before.

    Raises:
        ConfigError: The source is a component that this trial does not train before this one.
    """
    wanted = source_of(job.run, scheme, name)
    if wanted is None:
        return None
    if wanted not in scheme.components:
        return find_source(Path(wanted), name)
    source = job.component(wanted)
    result = source.result() if wanted in job.components else None
    if result is None:
        raise not_before(wanted, name)
    return WarmStart(wanted, source.weights_file, result.sha256)


def _component_facts(result: ComponentResult) -> dict[str, Any]:
    return {
        "validation_loss": result.validation_loss,
        "selected_epoch": result.selected_epoch,
        "epochs": result.epochs,
        "parameters": result.parameters,
        "weights": result.sha256,
    }


def _result(
    job: TrialJob,
    stop: TrialStop,
    status: Status,
    reason: str,
    objectives: dict[str, float] | None = None,
    facts: dict[str, Any] | None = None,
) -> TrialResult:
    spent = stop.note()
    return TrialResult(
        number=job.trial.number,
        status=status,
        objectives=objectives or {},
        reason=reason,
        seconds=round(spent.seconds, 3),
        cpu_seconds=round(spent.cpu_seconds, 3),
        attempts=spent.attempts,
        peak_memory=spent.peak_memory,
        facts=facts or {},
        gpu_seconds=round(job.gpus * spent.seconds, 3),
    )
