"""Optuna's tree-structured Parzen estimator, rebuilt from the ledger for every suggestion.

References: Bergstra et al., "Algorithms for hyper-parameter optimization" (NeurIPS 2011); for several
objectives Ozaki et al., "Multiobjective tree-structured Parzen estimator" (JAIR 73, 2022).
"""

from __future__ import annotations

__all__ = ["TreeParzen"]

import json
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState

from caloray.tuning.history import Observation, observations
from caloray.tuning.ledger import Trial, TrialResult
from caloray.tuning.ranking import text_of
from caloray.tuning.searchers import suggestion_key
from caloray.tuning.settings import OptunaSearch
from caloray.tuning.space import Parameter

STATES = {"running": TrialState.RUNNING, "bad": TrialState.PRUNED}
"""Pruned ones count among the worst; those that Optuna calls failed would be ignored."""


class TreeParzen:
    """Suggestions of Optuna; trials that still run count as bad, so that their places are not taken twice.

    Args:
        space: Dotted field -> range.
        seed: Seed of the search.
        search: Its settings.
        names: Of the objectives; several are minimised together.
    """

    def __init__(
        self, space: Mapping[str, Parameter], seed: int, search: OptunaSearch, names: Sequence[str]
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)  # a line for every study otherwise
        self.space = space
        self.seed = seed
        self.search = search
        self.names = names
        self.distributions = {name: _distribution(parameter) for name, parameter in space.items()}

    def suggest(
        self, number: int, trials: Sequence[Trial], results: Mapping[int, TrialResult]
    ) -> dict[str, Any] | None:
        """What the estimator takes for the most promising configuration."""
        known = observations(trials, results, self.names, self.search.startup)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study = optuna.study.create_study(
                directions=["minimize"] * len(self.names), sampler=self._sampler(number)
            )
            study.add_trials([self._told(observation) for observation in known])
            found = study.ask(self.distributions).params
        return {name: _back(parameter, found[name]) for name, parameter in self.space.items()}

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        return optuna.samplers.TPESampler(
            n_startup_trials=self.search.startup,
            multivariate=self.search.multivariate,
            constant_liar=True,
            seed=suggestion_key(self.seed, number, "optuna").seed64() % (1 << 32),
        )

    def _told(self, observation: Observation) -> FrozenTrial:
        params = {name: _forth(self.space[name], value) for name, value in observation.assignment.items()}
        complete = observation.state == "complete"
        return optuna.create_trial(
            state=TrialState.COMPLETE if complete else STATES[observation.state],
            params=params,
            distributions=self.distributions,
            values=list(observation.values) if complete else None,
        )


def _distribution(parameter: Parameter) -> BaseDistribution:
    if parameter.kind == "choice":
        return CategoricalDistribution([text_of(choice) for choice in parameter.choices])
    if parameter.whole:
        step = 1 if parameter.log else parameter.step
        return IntDistribution(int(parameter.low), int(parameter.high), log=parameter.log, step=step)
    return FloatDistribution(parameter.low, parameter.high, log=parameter.log)


def _forth(parameter: Parameter, value: Any) -> Any:
    return text_of(value) if parameter.kind == "choice" else value


def _back(parameter: Parameter, value: Any) -> Any:
    return json.loads(value) if parameter.kind == "choice" else value
