"""The challenge's own rows, read from the files that the package carries."""

from __future__ import annotations

__all__ = ["FLOOR", "SOURCE", "Entry", "load_published"]

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any

from caloray.leaderboard.benchmark import find_benchmark
from caloray.leaderboard.columns import COLUMNS

FLOOR = "GEANT4"
"""Name of the row that compares Geant4 with Geant4."""

SOURCE = (
    "CaloChallenge results files (github.com/CaloChallenge/homepage, 9b41df72), arXiv:2410.21611; "
    "FPD and KPD times 1000, times in ms per shower, AUC mean and spread of 10 trainings"
)


@dataclass(frozen=True)
class Entry:
    """One row of a leaderboard.

    Args:
        name: The model.
        kind: "NF", "diffusion", "GAN", ...
        family: The same in more words.
        values: Numbers by key of :data:`caloray.leaderboard.columns.COLUMNS`, in the units of these columns;
            what was not measured is missing.
        errors: Their errors, by the same keys, where they are known.
    """

    name: str
    kind: str
    family: str
    values: Mapping[str, float]
    errors: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "name": self.name,
            "kind": self.kind,
            "family": self.family,
            "values": dict(self.values),
            "errors": dict(self.errors),
        }


@cache
def load_published(dataset: str) -> tuple[Entry, ...]:
    """All rows of a data set as they were published, GEANT4 first.

    Raises:
        ConfigError: No such data set.
    """
    name = find_benchmark(dataset).name
    folder = resources.files("caloray.leaderboard").joinpath("published")
    text = folder.joinpath(f"{name}.csv").read_text(encoding="utf-8")
    return tuple(_entry(row) for row in csv.DictReader(io.StringIO(text)))


def _entry(row: Mapping[str, str]) -> Entry:
    return Entry(
        row["name"],
        row["kind"],
        row["family"],
        MappingProxyType({c.key: float(row[c.key]) for c in COLUMNS if row.get(c.key)}),
        MappingProxyType({c.key: float(row[f"{c.key}_std"]) for c in COLUMNS if row.get(f"{c.key}_std")}),
    )
