"""From a campaign's settings to run configs: what is searched around, and the run config of one trial."""

from __future__ import annotations

__all__ = [
    "all_components",
    "assigned",
    "base_run",
    "component_names",
    "epochs_of",
    "full_epochs",
    "identity",
    "run_of",
    "run_of_trial",
    "rung_shares",
    "trial_digest",
    "with_epochs",
]

from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from pydantic import BaseModel

from caloray.atomic import digest_json
from caloray.config import RunConfig, load_config
from caloray.config.reading import did_you_mean
from caloray.errors import ConfigError
from caloray.geometry import load_geometry
from caloray.schemes.layerwise_config import layer_name
from caloray.training.schedule import MultiStep
from caloray.tuning.ledger import Trial
from caloray.tuning.settings import AshaFidelity, HalvingFidelity, PopulationFidelity, TuneConfig

WITHOUT_EFFECT = frozenset({"device", "checkpoint_steps"})
"""Fields of a training that change where it runs, not what comes out."""
NEAR = 1.5
"""Two rungs whose epochs differ by less than this factor are one."""
FREE = ("budget", "trial", "cluster", "tracking", "confirm", "finish", "config", "set", "output")
"""Settings that may change between two sessions of a campaign, or stand in the resolved run config."""


def base_run(settings: TuneConfig) -> RunConfig:
    """The run config that is searched around, fixed changes included.

    Raises:
        ConfigError: It cannot be read, or a change does not fit it.
    """
    return load_config(settings.config, [f"{name}={_yaml(value)}" for name, value in settings.set.items()])


def _yaml(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=1 << 20)


def component_names(settings: TuneConfig, run: RunConfig | None = None) -> tuple[str, ...]:
    """The components that a trial trains, groups resolved, in the scheme's order.

    Raises:
        ConfigError: No such component, or a group whose members nobody knows before the data are read.
    """
    run = run or base_run(settings)
    known = all_components(run)
    found: list[str] = []
    for name in settings.components:
        if not run.scheme.accepts(name):
            raise ConfigError(
                f"components: {name!r} is no component of the scheme {run.scheme.kind}"
                f"{did_you_mean(name, run.scheme.component_groups)}",
                hint="name keys of the run config's `training`",
            )
        if known is None:
            if name == "layer":
                raise ConfigError(
                    "components: how many layers 'layer' stands for is not known before the data are read",
                    hint="give data.geometry in the run config, or name the layers: layer_00, layer_01, ...",
                )
            found.append(name)
            continue
        members = [one for one in known if name in {one, run.scheme.group_of(one)}]
        if not members:
            raise ConfigError(
                f"components: {name!r} is not there: the geometry ends at {known[-1]}",
                hint="name components that the run config's geometry has",
            )
        found += [one for one in members if one not in found]
    return tuple(sorted(found, key=known.index if known else found.index))


def all_components(run: RunConfig) -> tuple[str, ...] | None:
    """Every component of the scheme; None where their number follows from data that are not read yet."""
    groups = run.scheme.component_groups
    if "layer" not in groups:
        return groups
    if run.data.geometry is None:
        return None
    layers = load_geometry(run.data.geometry).n_layers
    return tuple(name for name in groups if name != "layer") + tuple(layer_name(i) for i in range(layers))


def full_epochs(run: RunConfig, components: Sequence[str]) -> int:
    """Epochs of the component that trains longest."""
    return max(run.training_of(name).epochs for name in components)


def rung_shares(settings: TuneConfig, full: int) -> tuple[float, ...]:
    """Share of the full epochs on every rung (or at the end of every generation); the last one is 1."""
    match settings.fidelity:
        case HalvingFidelity(min_epochs=least, factor=factor) | AshaFidelity(min_epochs=least, factor=factor):
            epochs = [least]
            while epochs[-1] * factor < full:
                epochs.append(epochs[-1] * factor)
            if len(epochs) > 1 and full < NEAR * epochs[-1]:
                epochs.pop()  # a promotion that adds hardly an epoch
            return (*(x / full for x in epochs if x < full), 1.0)
        case PopulationFidelity(interval=interval):
            return (*(x / full for x in range(interval, full, interval)), 1.0)
        case _:
            return (1.0,)


