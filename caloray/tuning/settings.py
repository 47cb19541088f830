"""The tuning file: one YAML file is one campaign of trials around a run config."""

from __future__ import annotations

__all__ = [
    "ConfirmConfig",
    "FidelityConfig",
    "FinishConfig",
    "Objective",
    "SearchConfig",
    "TrialConfig",
    "TuneBudget",
    "TuneConfig",
    "load_tuning",
]

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from caloray.config import ClusterConfig, Section
from caloray.config.reading import read_settings
from caloray.errors import ConfigError
from caloray.tracking import TrackingConfig
from caloray.tuning.objective_settings import MetricObjective, Objective, SingleObjective, WeightedObjective
from caloray.tuning.space import Parameter

SCHEMA = "caloray config schema --tuning"


class RandomSearch(Section):
    """Independent draws."""

    kind: Literal["random"]


class GridSearch(Section):
    """Every combination once, the last parameter of the file changing fastest."""

    kind: Literal["grid"]


class OptunaSearch(Section):
    """Tree-structured Parzen estimator of Optuna (Bergstra et al., NeurIPS 2011).

    Args:
        kind: "optuna".
        startup: Random configurations before the model is used.
        multivariate: Model the parameters jointly rather than one by one.
    """

    kind: Literal["optuna"]
    startup: int = Field(10, ge=1)
    multivariate: bool = True


class BOHBSearch(Section):
    """Densities of good and bad configurations on the highest rung with enough results (BOHB, Falkner 2018).

    Args:
        kind: "bohb".
        startup: Results on a rung before its model is used; None: one more than there are parameters.
        top: Share of the results that counts as good.
        random: Share of the configurations drawn at random all the same.
        candidates: Draws from the good density among which the best ratio is taken.
    """

    kind: Literal["bohb"]
    startup: int | None = Field(None, ge=2)
    top: float = Field(0.15, gt=0, lt=1)
    random: float = Field(1 / 3, ge=0, le=1)
    candidates: int = Field(64, ge=1)


SearchConfig = Annotated[RandomSearch | GridSearch | OptunaSearch | BOHBSearch, Field(discriminator="kind")]


class WholeFidelity(Section):
    """Every trial trains the full budget."""

    kind: Literal["whole"]


class HalvingFidelity(Section):
    """Short trials with complete schedules; the best share of a rung starts again with the next longer one.

    Args:
        kind: "halving".
        min_epochs: Epochs of the first rung, of the component with the most epochs; the others in proportion.
        factor: Epochs of a rung over those of the one before; one in so many trials is promoted.
    """

    kind: Literal["halving"]
    min_epochs: int = Field(2, ge=1)
    factor: int = Field(3, ge=2)


class AshaFidelity(Section):
    """Like "halving", but a promoted trial continues its training; for schedules that know no total.

    Args:
        kind: "asha".
        min_epochs: As for "halving".
        factor: As for "halving".
    """

    kind: Literal["asha"]
    min_epochs: int = Field(2, ge=1)
    factor: int = Field(3, ge=2)


