"""A trial's components as a whole model: the bundle that they make with others, and its showers judged."""

from __future__ import annotations

__all__ = ["FirstShowers", "TrainedTrial", "evaluate_trial", "require_whole", "whole_model"]

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel
from torch import Tensor

from caloray.atomic import digest_json
from caloray.bundle import Bundle, save_bundle
from caloray.bundle_file import load_tensors
from caloray.config import RunConfig
from caloray.errors import ConfigError
from caloray.evaluation.results import Results
from caloray.evaluation.run import evaluate
from caloray.evaluation.settings import MetricSettings
from caloray.generation.conditions import ListedCondition
from caloray.generation.energies import Listed
from caloray.generation.plan import make_plan
from caloray.generation.run import generate
from caloray.geometry import Geometry
from caloray.io.source import ShowerSource, open_source
from caloray.io.store import LayerStore
from caloray.preprocess.statistics import TrainingStatistics
from caloray.schemes.build import Scheme, SchemeConfig, build_scheme
from caloray.showers import Showers


def _go_on() -> None:
    return None


@dataclass(frozen=True)
class TrainedTrial:
    """What a trial trained, and what is needed to judge it.

    Args:
        run: The trial's own run config.
        geometry: The readout.
        statistics: Extremes of the training split.
        weights: State dict of every component that the trial trained.
        stores: Showers by split, with all layers that these components read.
        shards: Directory of the ingested showers; metrics of generated showers need it.
        bundle: A model that lends the components that were not trained here.
        folder: Where temporary files may lie; the system's folder for such when None.
        check: Called before each stage of measuring; raises where the trial has to stop.
    """

    run: RunConfig
    geometry: Geometry
    statistics: TrainingStatistics
    weights: Mapping[str, Mapping[str, Tensor]]
    stores: Mapping[str, LayerStore] = field(default_factory=dict)
    shards: Path | None = None
    bundle: Path | None = None
    folder: Path | None = None
    check: Callable[[], None] = _go_on

    @property
    def scheme(self) -> Scheme:
        """The factorisation with the trial's settings."""
        return build_scheme(self.run.scheme, self.geometry, self.statistics, self.run.seed)

    @property
    def missing(self) -> tuple[str, ...]:
        """Components of the scheme that were not trained here."""
        return tuple(name for name in self.scheme.components if name not in self.weights)


@dataclass(frozen=True)
class FirstShowers:
    """The first showers of a source, in its order.

    Args:
        whole: All of them.
        n: How many are taken.
    """

    whole: ShowerSource
    n: int

    @property
    def geometry(self) -> Geometry:
        """Readout of the showers."""
        return self.whole.geometry

    @property
    def n_showers(self) -> int:
        """How many there are."""
        return min(self.n, self.whole.n_showers)

    @property
    def conditions(self) -> Mapping[str, str]:
        """Unit of each condition that the showers carry, by name."""
        return self.whole.conditions

    @property
    def digest(self) -> str:
        """sha256 that names the content."""
        return digest_json([self.whole.digest, self.n])

    def chunks(self, rows: int = 1000) -> Iterator[Showers]:
        """The showers, ``rows`` at a time."""
        left = self.n_showers
        for part in self.whole.chunks(rows):
            yield part.select(slice(0, left))
            left -= min(left, len(part))
            if left == 0:
                return


@contextmanager
def whole_model(trained: TrainedTrial) -> Iterator[Bundle]:
    """The trial's components with those of the bundle that it is given, as a bundle for a while.

    Raises:
        ConfigError: Components are missing and no bundle lends them, or the bundle was made for other showers
            or with another preprocessing: its components would not understand what they are given.
    """
    scheme, weights = trained.run.scheme, dict(trained.weights)
    if trained.missing:
        lender = _lender(trained)
        scheme = _joined(trained, lender)
        weights |= {name: load_tensors(lender.file.components[name], lender.path) for name in trained.missing}
    with tempfile.TemporaryDirectory(prefix="model-", dir=trained.folder) as folder:
        yield save_bundle(
            Path(folder) / "bundle",
            config=scheme,
            geometry=trained.geometry,
            statistics=trained.statistics,
            seed=trained.run.seed,
            weights=_complete(trained, scheme, weights),
            block_size=trained.run.block_size,
        )


def require_whole(trained: TrainedTrial) -> None:
    """Refuse components that :func:`whole_model` could not make a model of; their weights may be empty yet.

    Raises:
        ConfigError: As :func:`whole_model`.
        BundleError: The bundle that lends components cannot be opened.
    """
    if not trained.missing:
        return
    lender = _lender(trained)
    build_scheme(_joined(trained, lender), trained.geometry, trained.statistics, trained.run.seed)
    absent = [name for name in trained.missing if name not in lender.file.components]
    if absent:
        raise ConfigError(
            f"{trained.bundle}: has no component {absent[0]}", hint="name a bundle of the same scheme"
        )


