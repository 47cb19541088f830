"""What a client may ask for, read from JSON; a body that is something else is answered without quoting it."""

from __future__ import annotations

__all__ = ["MAX_FIRST", "MAX_SEED", "ShowerRequest", "read_request"]

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, FailFast, Field, ValidationError

from caloray.serving.problems import Problem, invalid

MAX_SEED = 2**64 - 1
MAX_FIRST = 2**53 - 1
"""Ids stay below what JSON numbers hold exactly in every language."""


def _whole(value: object) -> object:
    """Whole numbers may be written with a point, as JSON Schema has it, as long as they are exact."""
    return (
        int(value) if isinstance(value, float) and value.is_integer() and abs(value) <= MAX_FIRST else value
    )


_Whole = Annotated[int, BeforeValidator(_whole)]
_Energy = Annotated[float, Field(gt=0)]
_Numbers = Annotated[list[float], Field(min_length=1)]


class ShowerRequest(BaseModel):
    """Showers for listed particles. The reply is a pure function of this: same request, same bytes."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        json_schema_extra={"examples": [{"energies": [10000.0, 50000.0], "seed": 1}]},
    )

    model: str | None = Field(
        default=None,
        max_length=100,
        description="Name of the model; may be left out where only one is served.",
    )
    energies: Annotated[list[_Energy], FailFast()] = Field(
        min_length=1, description="Incident energies [MeV], one for each shower, inside the trained range."
    )
    conditions: dict[str, float | _Numbers] = Field(
        default_factory=dict,
        max_length=100,
        description="Further properties of the particles by name: one number for all, or one each.",
    )
    seed: _Whole = Field(default=0, ge=0, le=MAX_SEED, description="Seed of the random numbers.")
    first: _Whole = Field(
        default=0,
        ge=0,
        le=MAX_FIRST,
        description="Id of the first shower. Showers with the same seed, id and particle are the same, so a "
        "long list can be asked for in several requests.",
    )


def read_request(body: bytes) -> ShowerRequest:
    """The request in a body.

    Raises:
        Problem: 422, saying what is wrong in words and limits of our own.
    """
    try:
        return ShowerRequest.model_validate_json(body)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        raise _explained(found[0]) from None


_FIELDS = tuple(ShowerRequest.model_fields)
_SENTENCES = {
    "json_invalid": "the body is not JSON",
    "model_type": "the body must be a JSON object",
    "model_attributes_type": "the body must be a JSON object",
    "extra_forbidden": f"unknown field; there are {', '.join(_FIELDS)}",
}
_WORDS = {
    "missing": "is missing",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "greater_than": "must be greater than {gt:g}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing_size": "is too large",
    "list_type": "must be a list",
    "dict_type": "must be an object: name to number, or to a list of numbers",
    "string_type": "must be a string",
    "string_too_long": "must have at most {max_length} characters",
    "too_short": "must not be empty",
    "too_long": "must have at most {max_length} entries",
}


def _explained(error: Mapping[str, Any]) -> Problem:
    kind, place = error["type"], error["loc"]
    if kind == "json_invalid" and "number out of range" in str(error.get("ctx", {}).get("error", "")):
        return invalid("a number has too many digits")
    if place and place[0] == "conditions" and len(place) > 1:
        return invalid("every condition must be a finite number or a list of finite numbers")
    if kind in _SENTENCES:
        return invalid(_SENTENCES[kind])
    words = _WORDS.get(kind, "is not valid").format(**error.get("ctx", {}))
    return invalid(f"{_where(place)} {words}")


def _where(place: tuple[str | int, ...]) -> str:
    """The place in our own words: names of our fields and positions in lists, never a key that came in."""
    if not place or place[0] not in _FIELDS:
        return "the body"
    positions = [part for part in place[1:] if isinstance(part, int)]
    return f"{place[0]}[{positions[-1]}]" if positions else str(place[0])
