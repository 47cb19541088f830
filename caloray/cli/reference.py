"""``caloray model reference``: freeze what productions of a bundle are held against."""

from __future__ import annotations

__all__ = ["EXAMPLE", "reference"]

from pathlib import Path
from typing import Annotated

import typer

from caloray.cli.console import print_json, say
from caloray.cli.postprocess import counter

EXAMPLE = "Example: caloray model reference runs/demo/bundle"


def reference(
    bundle: Annotated[Path, typer.Argument(help="Bundle directory.")],
    number: Annotated[int, typer.Option("-n", "--number", min=1000, help="Showers to draw.")] = 10000,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of these showers.")] = 0,
    *,
    force: Annotated[bool, typer.Option("--force", help="Replace the reference that is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Draw showers of a bundle and freeze their histograms in it, for `caloray produce` to compare with.

    The bundle's digest stays the same. A reference that is there is kept unless --force is given.
    """
    from caloray.calibration.quality import freeze_reference

    entry = freeze_reference(bundle, number, seed, counter(), force=force)
    if as_json:
        print_json({"bundle": str(bundle), **entry.model_dump(mode="json")})
    else:
        say(f"reference  {bundle / entry.path}: {entry.showers:,} showers, seed {entry.seed}")
