"""Whether a campaign can be carried out: all that is known before a trial starts. Writes nothing."""

from __future__ import annotations

__all__ = ["check_tuning"]

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from caloray.config import RunConfig
from caloray.errors import ConfigError
from caloray.rng import StreamKey
from caloray.tuning.fidelity_checks import check_fidelity
from caloray.tuning.fields import influences, require_field, shared_by_all
from caloray.tuning.likelihood_checks import check_likelihood
from caloray.tuning.resolve import all_components, assigned, base_run, component_names
from caloray.tuning.settings import (
    BOHBSearch,
    GridSearch,
    PopulationFidelity,
    TuneConfig,
)
from caloray.tuning.space import MOST_GRID, Parameter

CORNERS = 64


def check_tuning(settings: TuneConfig) -> None:
    """Refuse a campaign whose parts do not fit the run config or each other.

    Raises:
        ConfigError: The first thing that is wrong: field, what was expected against what was found.
    """
    base = base_run(settings)
    components = component_names(settings, base)
    _fields(settings, base, components)
    check_fidelity(settings, base, components)
    _search(settings)
    _budget(settings)
    _objective(settings, base, components)
    _places(settings, base)
    _values(settings, base)
    check_likelihood(settings, base, components)


def _fields(settings: TuneConfig, base: RunConfig, components: Sequence[str]) -> None:
    for name in settings.space:
        require_field(base, name)
        reason = influences(base, components, name, settings.space)
        if reason:
            raise ConfigError(
                f"space.{name}: {reason}", hint="take it out of the space, or set: it once for all"
            )
        if name in settings.set:
            raise ConfigError(
                f"space.{name}: it is searched and fixed by set: as well", hint="keep one of the two"
            )
        for other in settings.space:
            if name.startswith(other + "."):
                raise ConfigError(
                    f"space.{name}: lies inside {other}, which is searched too", hint="keep one of the two"
                )


def _search(settings: TuneConfig) -> None:
    population = isinstance(settings.fidelity, PopulationFidelity)
    if isinstance(settings.search, GridSearch) and not population:
        _grid(settings.space)
    if isinstance(settings.search, BOHBSearch) and len(settings.objective) > 1:
        raise ConfigError(
            f"search: bohb minimises one objective, found {len(settings.objective)}",
            hint="use search: {kind: optuna}, or one objective of kind weighted",
        )


def _grid(space: Mapping[str, Parameter]) -> None:
    for name, parameter in space.items():
        if parameter.count is None and parameter.grid is None:
            raise ConfigError(
                f"space.{name}: a grid needs points, and {parameter.kind} has none",
                hint=f"write {{{parameter.kind}: [...], grid: 5}}",
            )
    size = math.prod(parameter.most_points for parameter in space.values())
    if size > MOST_GRID:
        raise ConfigError(
            f"space: the grid has {size} points, at most {MOST_GRID} are searched",
            hint="give fewer grid: points, or another searcher",
        )


def _budget(settings: TuneConfig) -> None:
    budget = settings.budget
    endless = not isinstance(settings.search, GridSearch) and not isinstance(
        settings.fidelity, PopulationFidelity
    )
    if endless and (budget.trials, budget.hours, budget.gpu_hours) == (None, None, None):
        raise ConfigError(
            "budget: trials, hours or gpu_hours: none is given, the search would never end",
            hint="give at least one, e.g. budget: {trials: 30}",
        )
    if budget.gpu_hours is not None and settings.trial.gpus == 0:
        raise ConfigError(
            "budget.gpu_hours: trials use no GPU (trial.gpus: 0), so it would never be spent",
            hint="set trial.gpus, or give trials or hours",
        )
    confirm = settings.confirm
    if confirm is not None and budget.trials is not None and confirm.top > budget.trials:
        raise ConfigError(
            f"confirm.top: {confirm.top} of the best, but budget.trials is {budget.trials}",
            hint="lower confirm.top",
        )


