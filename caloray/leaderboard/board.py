"""The leaderboard of one data set: published rows and a user's models, ranked only where that is fair."""

from __future__ import annotations

__all__ = ["Apart", "Board", "Row", "build_board"]

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from caloray.evaluation.published import Benchmark
from caloray.leaderboard.benchmark import find_benchmark
from caloray.leaderboard.columns import COLUMNS, Column, by_option
from caloray.leaderboard.comparable import reasons_against, remarks
from caloray.leaderboard.entrant import Entrant, read_entrant
from caloray.leaderboard.published import FLOOR, SOURCE, Entry, load_published


@dataclass(frozen=True)
class Row:
    """One ranked row.

    Args:
        rank: From 1; None for the Geant4 floor and for rows without the number that is sorted by.
        entry: Its numbers.
        entrant: The user's results behind it; None for a published row.
    """

    rank: int | None
    entry: Entry
    entrant: Entrant | None = None

    def on_other_hardware(self, column: Column) -> bool:
        """Whether a number of this row is a time that was not taken on the published ones' machine."""
        return self.entrant is not None and column.kind == "time" and column.key in self.entry.values


@dataclass(frozen=True)
class Apart:
    """A model that must not be ranked.

    Args:
        entrant: The user's results.
        reasons: Why not, one line each.
    """

    entrant: Entrant
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Board:
    """A sorted leaderboard.

    Args:
        benchmark: The data set.
        column: What it is sorted by.
        rows: The Geant4 floor, then the models from best to worst, then those without this number.
        apart: Models that are not comparable.
    """

    benchmark: Benchmark
    column: Column
    rows: tuple[Row, ...]
    apart: tuple[Apart, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "dataset": self.benchmark.name,
            "source": SOURCE,
            "sort": self.column.option,
            "rows": [_row(row) for row in self.rows],
            "apart": [_user(item.entrant) | {"reasons": list(item.reasons)} for item in self.apart],
        }


def build_board(dataset: str, results: Sequence[Path] = (), sort: str = "fpd") -> Board:
    """Put published rows and the models of some results.json in order.

    Args:
        dataset: "ds1_photons", "ds1_pions", "ds2" or "ds3".
        results: The files, or directories that hold one.
        sort: Column, as the command line spells it ("fpd", "auc-low", "gpu-100", ...).

    Raises:
        ConfigError: No such data set or column.
        DataError: A file holds no results.
    """
    benchmark, column = find_benchmark(dataset), by_option(sort)
    judged = [(entrant, reasons_against(entrant, benchmark)) for entrant in map(read_entrant, results)]
    published = [Row(None, entry) for entry in load_published(dataset)]
    floor = [row for row in published if row.entry.name == FLOOR]
    models = [row for row in published if row.entry.name != FLOOR]
    models += [Row(None, entrant.ranked_entry, entrant) for entrant, reasons in judged if not reasons]
    models.sort(key=lambda row: _order(row.entry, column))
    ranked = [
        Row(number if column.key in row.entry.values else None, row.entry, row.entrant)
        for number, row in enumerate(models, start=1)
    ]
    apart = tuple(Apart(entrant, reasons) for entrant, reasons in judged if reasons)
    return Board(benchmark, column, (*floor, *ranked), apart)


def _order(entry: Entry, column: Column) -> float:
    value = entry.values.get(column.key)
    if value is None:
        return math.inf
    return value if column.better == "lower" else -value


def _row(row: Row) -> dict[str, Any]:
    facts = {"rank": row.rank, **row.entry.to_dict()}
    if row.entrant is None:
        return facts
    return facts | {
        "results": str(row.entrant.path),
        "floors": _floors(row.entrant),
        "left_out": list(row.entrant.left_out),
        "other_hardware": [column.key for column in COLUMNS if row.on_other_hardware(column)],
        "remarks": list(remarks(row.entrant)),
    }


def _user(entrant: Entrant) -> dict[str, Any]:
    return {**entrant.entry.to_dict(), "results": str(entrant.path), "floors": _floors(entrant)}


def _floors(entrant: Entrant) -> dict[str, Any]:
    return {key: asdict(floor) for key, floor in entrant.floors.items()}
