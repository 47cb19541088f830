"""Train every classifier of a config: generated against reference, and the floors under the results."""

from __future__ import annotations

__all__ = ["run_classifiers"]

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from caloray.errors import DataError, GeometryError
from caloray.evaluation.classifiers.config import ClassifierConfig, DnnConfig, Input, Model, ResnetConfig
from caloray.evaluation.classifiers.inputs import ClassifierData, InputTable
from caloray.evaluation.classifiers.parts import Epochs, Parts, Trained, split_weights, take_parts
from caloray.evaluation.classifiers.records import Outcome, Sizes, build_record
from caloray.evaluation.classifiers.scores import Scores, score
from caloray.evaluation.classifiers.trees import train_trees
from caloray.evaluation.features import feature_names
from caloray.evaluation.pairs import matched_pairs
from caloray.evaluation.threads import in_threads
from caloray.geometry import Geometry
from caloray.rng import StreamKey

FEWEST = {"trees": 100, "dnn": 400, "resnet": 400}

Progress = Callable[[str, int, int], None]
Train = Callable[[Parts, StreamKey, Epochs], Trained]


@dataclass(frozen=True)
class _Trainer:
    """A kind of classifier on one input, ready to be trained any number of times."""

    train: Train
    columns: int
    parameters: int | None
    epochs: int
    side_by_side: bool = False


