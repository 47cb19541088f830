"""What commands say: results on stdout, everything else on stderr; colours only on a terminal."""

from __future__ import annotations

__all__ = ["note", "print_json", "print_table", "say"]

import json
from collections.abc import Iterable, Sequence

import typer


def say(text: str) -> None:
    """Print one line of a result to stdout."""
    typer.echo(text)


def note(text: str) -> None:
    """Print one line of progress or advice to stderr."""
    typer.echo(text, err=True)


def print_json(value: object) -> None:
    """Print ``value`` as indented JSON to stdout."""
    typer.echo(json.dumps(value, indent=1, default=str))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> None:
    """Print a table to stdout: framed on a terminal, plain columns in a file or pipe."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    table = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    if not console.is_terminal:
        console.width = 160
    console.print(table)
