"""One or several models against the same reference: what every figure and table is made from."""

from __future__ import annotations

__all__ = ["Comparison", "Model", "Record"]

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from caloray.errors import ConfigError
from caloray.geometry import Geometry
from caloray.observables import depth_unit
from caloray.report.style import COLOURS, DASHES, MARKERS, plain

Record = Mapping[str, Any]

QUANTILES = (0.03, 0.2, 0.5, 0.8, 0.95, 0.99)  # of the longitudinal energy profile: which layers to show


@dataclass(frozen=True)
class Model:
    """One evaluated sample and how it is drawn.

    Args:
        record: Content of its results.json.
        name: For a reader, as given.
        number: Its position among the models.
    """

    record: Record
    name: str
    number: int

    @property
    def showers(self) -> int:
        """Generated showers."""
        return int(self.record["generated"]["showers"])

    @property
    def label(self) -> str:
        """For a legend, with the number of showers."""
        return f"{plain(self.name)} ({self.showers:,} showers)"

    @property
    def short(self) -> str:
        """For a legend."""
        return plain(self.name)

    @property
    def colour(self) -> str:
        """Of its lines."""
        return COLOURS[self.number % len(COLOURS)]

    @property
    def dash(self) -> Any:
        """Of its lines, so that colour is not the only difference."""
        return DASHES[self.number % len(DASHES)]

    @property
    def marker(self) -> str:
        """Of its points."""
        return MARKERS[self.number % len(MARKERS)]

    def histogram(self, name: str) -> Record | None:
        """The histogram of this name, if there is one."""
        return self._histograms.get(name)

    @cached_property
    def _histograms(self) -> dict[str, Record]:
        return {str(record["name"]): record for record in self.record["histograms"]}


@dataclass(frozen=True)
class Comparison:
    """Records of evaluations with one reference in common.

    Args:
        models: At least one.
        reference_name: For legends.
    """

    models: tuple[Model, ...]
    reference_name: str

    @staticmethod
    def of(results: Record | Sequence[Record], labels: Sequence[str] | None = None) -> Comparison:
        """Check that the records belong together.

        Args:
            results: Content of one results.json, or of several.
            labels: Names of the reference and of each model; by default what the records say.

        Raises:
            ConfigError: No record, a wrong number of labels, or records of different references, readouts or
                thresholds.
        """
        records = [results] if isinstance(results, Mapping) else list(results)
        if not records:
            raise ConfigError("no results to draw", hint="give the content of at least one results.json")
        names = list(labels) if labels else _names(records)
        if len(names) != len(records) + 1:
            raise ConfigError(
                f"{len(names)} labels for {len(records)} results, expected {len(records) + 1}",
                hint="the first label names the reference",
            )
        for record, name in zip(records[1:], names[2:], strict=True):
            _check_same(records[0], record, names[1], name)
        models = (
            Model(record, name, i) for i, (record, name) in enumerate(zip(records, names[1:], strict=True))
        )
        return Comparison(tuple(models), names[0])

    @property
    def first(self) -> Record:
        """A record to take the reference's side from."""
        return self.models[0].record

    @property
    def single(self) -> bool:
        """Whether there is one model only."""
        return len(self.models) == 1

    @property
    def reference_showers(self) -> int:
        """Showers of the reference."""
        return int(self.first["reference"]["showers"])

    @property
    def reference_label(self) -> str:
        """For a legend, with the number of showers."""
        return f"{self.reference_short} ({self.reference_showers:,} showers)"

    @property
    def reference_short(self) -> str:
        """For a legend."""
        return plain(self.reference_name)

    @cached_property
    def geometry(self) -> Geometry:
        """The readout."""
        return Geometry.from_dict(dict(self.first["geometry"]))

    def layer(self, position: int) -> str:
        """Title of a layer; with the detector's own number where that differs."""
        own = self.geometry.layers[position].id
        return f"layer {position}" if own == position else f"layer {position} (id {own})"

    @property
    def depth_unit(self) -> str:
        """Unit of the longitudinal moments."""
        unit = depth_unit(self.geometry)
        return "layers" if unit == "layer" else unit

    def histograms(self, prefix: str) -> list[str]:
        """Names of the histograms of one observable that every model has."""
        return [
            str(record["name"])
            for record in self.first["histograms"]
            if record["observable"] == prefix and all(m.histogram(record["name"]) for m in self.models)
        ]

    def having(self, key: str) -> list[Model]:
        """Models whose record has something under this key."""
        return [model for model in self.models if model.record.get(key)]

    def distinct(self, key: str) -> Iterator[tuple[Model, Any]]:
        """Models and what they have under a key; the same thing given to several models comes once."""
        seen: list[Any] = []
        for model in self.having(key):
            if model.record[key] not in seen:
                seen.append(model.record[key])
                yield model, model.record[key]

    @cached_property
    def layers_to_show(self) -> list[int]:
        """Six different layers spread over the longitudinal profile (all, if there are fewer)."""
        energies = np.array(self.first["means"]["layer_energy"]["reference"]["mean"])
        n = len(energies)
        if n <= len(QUANTILES):
            return list(range(n))
        reached = np.cumsum(energies) / max(float(energies.sum()), 1e-300)
        chosen: list[int] = []
        for i, quantile in enumerate(QUANTILES):
            layer = int(np.searchsorted(reached, quantile))
            lowest = chosen[-1] + 1 if chosen else 0
            chosen.append(max(min(layer, n - len(QUANTILES) + i), lowest))
        return chosen


def _names(records: Sequence[Record]) -> list[str]:
    return [str(records[0]["reference"]["name"]), *(str(record["generated"]["name"]) for record in records)]


def _check_same(first: Record, other: Record, name: str, other_name: str) -> None:
    found = [_identity(record) for record in (first, other)]
    for what in found[0]:
        if found[0][what] != found[1][what]:
            raise ConfigError(
                f"{name} and {other_name} were not evaluated against the same {what}: "
                f"{str(found[0][what])[:16]} and {str(found[1][what])[:16]}",
                hint="evaluate all models with the same reference and threshold",
            )


def _identity(record: Record) -> dict[str, Any]:
    return {
        "reference": record["reference"]["digest"],
        "readout": record["geometry"]["digest"],
        "threshold": record["threshold"],
    }
