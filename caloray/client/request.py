"""One request for showers, and the pieces that go over the wire."""

from __future__ import annotations

__all__ = ["Asked", "Numbers", "Piece", "ShowerRequest"]

import difflib
import json
import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypedDict

import numpy as np

from caloray.client.models import ServedModel
from caloray.errors import ConfigError
from caloray.serving.request import MAX_FIRST, MAX_SEED

MOST = 1024
"""Showers of one request: large samples are asked for in several, so that others get their turn."""
_NUMBER_BYTES = 26

Numbers = Sequence[float] | np.ndarray


class Asked(TypedDict, total=False):
    """What may be said of the showers besides their energies; see :class:`ShowerRequest`."""

    conditions: Mapping[str, Numbers | float] | None
    seed: int
    model: str | None
    first: int


@dataclass(frozen=True, eq=False)
class ShowerRequest:
    """Which showers are wanted.

    Args:
        energies: (n,) incident energies [MeV] of the showers ``first`` to ``first + n - 1``.
        conditions: Each a number for all showers, or (n,) values, by name.
        seed: From 0 to 2**64 - 1.
        model: Its name; may be None where one model is served.
        first: Id of the first shower.

    Raises:
        ConfigError: Arrays of other shapes, numbers that are not finite, or a seed or id out of bounds.
    """

    energies: np.ndarray
    conditions: Mapping[str, np.ndarray] = field(default_factory=dict)
    seed: int = 0
    model: str | None = None
    first: int = 0

    def __post_init__(self) -> None:
        """Convert to float64 and refuse what no service can answer."""
        energies = _numbers("energies", self.energies)
        if energies.ndim != 1 or not len(energies):
            raise ConfigError(
                f"energies of shape {energies.shape}, expected (n,)", hint="give one energy per shower [MeV]"
            )
        if not (energies > 0).all():
            raise ConfigError("energies: not all above 0", hint="incident energies are in MeV")
        conditions = {name: _numbers(f"condition {name}", held) for name, held in self.conditions.items()}
        for name, values in conditions.items():
            if values.shape not in {(), energies.shape}:
                raise ConfigError(
                    f"condition {name} of shape {values.shape} for {len(energies)} showers",
                    hint="give one number, or one per shower",
                )
        if not (0 <= self.seed <= MAX_SEED and 0 <= self.first <= MAX_FIRST + 1 - len(energies)):
            raise ConfigError(
                f"seed {self.seed}, first shower {self.first}",
                hint="seeds go from 0 to 2^64 - 1, showers are numbered from 0 to 2^53 - 1",
            )
        object.__setattr__(self, "energies", energies)
        object.__setattr__(self, "conditions", conditions)

    @staticmethod
    def of(energies: Numbers, asked: Asked) -> ShowerRequest:
        """A request in the words of a caller.

        Raises:
            ConfigError: A word that there is not, a value of another kind, or what the class itself refuses.
        """
        for word in asked.keys() - Asked.__annotations__.keys():
            close = difflib.get_close_matches(word, Asked.__annotations__, n=1)
            meant = f", did you mean {close[0]!r}?" if close else ""
            raise ConfigError(
                f"no {word!r} can be said of showers{meant}",
                hint=f"there are {', '.join(Asked.__annotations__)}",
            )
        given, model = asked.get("conditions"), asked.get("model")
        if not isinstance(given, Mapping | None):
            raise ConfigError("conditions: no mapping", hint="give them by name: {'tilt': 0.1}")
        if not isinstance(model, str | None):
            raise ConfigError("model: no name", hint="give the name of a model, as a string")
        return ShowerRequest(
            _numbers("energies", energies),
            {_name(name): _numbers(f"condition {name}", held) for name, held in (given or {}).items()},
            _whole("seed", asked.get("seed", 0)),
            model,
            _whole("first", asked.get("first", 0)),
        )

    @property
    def stop(self) -> int:
        """One more than the id of the last shower."""
        return self.first + len(self.energies)

    def pieces(self, model: ServedModel, start: int | None = None) -> Iterator[Piece]:
        """Cut the request into as many as ``model`` takes at once, at borders of blocks where possible.

        Args:
            model: What is asked.
            start: First shower of the first piece; that of the request if omitted.
        """
        start = self.first if start is None else start
        listed = 1 + sum(values.ndim for values in self.conditions.values())
        bare = len(Piece(self, self.stop, self.stop).body())  # what a body has besides its lists of numbers
        fitting = (model.max_body_bytes - bare) // (_NUMBER_BYTES * listed)
        size = max(1, min(model.max_showers, fitting, MOST))
        while start < self.stop:
            stop = min(start + size, self.stop)
            border = stop // model.block_size * model.block_size
            stop = border if start < border and stop < self.stop else stop
            yield Piece(self, start, stop)
            start = stop


@dataclass(frozen=True)
class Piece:
    """The showers ``start`` to ``stop - 1`` of a request."""

    request: ShowerRequest
    start: int
    stop: int

    def __len__(self) -> int:
        """Number of showers."""
        return self.stop - self.start

    def since(self, start: int) -> Piece:
        """What is left of the piece from shower ``start`` on."""
        return Piece(self.request, start, self.stop)

    @property
    def rows(self) -> slice:
        """Where the showers stand in the arrays of the request."""
        return slice(self.start - self.request.first, self.stop - self.request.first)

    @property
    def energies(self) -> np.ndarray:
        """Their incident energies [MeV]."""
        return self.request.energies[self.rows]

    def conditions(self) -> dict[str, np.ndarray]:
        """Their conditions, (n,) each."""
        return {
            name: np.broadcast_to(values, len(self)) if values.ndim == 0 else values[self.rows]
            for name, values in self.request.conditions.items()
        }

    def body(self) -> bytes:
        """The piece as JSON; equal pieces give equal bytes."""
        given = {
            name: values.item() if values.ndim == 0 else values[self.rows].tolist()
            for name, values in self.request.conditions.items()
        }
        value: dict[str, object] = {"energies": self.energies.tolist()}
        value |= {"conditions": given} if given else {}
        value |= {"seed": self.request.seed, "first": self.start}
        value |= {} if self.request.model is None else {"model": self.request.model}
        return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()


def _numbers(what: str, given: np.ndarray | Sequence[float] | float) -> np.ndarray:
    try:
        values = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{what}: not numbers", hint="give a list or an array of numbers") from error
    if not np.isfinite(values).all():
        raise ConfigError(f"{what}: NaN or infinity", hint="give finite numbers")
    return values


def _whole(what: str, given: object) -> int:
    """A whole number of Python or of numpy, and nothing that only looks like one."""
    try:
        if isinstance(given, bool):
            raise TypeError
        return operator.index(given)  # type: ignore[arg-type]
    except TypeError as error:
        raise ConfigError(
            f"{what}: {type(given).__name__}, expected a whole number", hint=f"give {what} as int"
        ) from error


def _name(given: object) -> str:
    if not isinstance(given, str):
        raise ConfigError("conditions: a name that is no string", hint="GET /v1/models tells their names")
    return given
