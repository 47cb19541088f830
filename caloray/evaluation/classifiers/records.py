"""What is written down of one classifier: metrics with floors, curves, single trainings, settings."""

from __future__ import annotations

__all__ = ["Outcome", "Sizes", "build_record", "is_official"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from caloray.evaluation.classifiers.config import PRESETS, ClassifierConfig, Input, Model
from caloray.evaluation.classifiers.parts import Trained
from caloray.evaluation.classifiers.scores import Scores, mean_roc, reliability
from caloray.evaluation.metric import Metric, matched
from caloray.evaluation.published import benchmark_of, same_threshold
from caloray.geometry import Geometry

INPUTS = {
    "low": "voxels / E_inc",
    "low-normed": "voxels / E_layer",
    "high": "high-level features",
}
MODELS = {"dnn": "DNN", "resnet": "3-D ResNet", "trees": "boosted trees"}


@dataclass(frozen=True)
class Sizes:
    """How many showers and trainings.

    Args:
        reference: Showers there.
        generated: Showers there.
        most: Most of either to use.
        seeds: Trainings of each kind.
        weights: Relative sizes of the three parts.
    """

    reference: int
    generated: int
    most: int | None
    seeds: int
    weights: tuple[int, int, int]

    @property
    def value(self) -> int:
        """Showers of either kind behind the value."""
        n = min(self.reference, self.generated)
        return n if self.most is None else min(n, self.most)

    @property
    def pair(self) -> int:
        """Showers of either kind behind a floor or a matched value."""
        n = min(self.reference // 2, self.generated)
        return n if self.most is None else min(n, max(1, self.most // 2))

    def final(self, n: int) -> int:
        """Showers of either kind in the third part of ``n``."""
        return n - sum(n * weight // sum(self.weights) for weight in self.weights[:2])


@dataclass
class Outcome:
    """Scores of all trainings of one classifier: "value", "floor", "matched"."""

    scores: dict[str, list[Scores]] = field(
        default_factory=lambda: {name: [] for name in ("value", "floor", "matched")}
    )
    runs: list[dict[str, Any]] = field(default_factory=list)

    def add(self, target: str, number: int, trained: Trained, scores: Scores) -> None:
        """Take in one training; those of the value are listed one by one."""
        self.scores[target].append(scores)
        if target == "value":
            self.runs.append(
                {
                    "seed": number,
                    "auc": scores.auc,
                    "auc_raw": scores.auc_raw,
                    "jsd": scores.jsd,
                    "epochs": trained.epochs,
                    "best_epoch": trained.best_epoch,
                }
            )

    def numbers(self, name: str) -> dict[str, list[float]]:
        """One attribute of the scores of every training."""
        return {target: [getattr(one, name) for one in every] for target, every in self.scores.items()}


def build_record(
    kind: Input,
    model: Model,
    outcome: Outcome,
    config: ClassifierConfig,
    geometry: Geometry,
    threshold: float,
    sizes: Sizes,
    seed: int,
    described: Mapping[str, Any],
) -> dict[str, Any]:
    """One record.

    Keys: input, model, title, comparable, settings, auc and jsd (:class:`Metric` dictionaries), roc and
    floor_roc (means over trainings), calibration and calibration_raw (all trainings of the value together),
    runs (one per training of the value; the AUCs of the floor and matched ones are in ``settings``).
    """
    comparable = is_official(model, config, geometry, threshold, sizes)
    settings = _settings(model, config, sizes, seed, threshold) | dict(described)
    aucs, jsds = outcome.numbers("auc"), outcome.numbers("jsd")
    settings |= {"floor_aucs": aucs["floor"], "matched_aucs": aucs["matched"]}
    title = f"{MODELS[model]} on {INPUTS[kind]}"
    notes = _notes(comparable, described["leaks"])
    metrics = {}
    for name, values in (("auc", aucs), ("jsd", jsds)):
        metrics[name] = _metric(
            f"{name}/{kind}/{model}",
            f"{name.upper()}, {title}",
            values,
            outcome.numbers(f"{name}_error"),
            sizes,
            comparable,
            "; ".join(notes + _noise(name, values["value"], outcome.numbers(f"{name}_error")["value"])),
        )
    return {
        "input": kind,
        "model": model,
        "title": title,
        "comparable": comparable,
        "settings": settings,
        **{name: metric.to_dict() for name, metric in metrics.items()},
        "roc": mean_roc(outcome.scores["value"]),
        "floor_roc": mean_roc(outcome.scores["floor"]),
        "calibration": reliability(outcome.scores["value"]),
        "calibration_raw": reliability(outcome.scores["value"], calibrated=False),
        "runs": outcome.runs,
    }


def is_official(
    model: Model, config: ClassifierConfig, geometry: Geometry, threshold: float, sizes: Sizes
) -> bool:
    """Whether a classifier is the challenge's: network, trainings, threshold and number of showers.

    Which showers they are is for :func:`caloray.evaluation.published.data_reasons` to say. Only the fully
    connected network can be official: the learning rate and the epochs of the published residual network
    are not recorded, and nobody publishes trees.
    """
    official, benchmark = PRESETS["official"], benchmark_of(geometry.digest)
    return (
        model == "dnn"
        and config.dnn == official.dnn
        and config.split is None
        and sizes.seeds >= official.seeds
        and benchmark is not None
        and same_threshold(threshold, benchmark.threshold)
        and sizes.value == benchmark.showers
    )


def _metric(
    name: str,
    label: str,
    values: dict[str, list[float]],
    errors: dict[str, list[float]],
    sizes: Sizes,
    comparable: bool,
    note: str,
) -> Metric:
    """The spread is that of matched - floor, both means over trainings (Welch's), not of one training.

    Few trainings do not say much about their scatter: it is not taken to be smaller than the statistical
    error of the third parts.
    """
    sides = ("floor", "matched")
    scatter = sum(float(np.var(values[side], ddof=1)) for side in sides)
    statistical = sum(float(np.mean(np.square(errors[side]))) for side in sides)
    spread = float(np.sqrt(max(scatter, statistical) / sizes.seeds))
    return Metric(
        name=name,
        label=label,
        value=float(np.mean(values["value"])),
        error=float(np.std(values["value"], ddof=1)),
        showers=(sizes.value, sizes.value),
        pair_showers=sizes.pair,
        comparable=comparable,
        settings={"seeds": sizes.seeds, "floor_scatter": float(np.std(values["floor"], ddof=1))},
        note=note,
        **matched(values["floor"], values["matched"]) | {"spread": spread},
    )


def _notes(comparable: bool, leaks: int) -> list[str]:
    notes = [] if comparable else ["not comparable with published numbers"]
    if leaks:
        notes.append(
            f"{leaks} showers have energy below the threshold in layers that are empty above it, which this "
            "input makes huge"
        )
    return notes


def _noise(name: str, values: Sequence[float], errors: Sequence[float]) -> list[str]:
    """How to read a value on the far side of perfect."""
    perfect = {"auc": 0.5, "jsd": 0.0}[name]
    below = perfect - float(np.mean(values))
    if below <= 0:
        return []
    if name == "auc" and below > 4 * float(np.mean(errors)):
        return ["far below 0.5: are there showers that occur more than once?"]
    return [f"{perfect:g} is perfect, below it is noise"]


def _settings(
    model: Model, config: ClassifierConfig, sizes: Sizes, seed: int, threshold: float
) -> dict[str, Any]:
    chosen = {"dnn": config.dnn, "resnet": config.resnet, "trees": config.trees}[model]
    return chosen.model_dump(mode="json") | {
        "seed": seed,
        "seeds": sizes.seeds,
        "split": list(sizes.weights),
        "threshold": threshold,
        "showers": {"reference": sizes.reference, "generated": sizes.generated, "used_of_each": sizes.value},
        "final_showers": 2 * sizes.final(sizes.value),
    }
