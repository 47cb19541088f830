"""The command line: thin commands over the package, one file each."""

from __future__ import annotations

__all__ = ["main"]

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out one command line and return its exit status.

    Args:
        argv: Arguments without the program's name; those of the process when omitted.
    """
    from caloray.cli.app import run_command_line

    return run_command_line(argv)
