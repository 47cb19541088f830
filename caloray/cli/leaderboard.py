"""``caloray leaderboard``: the CaloChallenge's published results and your model beside them."""

from __future__ import annotations

__all__ = ["EXAMPLE", "leaderboard"]

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from caloray.cli.console import print_json, say

if TYPE_CHECKING:
    from caloray.leaderboard.board import Apart, Board, Row
    from caloray.leaderboard.columns import Column, View
    from caloray.leaderboard.entrant import Entrant
    from caloray.leaderboard.published import Entry

EXAMPLE = "Example: caloray leaderboard ds2 runs/demo/results.json --sort auc-low"
NAME = 21
HEADINGS = {
    "quality": "AUC: 0.5 is best. Last digits in brackets are errors: 24.6(10) = 24.6 ± 1.0",
    "speed": "trainable parameters; ms per shower for batches of 1, 100 and 10,000",
    "shapes": "separation power of histograms (mean over layers): 0 = equal, 1 = disjoint",
    "manifold": "voxels' precision, recall, density, coverage; mean log posterior (higher is better)",
}


def leaderboard(
    dataset: Annotated[str, typer.Argument(help="ds1_photons, ds1_pions, ds2 or ds3.")],
    results: Annotated[
        list[Path] | None, typer.Argument(help="results.json of your models, or directories with one.")
    ] = None,
    sort: Annotated[
        str,
        typer.Option(
            help="fpd, kpd, auc-low, auc-high, auc-resnet, cpu-100, gpu-100, parameters-generation, ..."
        ),
    ] = "fpd",
    *,
    all_columns: Annotated[bool, typer.Option("--all-columns", help="Print every table.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print the CaloChallenge's published results and, where that is fair, your model among them.

    A model that was evaluated on other data, with another threshold, with fewer showers or with other
    classifiers is listed apart, with the reasons. Times of your model are from your machine and so marked
    with a star.
    """
    from caloray.leaderboard.board import build_board
    from caloray.leaderboard.columns import VIEWS
    from caloray.leaderboard.published import SOURCE

    board = build_board(dataset, results or (), sort)
    if as_json:
        print_json(board.to_dict())
        return
    say(f"CaloChallenge {board.benchmark.title}, sorted by {board.column.label}")
    for view in VIEWS if all_columns else (board.column.view,):
        _show(board, view)
    _show_remarks(board)
    for item in board.apart:
        _show_apart(item)
    say(f"\nsource: {SOURCE.replace('; ', chr(10) + '        ', 1)}")


def _show(board: Board, view: View) -> None:
    """One table of all ranked rows."""
    columns = [
        column
        for column in _columns(view)
        if any(column.key in row.entry.values for row in board.rows) or column == board.column
    ]
    with_kind = view == "quality"
    lines = [_line(row, columns, with_kind=with_kind) for row in board.rows]
    say(f"\n{HEADINGS[view]}")
    headings = ("", "model", "kind" if with_kind else "", *(column.label for column in columns))
    _print_aligned(headings, lines)


def _columns(view: View) -> list[Column]:
    from caloray.leaderboard.columns import COLUMNS

    return [column for column in COLUMNS if column.view == view]


def _line(row: Row, columns: Sequence[Column], *, with_kind: bool) -> list[str]:
    name = row.entry.name if row.entrant is None else f"> {row.entry.name}"
    numbers = [
        _cell(row.entry, column) + ("*" if row.on_other_hardware(column) else "") for column in columns
    ]
    kind = row.entry.kind if with_kind else ""
    return ["" if row.rank is None else str(row.rank), _short(name), kind, *numbers]


def _show_remarks(board: Board) -> None:
    from caloray.leaderboard.comparable import remarks

    for row in board.rows:
        if row.entrant is not None:
            say(f"\n> {row.entry.name} ({row.entrant.path})")
            for remark in remarks(row.entrant):
                say(f"  - {remark}")
            _print_floors(row.entrant)


def _show_apart(item: Apart) -> None:
    say(f"\nnot comparable, so not ranked: {item.entrant.entry.name} ({item.entrant.path})")
    for reason in item.reasons:
        say(f"  - {reason}")
    _print_floors(item.entrant)


def _print_floors(entrant: Entrant) -> None:
    """The user's own numbers beside the floors of the user's own evaluation."""
    from caloray.leaderboard.columns import COLUMNS

    lines = []
    for column in COLUMNS:
        if column.key not in entrant.entry.values:
            continue
        name = column.key.replace("_", " ")
        if column.view == "quality" or column.kind == "time":
            name = f"{column.label} [ms per shower]" if column.kind == "time" else column.label
        numbers = ["", "", ""]
        if (floor := entrant.floors.get(column.key)) is not None:
            sigma = "-" if floor.significance is None else f"{floor.significance:+.1f}"
            numbers = [
                _number(floor.matched, None, column),
                _number(floor.value, floor.spread, column),
                sigma,
            ]
        lines.append(["", name, "", _cell(entrant.entry, column), *numbers])
    if lines:
        _print_aligned(("", "its own numbers", "", "value", "at floor's size", "floor", "sigma"), lines)


def _cell(entry: Entry, column: Column) -> str:
    value = entry.values.get(column.key)
    return "-" if value is None else _number(value, entry.errors.get(column.key), column)


def _number(value: float, error: float | None, column: Column) -> str:
    match column.kind:
        case "count":
            return _count(value)
        case "time":
            return f"{value:,.0f}" if value >= 99.95 else f"{value:#.3g}"
        case "small":
            mantissa, exponent = f"{value:.1e}".split("e")
            return f"{mantissa}e{int(exponent)}"
        case "measured":
            return f"{value:.4g}" if not error else _with_error(value, error)


def _with_error(value: float, error: float) -> str:
    """Value with the error in units of its last digits: one digit of it, two where it begins with 1."""
    from math import floor, log10

    digits = max(0, -floor(log10(error)) + (error < 1.95 * 10 ** floor(log10(error))))
    digits = min(digits, 4)
    return f"{value:,.{digits}f}({max(1, round(error * 10**digits))})"


def _count(value: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.0f}"


def _short(name: str) -> str:
    return name if len(name) <= NAME else f"{name[: NAME - 3]}..."


def _print_aligned(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as their content: the first three to the left, numbers to the right."""
    widths = [max(len(row[i]) for row in (headings, *rows)) for i in range(len(headings))]
    widths = [0 if i < 3 and not any(row[i] for row in rows) else width for i, width in enumerate(widths)]

    def line(cells: Sequence[str]) -> str:
        parts = [
            f"{cell:{'<' if 0 < i < 3 else '>'}{width}}"
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
            if width
        ]
        return "  ".join(parts).rstrip()

    say(line(headings))
    say("-" * len(line(["x" * width for width in widths])))
    for row in rows:
        say(line(row))
