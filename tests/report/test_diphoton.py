"""The di-photon figure comes from the record alone and leaves matplotlib as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest

from caloray.report.diphoton import draw_diphoton
from caloray.report.style import save

DISTANCES = [0.0, 10.0, 14.0, 20.0, 30.0]


def curve(name: str, *, fitted: bool) -> dict[str, Any]:
    x = np.linspace(0, 30, 31)
    y = 1 / (1 + np.exp(13.5 - x))
    part = {"value": 13.5, "error": None}
    return {
        "name": name,
        "pairs": 2000,
        "probability": [0.0, 0.05, 0.6, 1.0, 1.0],
        "error": [0.001, 0.01, 0.02, 0.001, 0.001],
        "fit": {"d50": part, "width": part, "plateau": part, "base": 0.0} if fitted else None,
        "band": {"distance": list(x), "value": list(y), "low": list(y), "high": list(y)} if fitted else None,
    }


def record(names: list[str], *, fitted: bool) -> dict[str, Any]:
    return {
        "settings": {"distances": DISTANCES, "energies": [20_000.0, 5000.0]},
        "cell_mm": 5.09,
        "curves": [curve(name, fitted=fitted) for name in names],
        "differences": [
            {"name": name, "delta": [0.0, 0.1, -0.2, 0.0, 0.0], "error": [0.01] * 5} for name in names[1:]
        ],
    }


@pytest.mark.parametrize("fitted", [True, False])
@pytest.mark.parametrize(
    ("names", "panels"),
    [
        (["reference-reference"], 1),
        (["reference-reference", "generated-generated", "reference-generated"], 2),
    ],
)
def test_draws(names: list[str], panels: int, fitted: bool, tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    figure = draw_diphoton(record(names, fitted=fitted), ("Geant4", "flow"))
    assert dict(mpl.rcParams) == before
    assert len(figure.axes) == panels
    legend = figure.axes[0].get_legend()
    assert legend is not None
    texts = [text.get_text() for text in legend.get_texts()]
    assert len(texts) == len(names)
    assert texts[0].startswith("Geant4 + Geant4")
    assert ("13.50 mm" in texts[0]) is fitted
    assert all(path.stat().st_size > 10_000 for path in save(figure, tmp_path / "diphoton"))
