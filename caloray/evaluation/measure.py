"""All metrics beyond the histograms, each with its floor, in the order in which they are shown."""

from __future__ import annotations

__all__ = ["Judged", "measure"]

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from caloray.errors import DataError
from caloray.evaluation.classifiers.config import preset
from caloray.evaluation.classifiers.inputs import ClassifierData
from caloray.evaluation.classifiers.run import run_classifiers
from caloray.evaluation.correlations import compare_correlations
from caloray.evaluation.features import feature_vector
from caloray.evaluation.fpd import fpd
from caloray.evaluation.halves import incident_energies
from caloray.evaluation.kpd import kpd
from caloray.evaluation.memorisation import Training, marks, memorisation
from caloray.evaluation.metric import Metric
from caloray.evaluation.passes import Progress
from caloray.evaluation.prdc import prdc
from caloray.evaluation.quantities import SHOWER, columns_of
from caloray.evaluation.settings import MetricSettings
from caloray.evaluation.table import Table
from caloray.evaluation.voxels import VOXELS_AT_ONCE, smallest, take_showers
from caloray.evaluation.wasserstein import wasserstein
from caloray.geometry import Geometry
from caloray.io.source import ShowerSource
from caloray.observables import apply_threshold, observe
from caloray.showers import Showers

TRAINING = 20_000  # showers of it whose distances are measured
MEMORISED = 2000
LEFT_OUT = ("incident_energy", "layer_hits")  # given to the model; the same as the sparsity


@dataclass(frozen=True)
class Judged:
    """One sample with all that metrics may ask of it.

    Args:
        source: Where its showers are.
        table: Quantities of every shower.
        threshold: Voxels below it are zero [MeV].
        most: Showers whose voxels may be looked at.
    """

    source: ShowerSource
    table: Table
    threshold: float
    most: int

    @property
    def geometry(self) -> Geometry:
        """The readout."""
        return self.source.geometry

    @cached_property
    def order(self) -> np.ndarray:
        """(N,) rows of the table by incident energy, see :func:`caloray.evaluation.pairs.matched_pairs`."""
        return np.asarray(np.argsort(self.table.energies, kind="stable"))

    @cached_property
    def features(self) -> np.ndarray:
        """(N, F) the official high-level features, by incident energy."""
        return np.asarray(self.table.features()[self.order])

    @cached_property
    def showers(self) -> Showers:
        """At most ``most`` showers with their voxels, as they were made: a fair choice."""
        ids = self.table.ids
        return take_showers(self.source, ids[smallest(ids, self.most, self.table.seed)])

    def voxels(self, most: int) -> np.ndarray:
        """(n <= most, V) float32 after the threshold [MeV], a fair choice of showers by incident energy."""
        rows = smallest(self.showers.ids, most, self.table.seed)
        rows = rows[np.argsort(self.showers.incident_energies[rows], kind="stable")]
        return apply_threshold(self.showers.voxels[rows], self.threshold).astype(np.float32)

    def observed(self) -> dict[str, np.ndarray]:
        """Per observable the (N,) or (N, L) values, by incident energy."""
        spans, total = columns_of(self.geometry).spans, self.table.energies[:, None]
        found = {
            name: (self.table.column(name) if name in SHOWER else self.table.layered(name))[self.order]
            for name in spans
            if name not in LEFT_OUT
        }
        shares = self.table.layered("layer_energy") / total
        return found | {"layer_energy / E_inc": shares[self.order]}


