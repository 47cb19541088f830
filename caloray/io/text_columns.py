"""Text with one particle per line: a header that names the columns and rows under it, or one energy per line.

A header with commas makes it a file of commas: every cell counts, also an empty one, and quotes are
understood. Without a comma in the header, or in a line that has none, blanks separate, however many. ``#``
begins a comment, empty lines count for nothing, and a byte order mark at the begin is passed over.
"""

from __future__ import annotations

__all__ = ["ENCODING", "TextLayout", "number", "text_columns", "text_layout"]

import csv
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from caloray.errors import DataError
from caloray.io.particle_record import ENERGY, IDENTITY

ENCODING = "utf-8-sig"
"""UTF-8 with or without the mark that spreadsheets put before it."""
HINT = "write one particle per line, its columns as the header names them"

Columns = dict[str, np.ndarray]


@dataclass(frozen=True)
class TextLayout:
    """How the lines of a file are read.

    Args:
        names: The columns of its header; () where it begins with numbers, which are energies.
        commas: Whether commas separate, rather than blanks.
        hint: What to do about a line that does not fit.
    """

    names: tuple[str, ...] = ()
    commas: bool = False
    hint: str = HINT

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the cells of a line."""
        return self.names or (ENERGY,)

    def cells(self, line: str) -> list[str]:
        """The cells of a line without comment.

        Raises:
            ValueError: Quotes that do not close, or stand inside a cell.
        """
        if self.commas and ("," in line or '"' in line):
            return _between_commas(line)
        if len(self.columns) == 1:
            line = line.rstrip(",").replace(",", " ")
        return [word.strip('"') for word in line.split()]


def text_layout(path: Path) -> TextLayout:
    """Find out whether a file has a header, and what separates its columns.

    Raises:
        DataError: The file is no text, or has a column without a name or two of the same name.
    """
    first, above = "", ""
    try:
        with path.open(encoding=ENCODING) as lines:
            for line in lines:
                if first := _content(line):
                    break
                above = above or line.strip(" \t\r\n#")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as text ({error})", hint="check the file") from error
    words = [word.strip('"') for word in re.split(r"[,\s]+", first)]
    if not first or (any(_looks_like_number(word) for word in words) and ENERGY not in words):
        told = ENERGY in re.split(r"[,\s]+", above)
        hint = "names in a comment are not read: take the '#' away (numpy.savetxt(..., comments=''))"
        return TextLayout(hint=hint if told else HINT)
    commas = "," in first
    try:
        names = tuple(TextLayout(commas=commas, names=tuple(words)).cells(first))
    except ValueError as error:
        raise DataError(f"{path}: {first[:60]!r} names no columns ({error})", hint=HINT) from error
    if len(set(names)) < len(names):
        raise DataError(f"{path}: a column is named twice in {', '.join(names)}", hint="rename one of them")
    if "" in names:
        raise DataError(
            f"{path}: column {names.index('') + 1} of the header {first[:60]!r} has no name",
            hint="name every column, or leave it out (pandas: to_csv(..., index=False))",
        )
    return TextLayout(names, commas)


def text_columns(path: Path, layout: TextLayout, names: Sequence[str], rows: int) -> Iterator[Columns]:
    """Chosen columns of a file, piece by piece.

    Args:
        path: The file.
        layout: Of its lines.
        names: The columns.
        rows: Lines of one piece, at most.

    Raises:
        DataError: The file is no text, a line has another number of cells, or a chosen cell is empty or no
            number.
    """
    at = [layout.columns.index(name) for name in names]
    try:
        with path.open(encoding=ENCODING) as lines:
            filled = ((n, text) for n, line in enumerate(lines, start=1) if (text := _content(line)))
            below = islice(filled, 1 if layout.names else 0, None)
            while piece := [(n, _cells(path, layout, n, text)) for n, text in islice(below, rows)]:
                yield {name: _parsed(path, piece, name, i) for name, i in zip(names, at, strict=True)}
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as text ({error})", hint="check the file") from error


def number(word: str) -> float:
    """The number that a word is.

    Raises:
        ValueError: It is none; ``2_000``, which Python would take, is none either.
    """
    if "_" in word:
        raise ValueError(f"{word!r} is not a number")
    return float(word)


def _content(line: str) -> str:
    return line.partition("#")[0].strip()


def _looks_like_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _between_commas(line: str) -> list[str]:
    if '"' not in line:
        return [cell.strip() for cell in line.split(",")]
    try:
        row = next(csv.reader([line], skipinitialspace=True, strict=True))
    except csv.Error as error:
        raise ValueError(str(error)) from error
    return [cell.strip() for cell in row]


def _cells(path: Path, layout: TextLayout, line: int, text: str) -> list[str]:
    count = len(layout.columns)
    try:
        cells = layout.cells(text)
    except ValueError as error:
        raise DataError(f"{path}: line {line}: {text[:60]!r} ({error})", hint=layout.hint) from error
    if len(cells) != count:
        expected = "one number" if count == 1 else f"{count} numbers"
        raise DataError(f"{path}: line {line} is not {expected}: {text[:60]!r}", hint=layout.hint)
    return cells


def _parsed(path: Path, piece: Sequence[tuple[int, list[str]]], name: str, at: int) -> np.ndarray:
    """One column of some lines: float64, or int64 where a particle's identity is written in whole numbers."""
    if name in IDENTITY and not any("_" in cells[at] for _, cells in piece):
        with suppress(ValueError, OverflowError):
            return np.array([int(cells[at]) for _, cells in piece], dtype=np.int64)
    values = []
    for line, cells in piece:
        try:
            values.append(number(cells[at]))
        except ValueError as error:
            where = f"{path}: line {line}, {name}"
            if not cells[at]:
                hint = "give every particle a value, or leave the column out"
                raise DataError(f"{where}: the cell is empty", hint=hint) from error
            raise DataError(f"{where}: {cells[at][:60]!r} is not a number", hint=HINT) from error
    return np.array(values, dtype=np.float64)