def run_classifiers(
    reference: ClassifierData,
    generated: ClassifierData,
    config: ClassifierConfig,
    geometry: Geometry,
    threshold: float,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """AUC and JSD of each classifier of the config, with floors.

    Every classifier is trained ``seeds`` times on all showers (the larger sample is trimmed to the smaller
    one by a new draw each time), and as often on random halves of the reference against each other (the
    floor) and on one of these halves against equally many generated showers (the matched value). The
    classifiers of one training number share rows and parts.

    Args:
        reference: Geant4 showers, label 1.
        generated: What is judged, label 0.
        config: Which classifiers.
        geometry: The readout.
        threshold: Voxels below it [MeV] count as zero.
        seed: Seed of splits, weights and batches.
        progress: Called with (classifier, epochs done, epochs at most).

    Returns:
        One record per classifier, see :func:`caloray.evaluation.classifiers.records.build_record`.

    Raises:
        DataError: Too few showers.
        GeometryError: Showers of another readout, or a residual network for layers of different shapes.
        ConfigError: A device that is not here.
        NumericalError: A loss that is not a number.
    """
    _check(reference, generated, config, geometry)
    order = (
        np.argsort(reference.ids, kind="stable"),
        np.argsort(generated.ids, kind="stable") + len(reference),
    )
    records = []
    for kind, model in _chosen(config):
        trainer = _trainer(reference, generated, config, geometry, threshold, kind, model)
        sizes = Sizes(
            reference=len(reference),
            generated=len(generated),
            most=config.most,
            seeds=(config.trees.seeds or config.seeds) if model == "trees" else config.seeds,
            weights=split_weights(geometry, config.split),
        )
        outcome = _outcome(trainer, order, sizes, f"{kind}/{model}", seed, progress)
        leaks = _leaks(reference, generated, geometry, threshold) if kind == "low-normed" else 0
        described = {"columns": trainer.columns, "parameters": trainer.parameters, "leaks": leaks}
        records.append(
            build_record(kind, model, outcome, config, geometry, threshold, sizes, seed, described)
        )
    return records


def _chosen(config: ClassifierConfig) -> Iterator[tuple[Input, Model]]:
    """Input and model of each record, in the order of the config."""
    for model in config.models:
        match model:
            case "dnn":
                yield from ((kind, model) for kind in config.inputs)
            case "resnet":
                yield "low", model
            case "trees":
                yield "high", model


def _outcome(
    trainer: _Trainer,
    order: tuple[np.ndarray, np.ndarray],
    sizes: Sizes,
    name: str,
    seed: int,
    progress: Progress | None,
) -> Outcome:
    """All trainings of one classifier; parts depend on the seed and the training's number alone."""
    total, finished = 3 * sizes.seeds * trainer.epochs, itertools.count(1)

    def tell(done: int) -> None:
        if progress is not None:
            progress(name, done, total)

    def carry_out(job: _Job) -> tuple[str, int, Trained, Scores]:
        weights, which = sizes.weights, job.which
        parts = take_parts(
            job.ones, job.zeros, weights, StreamKey(seed, "classifiers", f"parts-{job.target}", which)
        )
        key = StreamKey(seed, f"classifiers/{name}", job.target, which)
        before = job.number * trainer.epochs
        trained = trainer.train(parts, key, lambda done: tell(before + done))
        if trainer.side_by_side:
            tell(next(finished) * trainer.epochs)
        return job.target, which, trained, score(trained, parts)

    jobs = _jobs(order, sizes, seed)
    outcome = Outcome()
    for found in in_threads(carry_out, jobs) if trainer.side_by_side else map(carry_out, jobs):
        outcome.add(*found)
    return outcome


@dataclass(frozen=True)
class _Job:
    """One training: its place among all, its kind and number, rows with label 1 and rows with label 0."""

    number: int
    target: str
    which: int
    ones: np.ndarray
    zeros: np.ndarray


def _jobs(order: tuple[np.ndarray, np.ndarray], sizes: Sizes, seed: int) -> list[_Job]:
    """Every training of one classifier."""
    ones, zeros = order
    jobs: list[tuple[str, int, np.ndarray, np.ndarray]] = []
    for which in range(sizes.seeds):
        generator = StreamKey(seed, "classifiers", "draw", which).generator()
        drawn = [generator.permutation(rows)[: sizes.value] for rows in order]
        jobs.append(("value", which, drawn[0], drawn[1]))
    most = None if sizes.most is None else max(1, sizes.most // 2)
    for which, pair in enumerate(matched_pairs(len(ones), len(zeros), seed, sizes.seeds, most)):
        jobs.append(("floor", which, ones[pair.first], ones[pair.second]))
        jobs.append(("matched", which, ones[pair.first], zeros[pair.generated]))
    return [_Job(number, *job) for number, job in enumerate(jobs)]


def _trainer(
    reference: ClassifierData,
    generated: ClassifierData,
    config: ClassifierConfig,
    geometry: Geometry,
    threshold: float,
    kind: Input,
    model: Model,
) -> _Trainer:
    if model == "trees":
        columns = np.concatenate([_tree_columns(data, geometry) for data in (reference, generated)])
        return _Trainer(
            lambda parts, key, _: train_trees(columns, parts, config.trees, key),
            columns.shape[1],
            None,
            1,
            side_by_side=True,
        )
    return _network_trainer(reference, generated, config, geometry, threshold, kind, model)


def _network_trainer(
    reference: ClassifierData,
    generated: ClassifierData,
    config: ClassifierConfig,
    geometry: Geometry,
    threshold: float,
    kind: Input,
    model: Model,
) -> _Trainer:
    from caloray.evaluation.classifiers.networks import build_dnn, build_resnet, count_parameters
    from caloray.evaluation.classifiers.training import TensorSource, choose_device, train_network

    settings: DnnConfig | ResnetConfig = config.dnn if model == "dnn" else config.resnet
    table = InputTable(reference, generated, kind, geometry, threshold, settings.dtype)
    source = TensorSource(table, choose_device(config.device))

    def build(key: StreamKey) -> Any:
        if isinstance(settings, DnnConfig):
            return build_dnn(table.width, settings, key)
        return build_resnet((geometry.n_layers, *geometry.layers[0].shape), settings, key)

    def train(parts: Parts, key: StreamKey, after: Epochs) -> Trained:
        network = build(key.named(key.component, f"{key.purpose}-weights"))
        return train_network(network, source, parts, settings, _epochs_of(key), after)

    parameters = count_parameters(build(StreamKey(0, "classifiers", "count")))
    return _Trainer(train, table.width, parameters, settings.epochs)


def _epochs_of(key: StreamKey) -> StreamKey:
    """The stream family of one training's batches, whose block is free to count epochs."""
    return key.named(key.component, f"{key.purpose}-batches-{key.block}")


def _tree_columns(data: ClassifierData, geometry: Geometry) -> np.ndarray:
    """Features, log10 of all energies / E_inc (trees cannot divide), and the extra columns."""
    names = feature_names(geometry)
    energies = [i for i, name in enumerate(names) if name.startswith(("layer_energy", "total_energy"))]
    columns = [data.features, data.features[:, energies] - data.features[:, :1]]
    return np.concatenate(columns if data.extra is None else [*columns, data.extra], axis=1)


def _leaks(reference: ClassifierData, generated: ClassifierData, geometry: Geometry, threshold: float) -> int:
    return InputTable(reference, generated, "low-normed", geometry, threshold).leaks()


def _check(
    reference: ClassifierData, generated: ClassifierData, config: ClassifierConfig, geometry: Geometry
) -> None:
    only_features = all(kind == "high" for kind, _ in _chosen(config))
    for name, data in (("reference", reference), ("generated", generated)):
        if data.voxels.shape[1] != geometry.n_voxels and (data.voxels.shape[1] or not only_features):
            raise GeometryError(
                f"{name}: {data.voxels.shape[1]} voxels, geometry {geometry.name} has {geometry.n_voxels}",
                hint="choose the geometry that the showers were made with",
            )
        for model in config.models:
            found = min(len(data), config.most or len(data))
            if found < FEWEST[model]:
                raise DataError(
                    f"{name}: {found} showers for classifier {model}, at least {FEWEST[model]} are needed",
                    hint="give more showers, or leave this classifier out",
                )
    if reference.features.shape[1] != generated.features.shape[1]:
        raise DataError(
            f"features: reference has {reference.features.shape[1]} columns, generated "
            f"{generated.features.shape[1]}"
        )
    if "resnet" in config.models and not geometry.uniform:
        raise GeometryError(
            f"geometry {geometry.name}: the residual network needs layers of one shape",
            hint="leave resnet out of the classifiers",
        )
    if set(config.models) & {"dnn", "resnet"}:
        from caloray.evaluation.classifiers.training import choose_device

        choose_device(config.device)
