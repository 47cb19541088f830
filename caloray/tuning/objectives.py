"""What a trial is judged by: likelihood, time, metrics of generated showers; everything is minimised."""

from __future__ import annotations

__all__ = ["METRICS", "Measured", "TrainedTrial", "measure", "require_metric"]

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import torch
from nflows.flows.base import Flow

from caloray.bundle import Bundle
from caloray.errors import ConfigError, NumericalError
from caloray.evaluation.results import Results
from caloray.evaluation.run import evaluate
from caloray.evaluation.settings import MetricSettings
from caloray.io.source import ShowerSource
from caloray.training.score import score_component
from caloray.tuning.generated import TrainedTrial, evaluate_trial, whole_model
from caloray.tuning.objective_settings import (
    MetricObjective,
    NLLObjective,
    Objective,
    TimeObjective,
    WeightedObjective,
)
from caloray.tuning.sampling_time import calls_per_shower, time_component, time_model

METRICS = MetricSettings(pairs=3, manifold=0, classifiers="none", distances=False)
"""What costs least; a metric that is asked for is added."""
MANIFOLD = 1000
SCORE_SEED = 0
DISTANCES = ("fpd", "kpd", "wasserstein")
CLASSIFIERS = ("auc", "jsd")
MEAN = "separation_mean"
TERM = ("name", "weight", "value")
NO_BETTER = 0.5
"""AUC of showers that cannot be told apart; what lies below is statistics and no merit."""


@dataclass(frozen=True)
class Measured:
    """What a trial is worth.

    Args:
        values: Objectives by name, all to be minimised.
        facts: What stands behind them.
    """

    values: dict[str, float]
    facts: dict[str, Any] = field(default_factory=dict)


def measure(objective: Sequence[Objective], trained: TrainedTrial, *, split: str = "validation") -> Measured:
    """All objectives of a trial.

    A metric of which more is better is given with the other sign. The likelihood of several components is
    that of a whole shower: all bits over all dimensions, each component as often as a shower asks it.

    Args:
        objective: What is asked for.
        trained: The trial.
        split: Held-out showers that it is measured on.

    Raises:
        NumericalError: A value is not finite.
        ConfigError: A metric that these showers do not have, or components that do not make a whole model.
    """
    with ExitStack() as stack:
        judge = _Judge(trained, split, stack)
        values = {one.name: judge.value(one) for one in objective}
        for name, value in values.items():
            if not math.isfinite(value):
                raise NumericalError(f"objective {name} is {value}", hint="the training came to nothing")
        return Measured(values, judge.facts)


def require_metric(objective: MetricObjective, one: ShowerSource, other: ShowerSource) -> None:
    """Refuse a metric that the evaluation of such showers does not have.

    Args:
        objective: The metric.
        one: A few held-out showers.
        other: A few others, in the place of generated ones.

    Raises:
        ConfigError: There is no such metric.
    """
    _known(objective, _numbers(evaluate(one, other, metrics=_settings_for(objective))))


def _known(objective: MetricObjective, numbers: Mapping[str, float]) -> float:
    if objective.name not in numbers:
        raise ConfigError(
            f"objective {objective.name}: the evaluation of these showers does not have it",
            hint=f"it has {', '.join(sorted(numbers))}"[:300],
        )
    return numbers[objective.name]


def _settings_for(objective: MetricObjective) -> MetricSettings:
    family = objective.name.partition("/")[0]
    return METRICS.model_copy(
        update={
            "distances": family in DISTANCES,
            "classifiers": "trees" if family in CLASSIFIERS else "none",
            "manifold": MANIFOLD if family == "prdc" else 0,
        }
    )


