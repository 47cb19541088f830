"""How figures look: the field's habits, without touching matplotlib's global state."""

from __future__ import annotations

__all__ = [
    "GENERATED",
    "RC",
    "REFERENCE",
    "REFERENCE_EDGE",
    "axis_label",
    "layer_title",
    "new_figure",
    "save",
]

import io
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from caloray.atomic import write_bytes

REFERENCE = "#c8c8c8"
REFERENCE_EDGE = "#6e6e6e"
GENERATED = "#c1272d"

RC: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 11,
    "mathtext.fontset": "dejavusans",
    "axes.labelsize": 11,
    "axes.titlesize": 11,
    "axes.linewidth": 0.9,
    "axes.formatter.limits": (-4, 5),
    "axes.formatter.use_mathtext": True,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "xtick.direction": "in",
    "ytick.direction": "in",
    "xtick.top": True,
    "ytick.right": True,
    "xtick.minor.visible": True,
    "ytick.minor.visible": True,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "savefig.dpi": 130,
    "figure.constrained_layout.use": True,
    "figure.facecolor": "white",
}

LABELS = {
    "e_ratio": r"$E_\mathrm{tot}\,/\,E_\mathrm{inc}$",
    "incident_energy": r"$E_\mathrm{inc}$ [MeV]",
    "hits": "hit voxels per shower",
    "voxel_energy": "voxel energy [MeV]",
    "layer_energy": "layer energy [MeV]",
    "sparsity": "fraction of empty voxels",
    "centre_eta": r"centre in $\eta$ = $r\,\cos\alpha$ [mm]",
    "centre_phi": r"centre in $\varphi$ = $r\,\sin\alpha$ [mm]",
    "centre_r": r"centre in $r$ [mm]",
    "centre_x": r"centre in $x$ [mm]",
    "centre_y": r"centre in $y$ [mm]",
    "width_eta": r"width in $\eta$ [mm]",
    "width_phi": r"width in $\varphi$ [mm]",
    "width_r": r"width in $r$ [mm]",
    "width_x": r"width in $x$ [mm]",
    "width_y": r"width in $y$ [mm]",
}


def axis_label(observable: str) -> str:
    """Axis label with unit."""
    return LABELS.get(observable, observable)


def layer_title(layer: int | None) -> str:
    """``layer 7``, or nothing for a quantity of the whole shower."""
    return "" if layer is None else f"layer {layer}"


def new_figure(width: float, height: float) -> Figure:
    """An empty figure [inches] that belongs to no window and no global list."""
    return Figure(figsize=(width, height), layout="constrained")


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG, atomically; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    with rc_context(RC):
        figure.savefig(buffer, format="png", metadata={"Software": None})
    write_bytes(path, buffer.getvalue())
    return path
