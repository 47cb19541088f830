"""Fields of a run config by their dotted names: do they exist, does a training depend on them."""

from __future__ import annotations

__all__ = ["changes_rows", "influences", "require_field", "sampling_only", "shared_by_all"]

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from caloray.config import RunConfig
from caloray.config.reading import did_you_mean
from caloray.errors import ConfigError
from caloray.tuning.resolve import WITHOUT_EFFECT
from caloray.tuning.space import Parameter

OWN_RATE = {"onecycle": "max_lr", "cyclic": "max_lr"}
ENERGIES = "layer_energies"
SAMPLING = {
    "inductive": ("threshold", "rescale"),
    "layerwise": ("threshold", "rescale", "max_ratio", "veto_attempts"),
}
"""Fields of a scheme that change how showers are drawn from trained flows (the layerwise threshold also cuts
off the last of what fills empty voxels, which hardly a voxel reaches)."""
NOT_SHARED = ("rescale", "max_ratio", "veto_attempts")
Condition = tuple[str, str]
USED: dict[str, dict[str, tuple[tuple[bool, Condition | None], ...]]] = {
    "inductive": {
        "voxel_noise": (
            (True, None),
            (False, ("voxel_space", "share")),
            (False, ("energy_context", "logit")),
        ),
        "alpha": ((True, None), (False, ("voxel_space", "share")), (False, ("energy_context", "logit"))),
        "energy_space": ((True, None),),
        "energy_context": ((False, None),),
        "max_layer_energy": ((True, ("energy_space", "absolute")), (False, ("energy_context", "logit"))),
        "voxel_space": ((False, None),),
        "fill_mean": ((False, ("voxel_space", "log")),),
        "fill_std": ((False, ("voxel_space", "log")),),
        "augment": ((False, None),),
        "conditions": ((True, None), (False, None)),
    },
    "layerwise": {
        "previous": ((False, None),),
        "conditions": ((True, None), (False, None)),
        "voxel_noise": ((False, None),),
        "energy_noise": ((True, None),),
        "fill_mean": ((False, None),),
        "fill_std": ((False, None),),
        "alpha": ((False, None),),
        "energy_alpha": ((True, None),),
        "energy_space": ((True, None),),
        "max_layer_energy": ((True, ("energy_space", "absolute")),),
        "augment": ((False, None),),
    },
}
"""By scheme and field: is it the flow of the layer energies that trains on it, or those of the voxels, and
which other field must have which value for that."""


def require_field(run: RunConfig, name: str) -> None:
    """Refuse a name that is no field of this run config, with a suggestion.

    Raises:
        ConfigError: Says at which part the name ends to be one.
    """
    keys = name.split(".")
    value: Any = run
    for depth, key in enumerate(keys):
        before = ".".join(keys[:depth])
        known = _keys(run, value, before)
        if known is None:
            raise ConfigError(
                f"space.{name}: {before} is a value, not a section", hint=f"search {before} itself"
            )
        if key not in known:
            if before == "training":
                known = list(run.scheme.component_groups)
            what = f"{before} ({value.kind})" if hasattr(value, "kind") else before or "the run config"
            raise ConfigError(
                f"space.{name}: {what} has no field {key!r}{did_you_mean(key, known)}",
                hint="`caloray config schema` lists every field",
            )
        value = _inner(run, value, before, key)


def _keys(run: RunConfig, value: Any, before: str) -> list[str] | None:
    if isinstance(value, BaseModel):
        return list(type(value).model_fields)
    if isinstance(value, Mapping):
        singles = [name for name in value if isinstance(name, str)]
        return _Accepted(run, singles) if before == "training" else singles
    return None


class _Accepted(list[str]):
    """Names of components: those that stand in the config, and all others that the scheme accepts."""

    def __init__(self, run: RunConfig, names: Sequence[str]) -> None:
        super().__init__(names)
        self.run = run

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.run.scheme.accepts(name)


def _inner(run: RunConfig, value: Any, before: str, key: str) -> Any:
    if isinstance(value, BaseModel):
        return getattr(value, key)
    return run.training_of(key) if before == "training" else value[key]