def run_of(
    settings: TuneConfig, base: RunConfig, assignment: Mapping[str, Any], share: float = 1.0
) -> RunConfig:
    """The run config with searched values, and every component's epochs shortened to ``share``.

    Args:
        settings: The campaign.
        base: The run config that it searches around.
        assignment: Dotted field -> value.
        share: Of the full epochs, above 0 and up to 1.

    Raises:
        ValidationError: The run config refuses a value (pydantic's error).
    """
    run = assigned(base, assignment)
    return with_epochs(settings, run, epochs_of(run, component_names(settings, run), share), run.seed)


def run_of_trial(settings: TuneConfig, trial: Trial, base: RunConfig | None = None) -> RunConfig:
    """The run config of one trial: its values, seed and epochs.

    Raises:
        ConfigError: The run config cannot be read.
    """
    run = assigned(base or base_run(settings), trial.assignment)
    return with_epochs(settings, run, trial.epochs, trial.seed)


def epochs_of(run: RunConfig, components: Sequence[str], share: float) -> dict[str, int]:
    """Epochs of every component on a rung: at least one."""
    return {name: max(1, round(share * run.training_of(name).epochs)) for name in components}


def assigned(base: RunConfig, assignment: Mapping[str, Any]) -> RunConfig:
    """``base`` with some fields changed; a component without its own section gets a copy of its group's."""
    value = base.model_dump(mode="json")
    grouped = sorted(assignment, key=lambda name: _is_of_group(base, name))
    for name in grouped:
        keys = name.split(".")
        if keys[0] == "training":
            value["training"].setdefault(keys[1], _section(base, value["training"], keys[1]))
        inner = value
        for key in keys[:-1]:
            inner = inner[key]
        inner[keys[-1]] = assignment[name]
    return RunConfig.model_validate(value)


def _is_of_group(base: RunConfig, name: str) -> bool:
    """Whether a field belongs to a single component of a group: those come after the group's."""
    keys = name.split(".")
    return keys[0] == "training" and base.scheme.group_of(keys[1]) is not None


def _section(base: RunConfig, training: Mapping[str, Any], component: str) -> dict[str, Any]:
    group = base.scheme.group_of(component)
    there = training.get(group) if group is not None else None
    return dict(there) if there is not None else base.training_of(component).model_dump(mode="json")


def with_epochs(settings: TuneConfig, run: RunConfig, epochs: Mapping[str, int], seed: int) -> RunConfig:
    """``run`` with other epochs; with "halving" the milestones of a schedule move along."""
    training = dict(run.training)
    for name, count in epochs.items():
        section = run.training_of(name)
        change: dict[str, Any] = {"epochs": count}
        if isinstance(settings.fidelity, HalvingFidelity) and isinstance(section.schedule, MultiStep):
            share = count / section.epochs
            moved = tuple(max(1, round(share * epoch)) for epoch in section.schedule.milestones)
            change["schedule"] = section.schedule.model_copy(update={"milestones": moved})
        training[name] = section.model_copy(update=change)
    return run.model_copy(update={"training": training, "seed": seed})


def trial_digest(run: RunConfig, components: Sequence[str], data_digest: str) -> str:
    """Hash of everything that a trial's weights follow from."""
    training = {name: _dump(run.training_of(name)) for name in components}
    for section in training.values():
        for name in WITHOUT_EFFECT:
            section.pop(name)
    return digest_json(
        {"scheme": _dump(run.scheme), "training": training, "seed": run.seed, "data": data_digest}
    )


def identity(settings: TuneConfig, data_digest: str) -> dict[str, Any]:
    """What makes a campaign the same one: its search, and the run config that it searches around.

    Budget, resources and limits of trials, cluster, tracking, confirmations and the finish may change.
    """
    run = base_run(settings)
    found = {key: value for key, value in settings.model_dump(mode="json").items() if key not in FREE}
    found["workers"] = settings.trial.workers
    found["space"] = {name: found["space"][name] for name in sorted(found["space"])}
    described = {"scheme": _dump(run.scheme), "seed": run.seed}
    described["training"] = {name: _dump(run.training_of(name)) for name in component_names(settings, run)}
    return found | {"run": described, "data": data_digest}


def _dump(model: BaseModel) -> dict[str, Any]:
    return model.model_dump(mode="json")