@dataclass
class _Judge:
    """One trial being measured; whatever several objectives need is made once."""

    trained: TrainedTrial
    split: str
    stack: ExitStack
    facts: dict[str, Any] = field(default_factory=dict)
    known: dict[tuple[Any, ...], Results] = field(default_factory=dict)

    def value(self, objective: Objective) -> float:
        """One objective; a stage of its own, before which the trial may be stopped."""
        self.trained.check()
        match objective:
            case NLLObjective():
                return self._likelihood(objective.rows)
            case TimeObjective():
                return self._time(objective.batch)
            case MetricObjective():
                return self._metric(objective)
            case WeightedObjective():
                parts = [(term.of.name, term.weight, self.value(term.of)) for term in objective.terms]
                self.facts["terms"] = [dict(zip(TERM, part, strict=True)) for part in parts]
                return sum(weight * value for _, weight, value in parts)

    @cached_property
    def flows(self) -> dict[str, Flow]:
        """The trained flows, in evaluation mode."""
        scheme, built = self.trained.scheme, {}
        for name, weights in self.trained.weights.items():
            flow = scheme.component(name).build()
            own = flow.state_dict()
            flow.load_state_dict({key: weights.get(key, own[key]) for key in own})
            dtype = next(value.dtype for value in weights.values() if value.is_floating_point())
            built[name] = flow.to(dtype=dtype).eval().requires_grad_(requires_grad=False)
        return built

    @cached_property
    def bundle(self) -> Bundle:
        """The whole model."""
        return self.stack.enter_context(whole_model(self.trained))

    def _likelihood(self, rows: int) -> float:
        store, scheme = self.trained.stores[self.split], self.trained.scheme
        bits = dimensions = 0.0
        facts: dict[str, Any] = {}
        for name, flow in self.flows.items():
            part = scheme.component(name)
            score = score_component(part, flow, store, rows=rows, seed=SCORE_SEED, device=self._device(name))
            asked = part.features * calls_per_shower(part, store)
            bits += asked * score.nll_bits_per_dim
            dimensions += asked
            facts[name] = asdict(score)
        self.facts["likelihood"] = {"split": self.split, "components": facts}
        return bits / dimensions

    def _device(self, name: str) -> torch.device:
        """Where the component was trained, if this process has it: the driver of nested workers may not."""
        wanted = self.trained.run.training_of(name).device
        if wanted == "cpu" or not torch.cuda.is_available():
            return torch.device("cpu")
        return torch.device("cuda" if wanted == "auto" else wanted)

    def _time(self, batch: int) -> float:
        """Of the whole model where there is one, else of the trained components alone."""
        if not self.trained.missing or self.trained.bundle is not None:
            value, facts = time_model(self.bundle, batch)
            self.facts["time"] = facts
            return value
        store, scheme, total = self.trained.stores[self.split], self.trained.scheme, 0.0
        parts = {}
        for name, flow in self.flows.items():
            value, parts[name] = time_component(scheme.component(name), flow, store, batch)
            total += value
        self.facts["time"] = {"of": "components", "components": parts}
        return total

    def _metric(self, objective: MetricObjective) -> float:
        if objective.bundle is not None and self.trained.bundle != objective.bundle:
            raise ConfigError(
                f"objective {objective.name}: bundle {objective.bundle}, but the trial was given "
                f"{self.trained.bundle}",
                hint="name the same bundle in all objectives",
            )
        results = self._results(objective)
        numbers = _numbers(results)
        value = _known(objective, numbers)
        self.facts["showers"] = {
            "reference": results.data["reference"]["showers"],
            "generated": results.data["generated"]["showers"],
            "numbers": numbers,
        }
        return max(value, NO_BETTER) if objective.name.startswith("auc/") else value

    def _results(self, objective: MetricObjective) -> Results:
        settings = _settings_for(objective)
        key = settings, objective.showers, objective.seed
        if key not in self.known:
            showers, seed = objective.showers, objective.seed
            self.known[key] = evaluate_trial(
                self.trained, self.bundle, settings, split=self.split, showers=showers, seed=seed
            )
        return self.known[key]


def _numbers(results: Results) -> dict[str, float]:
    """Every metric and separation power by name, those with the other sign of which more is better."""
    found = {
        str(metric["name"]): float(metric["value"]) * (-1.0 if metric["better"] == "higher" else 1.0)
        for metric in results.data["metrics"]
        if metric["value"] is not None
    }
    rows: list[Mapping[str, Any]] = [row for row in results.separations if row["separation"] is not None]
    found |= {f"separation/{row['observable']}": float(row["separation"]) for row in rows}
    return found | {MEAN: sum(float(row["separation"]) for row in rows) / max(1, len(rows))}