def _complete(
    trained: TrainedTrial, scheme: SchemeConfig, weights: Mapping[str, Mapping[str, Tensor]]
) -> dict[str, Mapping[str, Tensor]]:
    """The weights of every component, in the scheme's order."""
    names = build_scheme(scheme, trained.geometry, trained.statistics, trained.run.seed).components
    return {name: weights[name] for name in names}


def _lender(trained: TrainedTrial) -> Bundle:
    """The bundle that lends components, opened and found fit."""
    if trained.bundle is None:
        raise ConfigError(
            f"the trial trains {', '.join(trained.weights)} alone; a whole shower also needs "
            f"{', '.join(trained.missing)}",
            hint="train all components, or name a bundle that lends the others (objective.bundle)",
        )
    lender = Bundle.load(trained.bundle)
    if lender.geometry.digest != trained.geometry.digest:
        raise ConfigError(
            f"{trained.bundle}: made for geometry {lender.geometry.name}, the data have "
            f"{trained.geometry.name}",
            hint="name a bundle of the same readout",
        )
    if lender.file.statistics != trained.statistics:
        raise ConfigError(
            f"{trained.bundle}: its preprocessing was fitted to other showers than the campaign's",
            hint="train it on the same split, with the run config that the campaign names",
        )
    return lender


def _joined(trained: TrainedTrial, lender: Bundle) -> SchemeConfig:
    """The trial's scheme with the lender's architectures where its components come from there."""
    own, other = (dict(scheme) for scheme in (trained.run.scheme, lender.file.scheme))
    differing = [name for name in own if name != "flows" and own[name] != other.get(name)]
    if differing:
        raise ConfigError(
            f"{trained.bundle}: scheme.{differing[0]} is {other.get(differing[0])!r}, the trial has "
            f"{own[differing[0]]!r}; components of both do not fit together",
            hint="search it with all components trained in the trial, or leave it as the bundle has it",
        )
    keys = {name: _key(trained.run.scheme, name) for name in trained.scheme.components}
    lent = {keys[name] for name in trained.missing}
    flows: Any = trained.run.scheme.flows
    theirs: Any = lender.file.scheme.flows
    for key in sorted(lent & {keys[name] for name in trained.weights}):
        if getattr(flows, key) != getattr(theirs, key):
            raise ConfigError(
                f"scheme.flows.{key} differs from {trained.bundle}, and only some of its components are "
                "trained in the trial",
                hint="train all components of the group, or leave their architecture as the bundle has it",
            )
    changed: BaseModel = flows.model_copy(update={key: getattr(theirs, key) for key in lent})
    return trained.run.scheme.model_copy(update={"flows": changed})


def _key(scheme: SchemeConfig, component: str) -> str:
    """The key of ``scheme.flows`` that describes a component."""
    known = type(scheme.flows).model_fields
    names = (component, scheme.group_of(component), component.removesuffix("s"))
    return next(name for name in names if name in known)


def evaluate_trial(
    trained: TrainedTrial, bundle: Bundle, metrics: MetricSettings, *, split: str, showers: int, seed: int
) -> Results:
    """Compare showers of a model with held-out ones of the same particles.

    The particles are the first ``showers`` of the split, the same in every trial, and so is the seed: two
    trials differ by their models alone.

    Args:
        trained: The trial.
        bundle: Its whole model.
        metrics: What is measured.
        split: Held-out showers.
        showers: How many, at most.
        seed: Of the generated showers.

    Raises:
        ConfigError: There are no ingested showers to compare with.
        NumericalError: Showers were invalid, again and again.
    """
    if trained.shards is None:
        raise ConfigError(
            "metrics of generated showers need ingested showers to compare with",
            hint="run `caloray data ingest` first",
        )
    reference = FirstShowers(open_source(trained.shards, split), showers)
    energies, conditions = _particles(reference, bundle.condition_names)
    plan = make_plan(
        bundle,
        seed=seed,
        energies=energies,
        conditions=conditions,
        on_invalid="resample",
        allow_extrapolation=True,
    )
    with tempfile.TemporaryDirectory(prefix="showers-", dir=trained.folder) as folder:
        made = Path(folder) / "showers"
        generate(bundle, plan, made)
        trained.check()
        return evaluate(reference, open_source(made), metrics=metrics, names=(split, trained.run.name))


def _particles(source: FirstShowers, names: Sequence[str]) -> tuple[Listed, tuple[ListedCondition, ...]]:
    """Incident energies and conditions of all showers of a source."""
    parts = [(part.incident_energies, part.conditions) for part in source.chunks()]
    energies = np.concatenate([energy for energy, _ in parts])
    columns = {name: np.concatenate([values[name] for _, values in parts]) for name in names}
    listed = tuple(ListedCondition(name=name, values=tuple(v.tolist())) for name, v in columns.items())
    return Listed(values=tuple(energies.tolist())), listed
