"""How figures look: mplhep's style at page size, without touching matplotlib's global settings."""

from __future__ import annotations

__all__ = [
    "COLOURS",
    "DASHES",
    "GENERATED",
    "MARKERS",
    "RC",
    "REFERENCE",
    "REFERENCE_EDGE",
    "axis_label",
    "new_figure",
    "plain",
    "save",
    "title_of",
]

import io
from pathlib import Path
from typing import Any

import mplhep
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from caloray.atomic import write_bytes

REFERENCE = "#c8c8c8"
REFERENCE_EDGE = "#6e6e6e"
# A subset of the ten colours that Petroff (arXiv:2107.02270) found to be told apart with any colour vision.
COLOURS = ("#bd1f01", "#3f90da", "#832db6", "#e76300", "#a96b59", "#92dadd")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.2)), (0, (2, 1)), (0, (6, 1.2, 1, 1.2)), (0, (1, 1)), (0, (8, 2)))
MARKERS = ("o", "s", "^", "D", "v", "P")
GENERATED = COLOURS[0]
DPI = 120

# mplhep draws for a figure of 10 inches with one panel; these sizes fit pages with several panels.
RC: Any = {
    **mplhep.style.ROOT,
    "font.sans-serif": ["TeX Gyre Heros", "DejaVu Sans"],
    "font.size": 11,
    "mathtext.fallback": "stixsans",
    "axes.labelsize": 11,
    "axes.titlesize": 11,
    "axes.linewidth": 0.9,
    "axes.formatter.limits": (-4, 5),
    "axes.formatter.use_mathtext": True,
    "legend.fontsize": 9.5,
    "legend.handlelength": 1.8,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "xtick.major.size": 6,
    "xtick.minor.size": 3,
    "ytick.major.size": 6,
    "ytick.minor.size": 3,
    "xtick.major.pad": 4,
    "xaxis.labellocation": "right",
    "yaxis.labellocation": "top",
    "figure.facecolor": "white",
    "pdf.fonttype": 3,
}

AXES = {"eta": r"$\eta$", "phi": r"$\varphi$", "r": r"$r$", "x": r"$x$", "y": r"$y$"}

LABELS = {
    "e_ratio": r"$E_\mathrm{tot}\,/\,E_\mathrm{inc}$",
    "e_ratio_at": r"$E_\mathrm{tot}\,/\,E_\mathrm{inc}$",
    "incident_energy": r"$E_\mathrm{inc}$ [MeV]",
    "hits": "hit voxels per shower",
    "layer_hits": "hit voxels in the layer",
    "voxel_energy": "voxel energy [MeV]",
    "layer_energy": "layer energy [MeV]",
    "sparsity": "fraction of empty voxels",
    "depth_mean": "mean depth",
    "depth_width": "longitudinal width",
    "start": "first layer of the shower",
    "r50": "radius that holds 50% [mm]",
    "r90": "radius that holds 90% [mm]",
    "centre_eta": r"centre in $\eta$ = $r\,\cos\,\alpha$ [mm]",
    "centre_phi": r"centre in $\varphi$ = $r\,\sin\,\alpha$ [mm]",
    **{f"centre_{name}": f"centre in {AXES[name]} [mm]" for name in ("r", "x", "y")},
    **{f"width_{name}": f"width in {text} [mm]" for name, text in AXES.items()},
}

TITLES = {
    "e_ratio": r"$E_\mathrm{tot}/E_\mathrm{inc}$",
    "e_ratio_at": r"$E_\mathrm{tot}/E_\mathrm{inc}$ per $E_\mathrm{inc}$",
    "incident_energy": r"$E_\mathrm{inc}$",
    "hits": "hit voxels",
    "layer_hits": "hits per layer",
    "voxel_energy": "voxel energy",
    "layer_energy": "layer energies",
    "sparsity": "sparsity",
    "depth_mean": "mean depth",
    "depth_width": "depth width",
    "start": "start",
    "r50": r"$r_{50}$",
    "r90": r"$r_{90}$",
    **{f"centre_{name}": f"centres {text}" for name, text in AXES.items()},
    **{f"width_{name}": f"widths {text}" for name, text in AXES.items()},
}


def axis_label(observable: str, unit: str = "") -> str:
    """Axis label with unit."""
    label = LABELS.get(observable, plain(observable))
    return f"{label} [{unit}]" if unit else label


def title_of(observable: str) -> str:
    """Short title of an observable."""
    return TITLES.get(observable, plain(observable))


def plain(text: str) -> str:
    """Text that matplotlib shows as it is: no mathematics between dollar signs, one line, not endless."""
    short = " ".join(text.split())
    return (short if len(short) <= 48 else short[:45] + "...").replace("$", r"\$")


def new_figure(width: float, height: float) -> Figure:
    """An empty figure [inches] that belongs to no window and no global list."""
    layout = ConstrainedLayoutEngine(h_pad=0.022, w_pad=0.04)
    return Figure(figsize=(width, height), layout=layout, dpi=DPI)


def save(figure: Figure, path: Path) -> list[Path]:
    """Write a figure as PNG and PDF, atomically; the same figure gives the same bytes.

    The panels are laid out once, and each file takes one drawing (``Figure.savefig`` takes two).

    Args:
        figure: What to write.
        path: Without the ending.

    Returns:
        The two files.
    """
    png, pdf = io.BytesIO(), io.BytesIO()
    with rc_context(RC):
        canvas: Any = FigureCanvasAgg(figure)
        engine = figure.get_layout_engine()
        if engine is not None:
            engine.execute(figure)
            figure.set_layout_engine("none")
        canvas.print_png(png, metadata={"Software": None})
        canvas = FigureCanvasPdf(figure)
        canvas.print_pdf(pdf, metadata={"CreationDate": None, "Producer": None, "Creator": None})
    files = [path.with_name(f"{path.name}.{ending}") for ending in ("png", "pdf")]
    for file, buffer in zip(files, (png, pdf), strict=True):
        write_bytes(file, buffer.getvalue())
    return files
