"""``caloray evaluate``: compare generated showers with Geant4 showers."""

from __future__ import annotations

__all__ = ["EXAMPLE", "evaluate"]

from pathlib import Path
from typing import Annotated

import typer

EXAMPLE = "Example: caloray evaluate runs/demo/shards runs/demo/showers -o runs/demo"


def evaluate(
    reference: Annotated[Path, typer.Argument(help="Geant4 showers: HDF5 file or shard directory.")],
    generated: Annotated[Path, typer.Argument(help="Generated showers: HDF5 file or shard directory.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Directory for results and figures.")],
) -> None:
    """Write results.json and figures, and print separation powers beside their Geant4-Geant4 floor."""
    del reference, generated, output
    raise NotImplementedError  # EVAL
