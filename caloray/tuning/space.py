"""What may be searched: parameters with their ranges, drawn, listed, and mapped to the unit interval."""

from __future__ import annotations

__all__ = ["MOST_GRID", "Kind", "Parameter", "Value"]

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from pydantic import ModelWrapValidatorHandler, model_serializer, model_validator

from caloray.config import Section

Kind = Literal["uniform", "log_uniform", "int", "log_int", "choice"]
Value = Any
KINDS: tuple[Kind, ...] = ("uniform", "log_uniform", "int", "log_int", "choice")
MOST_GRID = 100_000
_DECIMAL = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")


class Parameter(Section):
    """The range of one field of the run config.

    In YAML it is one key with its range: ``{log_uniform: [2.0e-4, 1.0e-2]}``, ``{int: [4, 16], step: 4}``
    (both ends belong to it), ``{choice: [adam, adamw]}``; ``grid: 5`` says how many points of a range a grid
    search takes.

    Args:
        kind: How values are spread.
        low: Lower end.
        high: Upper end.
        step: Distance of two values of ``int``.
        choices: Values of ``choice``.
        grid: Points of a grid search, evenly (for log kinds: in the logarithm) from end to end.
    """

    kind: Kind
    low: float = 0.0
    high: float = 0.0
    step: int = 1
    choices: tuple[Value, ...] = ()
    grid: int | None = None

    @model_validator(mode="wrap")
    @classmethod
    def _from_file(cls, value: Any, handler: ModelWrapValidatorHandler[Parameter]) -> Parameter:
        """One line about what is wrong with a range."""
        return value if isinstance(value, Parameter) else handler(_parsed(value))

    @model_serializer(mode="plain")
    def _as_file(self) -> dict[str, Any]:
        """As it stands in the file."""
        span: list[Any] = list(self.choices) if self.kind == "choice" else list(self.ends)
        extra = {"step": self.step} if self.step != 1 else {}
        return {self.kind: span} | extra | ({} if self.grid is None else {"grid": self.grid})

    @property
    def whole(self) -> bool:
        """Whether its values are integers of a range."""
        return self.kind in {"int", "log_int"}

    @property
    def log(self) -> bool:
        """Whether it is spread evenly in the logarithm."""
        return self.kind in {"log_uniform", "log_int"}

    @property
    def ends(self) -> tuple[Value, ...]:
        """Lowest and highest value, or all choices."""
        if self.kind == "choice":
            return self.choices
        return (int(self.low), int(self.high)) if self.whole else (self.low, self.high)

    @property
    def count(self) -> int | None:
        """How many values there are; None for a continuous range."""
        if self.kind == "choice":
            return len(self.choices)
        return int(self.high - self.low) // self.step + 1 if self.whole else None

    @property
    def most_points(self) -> int:
        """How many points a grid has of it at most; nothing is listed for that."""
        if self.kind == "choice" or self.grid is None:
            return self.count or 1
        return self.grid if self.count is None else min(self.grid, self.count)

    def unit(self, value: Value) -> float:
        """Where ``value`` lies, as a number from 0 to 1 (for a choice: its index over the last one)."""
        if self.kind == "choice":
            return self.index(value) / max(1, len(self.choices) - 1)
        low, high, at = (
            (math.log(x) for x in (self.low, self.high, value)) if self.log else (self.low, self.high, value)
        )
        return 0.5 if high == low else min(1.0, max(0.0, (float(at) - low) / (high - low)))

    def at(self, share: float) -> Value:
        """The value at ``share`` of the way from the lower to the upper end; all values have equal shares."""
        share = min(1.0, max(0.0, share))
        if self.kind == "choice":
            return self.choices[min(len(self.choices) - 1, int(share * len(self.choices)))]
        if not self.whole:
            return self._between(self.low, self.high, share)
        if self.kind == "log_int":
            return self.nearest(self._between(self.low - 0.5, self.high + 0.5, share))
        count = self.count or 1
        return int(self.low) + self.step * min(count - 1, int(share * count))

    def draw(self, generator: np.random.Generator) -> Value:
        """A random value."""
        return self.at(float(generator.random()))

    def points(self) -> tuple[Value, ...]:
        """All values, or ``grid`` points of a range, ascending and each once."""
        if self.kind == "choice":
            return self.choices
        if self.whole and self.grid is None:
            return tuple(range(int(self.low), int(self.high) + 1, self.step))
        count = self.grid or 1
        shares = [0.5] if count == 1 else [i / (count - 1) for i in range(count)]
        found = [self._between(self.low, self.high, share) for share in shares]
        return tuple(dict.fromkeys(self.nearest(x) for x in found)) if self.whole else tuple(found)

    def nearest(self, value: float) -> int:
        """The integer of the range that is closest to ``value``."""
        steps = round((value - self.low) / self.step)
        return int(self.low) + self.step * min((self.count or 1) - 1, max(0, steps))

    def index(self, value: Value) -> int:
        """Which of the choices ``value`` is."""
        return [json.dumps(choice, sort_keys=True) for choice in self.choices].index(
            json.dumps(value, sort_keys=True)
        )

    def _between(self, low: float, high: float, share: float) -> float:
        if share in {0.0, 1.0}:
            return high if share else low
        if self.log:
            return min(high, max(low, math.exp(math.log(low) + share * (math.log(high) - math.log(low)))))
        return low + share * (high - low)


