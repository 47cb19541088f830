"""Whether trials can be shortened, promoted or continued as the campaign says."""

from __future__ import annotations

__all__ = ["check_fidelity"]

from collections.abc import Mapping, Sequence
from typing import Any

from caloray.config import RunConfig
from caloray.errors import ConfigError
from caloray.tuning.resolve import full_epochs, rung_shares
from caloray.tuning.settings import (
    AshaFidelity,
    HalvingFidelity,
    PopulationFidelity,
    RandomSearch,
    TuneConfig,
)

TOTAL = {"onecycle", "exponential"}
"""Schedules whose rate at a step depends on the total number of steps."""
CHANGEABLE = ("learning_rate", "weight_decay", "clip")


def check_fidelity(settings: TuneConfig, base: RunConfig, components: Sequence[str]) -> None:
    """Refuse rungs, promotions and generations that cannot be.

    Raises:
        ConfigError: With the reason.
    """
    if isinstance(settings.fidelity, AshaFidelity | PopulationFidelity):
        _continuable(settings, base, components)
    match settings.fidelity:
        case HalvingFidelity() | AshaFidelity():
            _rungs(settings, full_epochs(base, components))
        case PopulationFidelity():
            _population(settings, settings.fidelity, full_epochs(base, components))
    if isinstance(settings.fidelity, AshaFidelity | PopulationFidelity):
        _whole_epochs(settings)


def _rungs(settings: TuneConfig, full: int) -> None:
    fidelity = settings.fidelity
    if not isinstance(fidelity, HalvingFidelity | AshaFidelity):
        return
    if fidelity.min_epochs >= full:
        raise ConfigError(
            f"fidelity.min_epochs: {fidelity.min_epochs}, but a full training has {full} epochs",
            hint="lower it, raise the epochs, or use fidelity: {kind: whole}",
        )
    _distinct(settings, full)
    needed = fidelity.factor ** (len(rung_shares(settings, full)) - 1)
    trials = settings.budget.trials
    if trials is not None and trials < needed:
        raise ConfigError(
            f"budget.trials: {trials} configurations, but one in {needed} reaches the full {full} epochs",
            hint=f"give {needed} or more trials, a larger min_epochs, or fidelity: {{kind: whole}}",
        )


def _distinct(settings: TuneConfig, full: int) -> None:
    """With searched epochs every rung is a share of a trial's own: two of them must not round to the same."""
    for name, parameter in settings.space.items():
        if name.startswith("training.") and name.endswith(".epochs"):
            fewest = min(float(value) for value in parameter.ends)
            counts = [max(1, round(share * fewest)) for share in rung_shares(settings, full)]
            if len(set(counts)) < len(counts):
                raise ConfigError(
                    f"space.{name}: of {fewest:g} epochs the rungs are {', '.join(map(str, counts))}, so "
                    "that a promotion would train the same again",
                    hint="raise the lower end, or fidelity.min_epochs",
                )


def _population(settings: TuneConfig, fidelity: PopulationFidelity, full: int) -> None:
    if not isinstance(settings.search, RandomSearch):
        raise ConfigError(
            "search: pbt draws its first generation at random and changes it itself, "
            f"found {settings.search.kind}",
            hint="write search: {kind: random}",
        )
    if fidelity.interval >= full:
        raise ConfigError(
            f"fidelity.interval: {fidelity.interval}, but a full training has {full} epochs",
            hint="lower it, or raise the epochs",
        )
    trials = settings.budget.trials
    if trials is not None and trials < fidelity.population:
        raise ConfigError(
            f"fidelity.population: {fidelity.population} members, but budget.trials is {trials}",
            hint="lower the population, or give more trials (every member of every generation is one)",
        )
    for name in settings.space:
        keys = name.split(".")
        if keys[0] != "training" or keys[2] not in CHANGEABLE or len(keys) > 3:
            raise ConfigError(
                f"space.{name}: pbt changes settings in the middle of a training, this one is fixed by then",
                hint=f"search only training.<component>.{{{', '.join(CHANGEABLE)}}}, or without pbt",
            )
    generations = len(rung_shares(settings, full))
    if trials is not None and trials < generations * fidelity.population:
        raise ConfigError(
            f"budget.trials: {trials}, but {fidelity.population} members in {generations} generations are "
            f"{generations * fidelity.population} trials, and the last generation counts",
            hint="give so many trials, or none and hours; or a smaller population, or a longer interval",
        )


def _continuable(settings: TuneConfig, base: RunConfig, components: Sequence[str]) -> None:
    kind = settings.fidelity.kind
    for name in components:
        found = {base.training_of(name).schedule.kind} | _searched(settings, base, name)
        for schedule in sorted(found & TOTAL):
            raise ConfigError(
                f"fidelity: {kind} continues trainings, but the schedule {schedule} of {name} fixes its "
                "rates by the total number of steps: more epochs are another schedule, not a longer one",
                hint="use fidelity: {kind: halving}, or a schedule of kind constant, multistep or cyclic",
            )


def _searched(settings: TuneConfig, base: RunConfig, component: str) -> set[str]:
    """Kinds of the schedules that are among the choices."""
    names = (component, base.scheme.group_of(component))
    found: set[str] = set()
    for name, parameter in settings.space.items():
        if name in {f"training.{one}.schedule" for one in names}:
            choices: list[Mapping[str, Any]] = [one for one in parameter.choices if isinstance(one, Mapping)]
            found |= {str(one.get("kind", "onecycle")) for one in choices}
    return found


def _whole_epochs(settings: TuneConfig) -> None:
    for name in settings.space:
        if name.endswith(".epochs"):
            raise ConfigError(
                f"space.{name}: {settings.fidelity.kind} itself decides how long a trial trains",
                hint="take it out of the space, or use fidelity: {kind: halving} or {kind: whole}",
            )
