"""``caloray train``: train every component of a config's scheme and assemble the bundle."""

from __future__ import annotations

__all__ = ["EXAMPLE", "train"]

from pathlib import Path
from typing import Annotated

import typer

EXAMPLE = "Example: caloray train configs/demo.yaml --set seed=2 --dry-run"


def train(
    config: Annotated[Path, typer.Argument(help="Run config (YAML).")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one value, e.g. a.b=3.")
    ] = None,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and start nothing.")] = False,
) -> None:
    """Train every component of the scheme, in parallel on Ray, and write the bundle.

    Run the same command again to continue a run that was stopped.
    """
    del config, overrides, dry_run
    raise NotImplementedError  # DIST and lead