def _parsed(value: Any) -> dict[str, Any]:
    kind = _kind(value)
    found: dict[str, Any] = {"kind": kind, "grid": value.get("grid")}
    _known(value, kind)
    span = value[kind]
    if not isinstance(span, Sequence) or isinstance(span, str):
        raise ValueError(f"{kind} takes a list, e.g. {_example(kind)}")  # noqa: TRY004
    if kind == "choice":
        return found | {"choices": _choices([_number(item) for item in span])}
    if len(span) != 2:
        raise ValueError(f"{kind} takes two ends, e.g. {_example(kind)}, found {len(span)}")
    low, high = (_end(item, kind) for item in span)
    if low >= high:
        what = "is empty" if low == high else "is reversed"
        raise ValueError(f"the range [{low:g}, {high:g}] {what}, expected the lower end first")
    if kind in {"log_uniform", "log_int"} and low <= 0:
        raise ValueError(f"{kind} needs ends above 0, found {low:g}")
    whole = kind in {"int", "log_int"}
    step = _step(value.get("step", 1), high - low) if whole else 1
    return found | {"low": low, "high": high, "step": step}


def _kind(value: Any) -> Kind:
    if not isinstance(value, Mapping):
        raise ValueError("expected a range, e.g. {uniform: [0.1, 0.5]}")  # noqa: TRY004
    kinds = [kind for kind in KINDS if kind in value]
    if len(kinds) != 1:
        found = ", ".join(map(str, value)) or "nothing"
        raise ValueError(f"expected exactly one of {', '.join(KINDS)}, found {found}")
    return kinds[0]


def _known(value: Mapping[str, Any], kind: Kind) -> None:
    allowed = {kind} | ({"grid"} if kind != "choice" else set()) | ({"step"} if kind == "int" else set())
    unknown = [str(key) for key in value if key not in allowed]
    if unknown:
        raise ValueError(f"{kind} takes no {unknown[0]}, known: {', '.join(sorted(allowed))}")
    grid = value.get("grid")
    if grid is not None and (not isinstance(grid, int) or isinstance(grid, bool) or grid < 1):
        raise ValueError(f"grid: expected a number of points, found {grid!r}")


def _example(kind: Kind) -> str:
    example = {"choice": "[adam, adamw]", "int": "[4, 16]", "log_int": "[4, 64]", "uniform": "[0.1, 0.5]"}
    return f"{{{kind}: {example.get(kind, '[1.0e-4, 1.0e-2]')}}}"


def _number(item: Any) -> Any:
    """YAML 1.1 takes 1e-4 (without a point) for a word."""
    return float(item) if isinstance(item, str) and _DECIMAL.fullmatch(item) else item


def _end(item: Any, kind: Kind) -> float:
    item = _number(item)
    if isinstance(item, bool) or not isinstance(item, int | float):
        raise ValueError(f"{kind}: expected a number, found {item!r:.100}")  # noqa: TRY004
    if not math.isfinite(item):
        raise ValueError(f"{kind}: expected a finite number, found {item}")
    if kind in {"int", "log_int"} and not isinstance(item, int):
        raise ValueError(f"{kind} takes integers, found {item:g}; for real numbers there is uniform")
    return float(item)


def _step(step: Any, width: float) -> int:
    if isinstance(step, bool) or not isinstance(step, int) or step < 1:
        raise ValueError(f"step: expected an integer of 1 or more, found {step!r}")
    if width % step:
        raise ValueError(f"step: {step} does not lead from the lower to the upper end, {width:g} above it")
    return step


def _choices(items: list[Any]) -> tuple[Any, ...]:
    if len(items) < 2:
        raise ValueError(f"choice needs two or more values, found {len(items)}; a fixed one belongs to set:")
    texts: list[str] = []
    for item in items:
        try:
            text = json.dumps(item, sort_keys=True, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"choice: {item!r:.100} is no plain finite value") from error
        if text in texts:
            raise ValueError(f"choice: {item!r} stands twice")
        texts.append(text)
    return tuple(items)
