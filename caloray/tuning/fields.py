"""Fields of a run config by their dotted names: do they exist, does a training depend on them."""

from __future__ import annotations

__all__ = ["influences", "require_field", "sampling_only", "shared_by_all"]

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from caloray.config import RunConfig
from caloray.config.reading import did_you_mean
from caloray.errors import ConfigError
from caloray.tuning.resolve import WITHOUT_EFFECT

SAMPLING = ("rescale", "max_ratio", "veto_attempts")
OWN_RATE = {"onecycle": "max_lr", "cyclic": "max_lr"}


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


def influences(run: RunConfig, components: Sequence[str], name: str) -> str:
    """Why no training of ``components`` depends on a field, or an empty text where one does."""
    keys = name.split(".")
    if keys[-1] == "kind":
        section = ".".join(keys[:-1])
        return f"a kind comes with fields of its own: search {section} with choices that are whole sections"
    if keys == ["seed"]:
        return ""
    if keys[0] == "training" and len(keys) > 2:
        return _training(run, components, keys)
    if keys[0] == "scheme" and len(keys) > 1:
        if keys[1] == "flows":
            return _flow(run, components, keys)
        return ""
    return "it does not change a training; searched can be training.<component>.*, scheme.* and seed"


def _training(run: RunConfig, components: Sequence[str], keys: Sequence[str]) -> str:
    name, field = keys[1], keys[2]
    own = [one for one in components if one == name]
    group = [one for one in components if run.scheme.group_of(one) == name and one not in run.training]
    if not own and not group:
        return f"no trial trains {name}; components: {', '.join(components)}"
    if field in WITHOUT_EFFECT:
        return f"{field} does not change what is learned"
    kind = run.training_of((own or group)[0]).schedule.kind
    if field == "learning_rate" and kind in OWN_RATE:
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


def sampling_only(name: str) -> bool:
    """Whether a field only changes how showers are drawn, which no likelihood sees."""
    keys = name.split(".")
    return keys[0] == "scheme" and len(keys) == 2 and keys[1] in SAMPLING


def shared_by_all(name: str) -> bool:
    """Whether a field of the scheme belongs to all components."""
    keys = name.split(".")
    return keys[0] == "scheme" and keys[1] != "flows" and not sampling_only(name)