def measure(
    reference: Judged,
    generated: Judged,
    training: ShowerSource | None,
    settings: MetricSettings,
    seed: int,
    progress: Progress | None = None,
) -> tuple[dict[str, Any], list[str]]:
    """The keys ``metrics``, ``classifiers`` and ``correlations`` of the record, and what was left out.

    A metric for which there are too few showers is left out, with one line that says so.

    Args:
        reference: Geant4 showers.
        generated: The others.
        training: What the model was trained on, to see whether it copies.
        settings: Which metrics.
        seed: Of all draws and trainings.
        progress: Told (metric, done, total).
    """
    tell = progress or _ignore
    correlations, correlation = compare_correlations(reference.table, generated.table, seed, settings.pairs)
    metrics: list[Metric] = []
    missing: list[str] = []
    for name, make in _metrics(reference, generated, training, settings, seed):
        try:
            metrics += make()
        except DataError as error:
            missing.append(f"{name} left out: {error.message}")
        tell(name, 1, 1)
    metrics += [correlation] if correlation is not None else []
    classifiers: list[dict[str, Any]] = []
    if settings.classifiers != "none":
        try:
            classifiers = _classifiers(reference, generated, settings, seed, tell)
        except DataError as error:
            missing.append(f"classifiers left out: {error.message}")
    records = [metric.to_dict() for metric in metrics]
    records += [one[key] for one in classifiers for key in ("auc", "jsd")]
    return {"metrics": records, "classifiers": classifiers, "correlations": correlations}, missing


def _metrics(
    reference: Judged,
    generated: Judged,
    training: ShowerSource | None,
    settings: MetricSettings,
    seed: int,
) -> Iterator[tuple[str, Callable[[], list[Metric]]]]:
    """Name and computation of each metric that the settings ask for."""
    pairs = settings.pairs
    if settings.distances:
        yield "FPD", lambda: fpd(reference.features, generated.features, seed, pairs)
        yield "KPD", lambda: kpd(reference.features, generated.features, seed, pairs)
        yield (
            "Wasserstein distances",
            lambda: wasserstein(reference.observed(), generated.observed(), seed, pairs=pairs),
        )
    most = settings.manifold
    if most:
        yield (
            "precision, recall, density, coverage",
            lambda: prdc(reference.voxels(most), generated.voxels(most), seed, most=most, pairs=pairs),
        )
    if most or training is not None:
        seen = None if training is None else _training(training, reference.threshold, seed)
        yield (
            "memorisation",
            lambda: memorisation(seen, reference.voxels(MEMORISED), generated.voxels(MEMORISED), seed, pairs),
        )


def _training(source: ShowerSource, threshold: float, seed: int) -> Training:
    """Marks of all training showers, and the voxels of a fair choice."""
    ids, _ = incident_energies(source)
    chosen = take_showers(source, ids[smallest(ids, TRAINING, seed)])
    seen: set[bytes] = set()
    for showers in source.chunks(max(1, VOXELS_AT_ONCE // source.geometry.n_voxels)):
        seen.update(marks(apply_threshold(showers.voxels, threshold).astype(np.float32)))
    voxels = apply_threshold(chosen.voxels, threshold).astype(np.float32)
    return Training(voxels, frozenset(seen - {b""}), source.n_showers)


def _classifiers(
    reference: Judged, generated: Judged, settings: MetricSettings, seed: int, tell: Progress
) -> list[dict[str, Any]]:
    config = preset(settings.classifiers).model_copy(update={"device": settings.device})
    if not reference.geometry.uniform:  # layers of different shapes make no grid
        models = tuple(model for model in config.models if model != "resnet")
        config = config.model_copy(update={"models": models})
    only_trees = settings.classifiers == "trees"
    first, second = (_of_features(one) if only_trees else _of_voxels(one) for one in (reference, generated))
    return run_classifiers(first, second, config, reference.geometry, reference.threshold, seed, tell)


def _of_features(one: Judged) -> ClassifierData:
    places = np.arange(len(one.order))
    nothing = np.empty((len(places), 0), np.float32)
    return ClassifierData(nothing, one.table.energies[one.order], one.features, places)


def _of_voxels(one: Judged) -> ClassifierData:
    showers = one.showers
    seen = observe(showers.voxels, one.geometry, one.threshold)
    features = feature_vector(seen, showers.incident_energies, one.geometry)
    places = np.argsort(np.argsort(showers.incident_energies, kind="stable"), kind="stable")
    return ClassifierData(showers.voxels, showers.incident_energies, features, places)


def _ignore(stage: str, done: int, total: int) -> None:
    """Nobody wants to know."""