def influences(
    run: RunConfig, components: Sequence[str], name: str, space: Mapping[str, Parameter] | None = None
) -> str:
    """Why no training of ``components`` depends on a field, or an empty text where one does.

    Args:
        run: The run config.
        components: What trials train.
        name: Dotted field.
        space: What else is searched: a field that only counts beside one value of another may be searched
            together with that.
    """
    keys = name.split(".")
    if keys[-1] == "kind":
        section = ".".join(keys[:-1])
        return f"a kind comes with fields of its own: search {section} with choices that are whole sections"
    if keys == ["seed"] or sampling_only(run, name):
        return ""
    if keys[0] == "training" and len(keys) > 1:
        return _training(run, components, keys, space or {})
    if keys[0] == "scheme" and len(keys) > 1:
        flow = keys[1] == "flows"
        return _flow(run, components, keys) if flow else _maps(run, components, keys[1], space or {})
    return "it does not change a training; searched can be training.<component>.*, scheme.* and seed"


def _maps(run: RunConfig, components: Sequence[str], field: str, space: Mapping[str, Parameter]) -> str:
    """The same for a field of the scheme that is no flow's own."""
    if field == "network":
        return "it decides which components there are"
    used = USED[run.scheme.kind].get(field)
    if used is None:
        return f"no component of the scheme {run.scheme.kind} trains on it"
    kinds = {component == ENERGIES for component in components}
    ours = [condition for energies, condition in used if energies in kinds]
    if not ours:
        return f"no trial trains a component that it changes; components: {', '.join(components)}"
    missing = []
    for condition in ours:
        if condition is None:
            return ""
        other, wanted = condition
        searched = space.get(f"scheme.{other}")
        if wanted in (searched.choices if searched is not None else (getattr(run.scheme, other),)):
            return ""
        missing.append(f"scheme.{other}: {wanted}")
    return f"it has no effect on {', '.join(components)} without {' or '.join(missing)}"


def _training(
    run: RunConfig, components: Sequence[str], keys: Sequence[str], space: Mapping[str, Parameter]
) -> str:
    if len(keys) < 3:
        return "search one of its fields"
    name, field = keys[1], keys[2]
    own = [one for one in components if one == name]
    group = [one for one in components if run.scheme.group_of(one) == name and one not in run.training]
    if not own and not group:
        return f"no trial trains {name}; components: {', '.join(components)}"
    if field in {*WITHOUT_EFFECT, "validation_rows"}:
        looked = " but how a training is looked at" if field == "validation_rows" else ""
        return f"{field} does not change what is learned{looked}"
    kind = run.training_of((own or group)[0]).schedule.kind
    schedules = space.get(f"training.{name}.schedule")
    others = schedules.choices if schedules is not None else ()
    constant = any(isinstance(one, Mapping) and one.get("kind") not in OWN_RATE for one in others)
    if field == "learning_rate" and kind in OWN_RATE and not constant:
        return f"the schedule {kind} has a rate of its own; search training.{name}.schedule.{OWN_RATE[kind]}"
    if field == "schedule" and len(keys) > 3 and keys[3].endswith("_momentum") and kind != "onecycle":
        return f"the schedule {kind} has no momentum"
    return ""


def _flow(run: RunConfig, components: Sequence[str], keys: Sequence[str]) -> str:
    if len(keys) < 3:
        return "search one of its fields"
    name = keys[2]
    users = {name, "layers"} if name == "layer" else {name}
    if users & (set(components) | {run.scheme.group_of(one) for one in components}):
        return ""
    return f"no trial trains {name}; components: {', '.join(components)}"


def sampling_only(run: RunConfig, name: str) -> bool:
    """Whether a field of the scheme changes how showers are drawn, but no weights on given rows."""
    keys = name.split(".")
    return keys[0] == "scheme" and len(keys) == 2 and keys[1] in SAMPLING[run.scheme.kind]


def changes_rows(name: str) -> bool:
    """Whether a field decides which rows a flow is trained and scored on: empty layers or not."""
    return name == "scheme.rescale"


def shared_by_all(name: str) -> bool:
    """Whether a field of the scheme belongs to all components."""
    keys = name.split(".")
    return keys[0] == "scheme" and keys[1] != "flows" and keys[1] not in NOT_SHARED