def _objective(settings: TuneConfig, base: RunConfig, components: Sequence[str]) -> None:
    bundles = list(dict.fromkeys(metric.bundle for metric in settings.metrics))
    if len(bundles) > 1:
        raise ConfigError(
            f"objective: metrics of one model, but the bundles {' and '.join(map(str, bundles[:2]))}",
            hint="give all metrics the same bundle",
        )
    for metric in settings.metrics:
        every = set(components) == set(all_components(base) or ())
        if metric.bundle is None and not every:
            raise ConfigError(
                f"objective: {metric.name} needs whole showers, trials train only {', '.join(components)}",
                hint="give objective.bundle, a trained model for the other components, or train all",
            )
        if metric.bundle is not None and not metric.bundle.is_dir():
            raise ConfigError(
                f"objective.bundle: no bundle at {metric.bundle}", hint="train one first, or correct the path"
            )
        shared = None if metric.bundle is None or every else next(filter(shared_by_all, settings.space), None)
        if shared is not None:
            raise ConfigError(
                f"space.{shared}: all components share it, and those of {metric.bundle} were trained with "
                "another value",
                hint="search it with all components, without objective.bundle",
            )
    if base.data.split.validation == 0:
        raise ConfigError(
            f"{settings.config}: data.split.validation is 0, but trials are compared on validation showers",
            hint="give the validation split a share",
        )
    if settings.confirm is not None and settings.confirm.split == "test" and base.data.split.test == 0:
        raise ConfigError(
            "confirm.split: test, but data.split.test of the run config is 0",
            hint="use confirm: {split: validation}, or give the test split a share",
        )


def _places(settings: TuneConfig, base: RunConfig) -> None:
    if settings.output.absolute() == base.output.absolute():
        raise ConfigError(
            f"output: {settings.output} is the output of the run config as well",
            hint="give the campaign a directory of its own",
        )
    reuse = settings.finish.reuse
    if reuse is not None and not reuse.is_dir():
        raise ConfigError(f"finish.reuse: no run directory at {reuse}", hint="correct the path")
    cpus, trial = settings.cluster.num_cpus, settings.trial
    if settings.cluster.address == "local" and cpus is not None and trial.cpus * trial.workers > cpus:
        raise ConfigError(
            f"trial.cpus: a trial takes {trial.cpus * trial.workers:g} CPUs, cluster.num_cpus is {cpus}",
            hint="lower trial.cpus or trial.workers, or raise cluster.num_cpus",
        )


def _values(settings: TuneConfig, base: RunConfig) -> None:
    """Build the run config with the ends of all ranges and with all choices."""
    for assignment in _corners(settings):
        try:
            assigned(base, assignment)
        except ValidationError as error:
            raise ConfigError(_refused(assignment, error), hint="narrow the range") from error


def _corners(settings: TuneConfig) -> Iterator[dict[str, Any]]:
    """All combinations of ends and choices while they are few; else every end once, and random ones."""
    space = settings.space
    ends = [parameter.ends for parameter in space.values()]
    if math.prod(map(len, ends)) <= CORNERS:
        for values in itertools.product(*ends):
            yield dict(zip(space, values, strict=True))
        return
    generator = StreamKey(settings.seed, "tune", "corners").generator()

    def anywhere() -> dict[str, Any]:
        return {name: _any(parameter, generator.random()) for name, parameter in space.items()}

    for name, parameter in space.items():
        for value in parameter.ends:
            yield anywhere() | {name: value}
    for _ in range(CORNERS):
        yield anywhere()


def _any(parameter: Parameter, share: float) -> Any:
    return parameter.ends[int(share * len(parameter.ends))]


def _refused(assignment: Mapping[str, Any], error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False)[0]
    detail = first["msg"].removeprefix("Value error, ")
    keys = [str(part) for part in first["loc"]]
    for name, value in assignment.items():
        if _inside(name.split("."), keys):
            return f"space.{name}: the run config refuses {value!r:.100}: {detail}"
    place = ".".join(keys)
    near = {name: value for name, value in assignment.items() if name.startswith(place)} or assignment
    some = ", ".join(f"{name} = {value!r:.40}" for name, value in itertools.islice(near.items(), 4))
    return f"space: the run config refuses {some}: {detail}"


def _inside(wanted: Sequence[str], keys: Sequence[str]) -> bool:
    """Whether ``wanted`` is a part of ``keys`` in the same order (pydantic puts names of unions between)."""
    rest = iter(keys)
    return all(key in rest for key in wanted)
