"""Conditions as they are written on a command line, and back."""

from __future__ import annotations

__all__ = ["outline", "parse_conditions", "spell_conditions"]

from collections.abc import Sequence

from pydantic import ValidationError

from caloray.errors import ConfigError
from caloray.generation.conditions import (
    Angles,
    ConditionSpec,
    FromParticles,
    ListedCondition,
    UniformCondition,
)

_FULL_TURN = (0.0, 360.0)


def parse_conditions(
    conditions: Sequence[str] = (),
    theta: str | None = None,
    phi: str | None = None,
    *,
    repeat: bool = False,
) -> list[ConditionSpec]:
    """Read ``NAME=VALUE``, ``NAME=LOW:HIGH`` (uniform) or ``NAME=V1,V2,...``, and angles in degrees.

    Args:
        conditions: Any number of them.
        theta: ``DEGREES`` or ``LOW:HIGH`` (uniform): polar angle of the direction against the z axis.
        phi: Likewise, its azimuth; a full turn when omitted.
        repeat: Listed values start again at their end.

    Raises:
        ConfigError: None of these forms, or an azimuth without a polar angle.
    """
    found: list[ConditionSpec] = [_condition(text, repeat=repeat) for text in conditions]
    if theta is None and phi is not None:
        raise ConfigError("--phi without --theta gives no direction", hint="pass both, or --theta alone")
    if theta is not None:
        around = _FULL_TURN if phi is None else _range("--phi", phi)
        found.append(_made(Angles, f"--theta {theta}", theta=_range("--theta", theta), phi=around))
    return found


def spell_conditions(specs: Sequence[ConditionSpec]) -> list[str]:
    """Words of a command line that :func:`parse_conditions` reads as the same; a file comes with energies."""
    words: list[str] = []
    for spec in specs:
        match spec:
            case UniformCondition(name=name, min=low, max=high):
                words += ["--condition", f"{name}={low!r}" + ("" if low == high else f":{high!r}")]
            case ListedCondition(name=name, values=values):
                words += ["--condition", f"{name}={','.join(map(repr, values))}" + "," * (len(values) == 1)]
            case Angles(theta=theta, phi=phi):
                words += [f"--theta={theta[0]!r}:{theta[1]!r}", f"--phi={phi[0]!r}:{phi[1]!r}"]
            case FromParticles():
                pass
    return words


def outline(spec: ConditionSpec) -> str:
    """One phrase that says where a condition comes from."""
    match spec:
        case UniformCondition(name=name, min=low, max=high):
            return f"{name} {low:g}" + ("" if low == high else f" to {high:g}")
        case ListedCondition(name=name, values=values):
            return f"{name} listed ({len(values)})"
        case Angles(theta=theta, phi=phi):
            return f"theta {theta[0]:g} to {theta[1]:g}, phi {phi[0]:g} to {phi[1]:g} degrees"
        case FromParticles(names=names, path=path):
            return f"{', '.join(names)} of {path}"


def _condition(text: str, *, repeat: bool) -> ConditionSpec:
    name, equals, value = text.partition("=")
    where = f"--condition {text}"
    if not equals or not name or not value:
        raise ConfigError(f"{where}: no name and value", hint="write NAME=VALUE, NAME=LOW:HIGH or NAME=V1,V2")
    if "," in value:
        try:
            values = tuple(float(word) for word in value.split(",") if word)
        except ValueError as error:
            raise ConfigError(f"{where}: not numbers", hint="write NAME=V1,V2,...") from error
        return _made(ListedCondition, where, name=name, values=values, repeat=repeat)
    low, high = _range(where, value)
    return _made(UniformCondition, where, name=name, min=low, max=high)


def _range(where: str, text: str) -> tuple[float, float]:
    try:
        low, _, high = text.partition(":")
        return float(low), float(high or low)
    except ValueError as error:
        raise ConfigError(
            f"{where}: {text!r} is no number and no range", hint="write VALUE or LOW:HIGH"
        ) from error


def _made(kind: type[ConditionSpec], where: str, **fields: object) -> ConditionSpec:
    try:
        return kind(**fields)
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{where}: {reason}", hint="finite numbers, the lower one first") from error
