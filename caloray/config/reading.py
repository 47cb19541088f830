"""A YAML file as one checked settings class, and its faults in words.

Unknown keys are refused with a suggestion, values are checked before anything starts, and ``a.b=c``
overrides are parsed as YAML.
"""

from __future__ import annotations

__all__ = ["MAX_YAML", "did_you_mean", "read_settings"]

import difflib
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from caloray.errors import ConfigError

MAX_YAML = 1 << 20
LARGEST = 10**30
"""Whole numbers beyond are not spelt out in a message."""
_Settings = TypeVar("_Settings", bound=BaseModel)


def read_settings(
    path: Path,
    model: type[_Settings],
    overrides: Sequence[str] = (),
    schema: str = "caloray config schema",
) -> _Settings:
    """Read a YAML file as ``model``.

    Args:
        path: The file.
        model: Its class.
        overrides: ``dotted.name=value`` items, the value in YAML.
        schema: The command that lists every key, for the hint.

    Raises:
        ConfigError: Unreadable file, unknown key (with a suggestion), or a value out of range.
    """
    value = _read(path)
    for item in overrides:
        _override(value, item)
    try:
        found = model.model_validate(value)
    except ValidationError as error:
        message = _explained(model, value, error)
        raise ConfigError(f"{path}: {message}", hint=f"`{schema}` lists every key") from error
    if (wrong := next(_truths_as_numbers(value, found), None)) is not None:
        key, said = wrong
        raise ConfigError(
            f"{path}: {key}: expected a number (found {said})",
            hint="true, false, yes, no, on and off are none",
        )
    return found


class _StrictLoader(yaml.SafeLoader):
    """The safe loader, but a key that stands twice in one mapping is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Refuse repeated keys (YAML 1.2, section 3.2.1.3: keys are unique)."""
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} stands twice", node.start_mark
                )
        return super().construct_mapping(node, deep)


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_YAML:
            raise ConfigError(
                f"{path}: larger than {MAX_YAML} bytes", hint="a run config is a short YAML file"
            )
        value = _StrictLoader(path.read_text()).get_single_data()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a text file"
        raise ConfigError(f"{path}: cannot be read ({reason})", hint="see configs/ for examples") from error
    except (yaml.YAMLError, RecursionError) as error:
        first = str(error).replace("\n", " ")
        raise ConfigError(f"{path}: not valid YAML ({first})") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: expected a mapping at the top, found {type(value).__name__}")
    return value


def _override(value: dict[str, Any], item: str) -> None:
    name, sign, text = item.partition("=")
    keys = name.split(".")
    if not sign or not all(keys):
        raise ConfigError(f"--set {item!r}: expected dotted.name=value", hint="e.g. --set seed=2")
    for key in keys[:-1]:
        inner = value.setdefault(key, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"--set {item!r}: {key} is a value, not a section")
        value = inner
    try:
        value[keys[-1]] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {item!r}: {text!r} is not valid YAML") from error


def _explained(model: type[BaseModel], value: Mapping[str, Any], error: ValidationError) -> str:
    problems = error.errors(include_url=False, include_input=True)
    first = problems[0]
    where = ".".join(str(part) for part in _place(first["loc"], value, first["type"]))
    if first["type"] == "extra_forbidden":
        message = f"unknown key {where}{did_you_mean(str(first['loc'][-1]), sorted(_field_names(model)))}"
    elif first["type"] == "union_tag_invalid":
        known = first["ctx"]["expected_tags"]
        message = f"{where}.kind: {first['ctx']['tag']!r:.200} is none of {known}{_meant(first)}"
    elif first["type"] == "missing":
        message = f"missing key {where}"
    else:
        detail = first["msg"].removeprefix("Value error, ")
        found = "" if isinstance(first["input"], dict | list) else f" (found {first['input']!r:.200})"
        message = f"{where + ': ' if where else ''}{detail}{found}{_meant(first) or _as_number(problems)}"
    return message + (f"; and {len(problems) - 1} more" if len(problems) > 1 else "")


def _place(loc: Sequence[int | str], value: Any, problem: str) -> list[int | str]:
    """The keys as they stand in the file, without the names of union members that pydantic puts between."""
    kept: list[int | str] = []
    for position, part in enumerate(loc):
        last = position == len(loc) - 1
        if isinstance(value, Mapping) and part not in value and not (last and problem == "missing"):
            continue
        kept.append(part)
        value = _inner(value, part)
    return kept


def _inner(value: Any, part: int | str) -> Any:
    if isinstance(value, Mapping):
        return value.get(part)
    return value[part] if isinstance(value, list) and isinstance(part, int) and part < len(value) else None


def _meant(problem: Mapping[str, Any]) -> str:
    """The choice that a wrong word is close to."""
    context = problem.get("ctx", {})
    word, known = problem["input"], context.get("expected")
    if problem["type"] == "union_tag_invalid":
        word, known = context.get("tag"), context.get("expected_tags")
    if known is None or not isinstance(word, str):
        return ""
    close = difflib.get_close_matches(word, str(known).split("'")[1::2], n=1)
    return f", did you mean {close[0]!r}?" if close else ""


def _as_number(problems: Sequence[Mapping[str, Any]]) -> str:
    """How to write a number that stands as text where a whole one is expected; YAML reads 1e6 as text."""
    word = problems[0]["input"]
    kinds = [str(one["type"]) for one in problems if one["input"] is word]
    if not isinstance(word, str) or not any(kind.startswith("int_") for kind in kinds):
        return ""
    try:
        value = Decimal(word)
    except InvalidOperation:
        return ""
    if not value.is_finite() or abs(value) > LARGEST:
        return ""
    whole = f"write {int(value)} (YAML reads {word:.40} as text)"
    return f", {whole if value == int(value) else 'a whole number is expected'}"


def _truths_as_numbers(value: Any, found: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """Places where the file says true or false and a number came of it, which pydantic takes for 1 or 0."""
    if isinstance(value, bool) and isinstance(found, int | float) and not isinstance(found, bool):
        yield ".".join(place), str(value).lower()
    elif isinstance(value, Mapping) and found is not None:
        for key, inner in value.items():
            held = found.get(key) if isinstance(found, Mapping) else getattr(found, str(key), None)
            yield from _truths_as_numbers(inner, held, (*place, str(key)))
    elif isinstance(value, list) and isinstance(found, list | tuple) and len(value) == len(found):
        for i, (inner, held) in enumerate(zip(value, found, strict=True)):
            yield from _truths_as_numbers(inner, held, (*place, str(i)))


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """The known name that is closest, or all of them where they are few, to end a message."""
    close = difflib.get_close_matches(name, known, n=1)
    return (
        f", did you mean {close[0]!r}?" if close else f", known: {', '.join(known)}" if len(known) < 8 else ""
    )


def _field_names(model: type[BaseModel]) -> set[str]:
    found: set[str] = set()
    for name, info in model.model_fields.items():
        found.add(name)
        found |= _nested_names(info.annotation)
    return found


def _nested_names(annotation: Any) -> set[str]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return _field_names(annotation)
    return (
        set().union(*(_nested_names(part) for part in get_args(annotation)))
        if get_args(annotation)
        else set()
    )