class PopulationFidelity(Section):
    """Population-based training in generations (Jaderberg et al., arXiv:1711.09846).

    Args:
        kind: "pbt".
        population: Members.
        interval: Epochs of a generation, of the component with the most epochs.
        quantile: Share of the members that take over weights and settings of as many of the best.
        factors: A number that is taken over is multiplied by one of them.
        resample: Probability that a value is drawn afresh instead.
    """

    kind: Literal["pbt"]
    population: int = Field(8, ge=2)
    interval: int = Field(2, ge=1)
    quantile: float = Field(0.25, gt=0, le=0.5)
    factors: tuple[float, ...] = Field((0.8, 1.25), min_length=1)
    resample: float = Field(0.25, ge=0, le=1)

    @field_validator("factors")
    @classmethod
    def _positive(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if min(value) <= 0:
            raise ValueError("factors are above 0")
        return value


FidelityConfig = Annotated[
    WholeFidelity | HalvingFidelity | AshaFidelity | PopulationFidelity, Field(discriminator="kind")
]


class TuneBudget(Section):
    """When the search ends; promotions that are due and confirmations come after ``trials``.

    Args:
        trials: New configurations, the baseline not counted; with "pbt" every member of every generation,
            and enough for the last one.
        hours: Elapsed time, summed over sessions; while only confirmations run it is not counted.
        gpu_hours: Time of all trials times their GPUs.
    """

    trials: int | None = Field(None, ge=1)
    hours: float | None = Field(None, gt=0)
    gpu_hours: float | None = Field(None, gt=0)


class TrialConfig(Section):
    """Resources and limits of one trial.

    Args:
        cpus: CPUs of each of its workers, also their number of torch threads (at least one).
        gpus: GPUs of each; fractions share one.
        concurrent: Trials at the same time, at most; None: as many as there is room for.
        minutes: Longest time of one trial; None: no limit.
        memory_gb: Largest memory of one trial [GB]; None: no limit.
        retries: Restarts of a trial whose process died or failed unexpectedly.
        workers: Data-parallel workers; above 1 the trial is a nested Ray Train.
    """

    cpus: float = Field(1.0, gt=0)
    gpus: float = Field(0.0, ge=0)
    concurrent: int | None = Field(None, ge=1)
    minutes: float | None = Field(None, gt=0)
    memory_gb: float | None = Field(None, gt=0)
    retries: int = Field(2, ge=0)
    workers: int = Field(1, ge=1)


class ConfirmConfig(Section):
    """Afterwards: the best and the baseline again at the full budget, with several seeds, from scratch.

    Args:
        seeds: How many; the first ones above the run config's own that no trial of the search has had.
        split: What they are measured on.
        top: How many of the best.
    """

    seeds: int = Field(3, ge=1)
    split: Literal["validation", "test"] = "test"
    top: int = Field(1, ge=1)


class FinishConfig(Section):
    """What is made of the best settings.

    Args:
        bundle: Train the whole run config with them, in ``<output>/best``.
        reuse: Run directory whose components are taken where the campaign does not touch them.
    """

    bundle: bool = False
    reuse: Path | None = None


class TuneConfig(Section):
    """A campaign of trials.

    Args:
        name: Name of the campaign in MLflow.
        config: Run config whose settings are searched around; relative to the campaign's file, else to the
            working directory.
        set: Fixed changes of it, dotted name -> value.
        output: The campaign's directory.
        seed: Seed of the search.
        components: Components, or groups of them, that each trial trains.
        space: What is searched: dotted name in the run config -> range.
        search: Who suggests.
        fidelity: How long trials train.
        budget: When it ends.
        trial: Resources of one trial.
        objective: What is minimised; several: no trade-off between them is made.
        baseline: Also try the run config as it is, at the full budget, as trial 0.
        confirm: Repetitions afterwards; None: none.
        finish: What is made of the best.
        tracking: MLflow.
        cluster: Ray.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    config: Path
    set: Mapping[str, Any] = {}
    output: Path
    seed: int = Field(1, ge=0, lt=2**63)
    components: tuple[str, ...] = Field(min_length=1)
    space: Mapping[str, Parameter] = Field(min_length=1)
    search: SearchConfig = OptunaSearch(kind="optuna")
    fidelity: FidelityConfig = WholeFidelity(kind="whole")
    budget: TuneBudget = TuneBudget()
    trial: TrialConfig = TrialConfig()
    objective: tuple[Objective, ...] = Field(min_length=1)
    baseline: bool = True
    confirm: ConfirmConfig | None = ConfirmConfig()
    finish: FinishConfig = FinishConfig()
    tracking: TrackingConfig = TrackingConfig()
    cluster: ClusterConfig = ClusterConfig()

    @field_validator("objective", mode="before")
    @classmethod
    def _several(cls, value: Any) -> Any:
        return value if isinstance(value, list | tuple) else (value,)

    @field_validator("components")
    @classmethod
    def _each_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if value.count(name) > 1:
                raise ValueError(f"{name!r} stands twice")
        return value

    @model_validator(mode="after")
    def _distinct_objectives(self) -> TuneConfig:
        names = self.objective_names
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"objective: {name} stands twice")
        return self

    @property
    def objective_names(self) -> tuple[str, ...]:
        """Keys of a trial's objectives, in order; all are minimised."""
        return tuple(objective.name for objective in self.objective)

    @property
    def single_objectives(self) -> tuple[SingleObjective, ...]:
        """Everything that is measured, terms of weighted sums included."""
        found: list[SingleObjective] = []
        for objective in self.objective:
            if isinstance(objective, WeightedObjective):
                found += [term.of for term in objective.terms]
            else:
                found.append(objective)
        return tuple(found)

    @property
    def metrics(self) -> tuple[MetricObjective, ...]:
        """Objectives that need generated showers."""
        return tuple(item for item in self.single_objectives if isinstance(item, MetricObjective))


def load_tuning(path: Path, overrides: Sequence[str] = ()) -> TuneConfig:
    """Read and check a campaign's file: everything that can be known before a trial starts.

    Args:
        path: YAML file.
        overrides: ``dotted.name=value`` items, the value in YAML.

    Returns:
        The settings, with ``config`` as a path that exists from here.

    Raises:
        ConfigError: Unreadable file, unknown key or field (with a suggestion), a value or a range that the
            run config refuses, or parts that do not fit together.
    """
    from caloray.tuning.checks import check_tuning

    settings = read_settings(path, TuneConfig, overrides, SCHEMA)
    settings = settings.model_copy(update={"config": _beside(path, settings.config)})
    try:
        check_tuning(settings)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.message}", hint=error.hint, **error.context) from error
    return settings


def _beside(path: Path, config: Path) -> Path:
    for found in (path.parent / config, config):
        if found.is_file():
            return found.absolute()
    raise ConfigError(
        f"{path}: config: no file {path.parent / config} and none at {config.absolute()}",
        hint="name a run config, relative to the campaign's file",
    )
