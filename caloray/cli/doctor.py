"""``caloray doctor``: is this machine fit for work?"""

from __future__ import annotations

__all__ = ["EXAMPLE", "doctor"]

from dataclasses import asdict
from typing import Annotated

import typer

from caloray.cli.console import print_json, print_table

EXAMPLE = "Example: caloray doctor --json"
UNAVAILABLE = 69


def doctor(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check this machine: versions, devices, disk, Ray, MLflow.

    Starts and changes nothing. The exit status is 0 unless something is broken.
    """
    from caloray.cli.checks import BROKEN, all_checks

    checks = list(all_checks())
    if as_json:
        print_json([asdict(check) for check in checks])
    else:
        rows = [(check.name, check.state, check.found, check.advice) for check in checks]
        print_table(("what", "state", "found", "advice"), rows)
    if any(check.state == BROKEN for check in checks):
        raise typer.Exit(UNAVAILABLE)
