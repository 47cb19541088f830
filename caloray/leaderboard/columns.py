"""What the leaderboard can show and sort by."""

from __future__ import annotations

__all__ = ["COLUMNS", "VIEWS", "Column", "View", "by_option"]

import difflib
from dataclasses import dataclass
from typing import Literal, get_args

from caloray.errors import ConfigError

View = Literal["quality", "speed", "shapes", "manifold"]
VIEWS: tuple[View, ...] = get_args(View)


@dataclass(frozen=True)
class Column:
    """One number of a model.

    Args:
        key: Column of the published files.
        label: Heading of the table.
        view: The table that it belongs to.
        better: "lower" or "higher".
        kind: "measured" (with an error), "count", "time" (ms) or "small" (separation powers).
    """

    key: str
    label: str
    view: View
    better: Literal["lower", "higher"] = "lower"
    kind: Literal["measured", "count", "time", "small"] = "measured"

    @property
    def option(self) -> str:
        """How the command line spells it."""
        return self.key.replace("_", "-")


COLUMNS = (
    Column("fpd", "FPD x1e3", "quality"),
    Column("kpd", "KPD x1e3", "quality"),
    Column("auc_low", "AUC low", "quality"),
    Column("auc_high", "AUC high", "quality"),
    Column("auc_resnet", "AUC ResNet", "quality"),
    Column("parameters_training", "train", "speed", kind="count"),
    Column("parameters_generation", "generate", "speed", kind="count"),
    Column("cpu_1", "CPU 1", "speed", kind="time"),
    Column("cpu_100", "CPU 100", "speed", kind="time"),
    Column("cpu_10000", "CPU 10k", "speed", kind="time"),
    Column("gpu_1", "GPU 1", "speed", kind="time"),
    Column("gpu_100", "GPU 100", "speed", kind="time"),
    Column("gpu_10000", "GPU 10k", "speed", kind="time"),
    Column("separation_e_total", "E_tot", "shapes", kind="small"),
    Column("separation_layer_energy", "E_lay", "shapes", kind="small"),
    Column("separation_voxel_energy", "voxel", "shapes", kind="small"),
    Column("separation_centre_eta", "c eta", "shapes", kind="small"),
    Column("separation_centre_phi", "c phi", "shapes", kind="small"),
    Column("separation_centre_r", "c r", "shapes", kind="small"),
    Column("separation_width_eta", "w eta", "shapes", kind="small"),
    Column("separation_width_r", "w r", "shapes", kind="small"),
    Column("separation_sparsity", "empty", "shapes", kind="small"),
    Column("precision", "precision", "manifold", "higher"),
    Column("recall", "recall", "manifold", "higher"),
    Column("density", "density", "manifold", "higher"),
    Column("coverage", "coverage", "manifold", "higher"),
    Column("log_posterior", "log-post", "manifold", "higher"),
    Column("log_posterior_resnet", "log-post ResNet", "manifold", "higher"),
)


def by_option(option: str) -> Column:
    """The column that the command line calls ``option``.

    Raises:
        ConfigError: There is none.
    """
    known = [column.option for column in COLUMNS]
    if option not in known:
        close = difflib.get_close_matches(option, known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
        raise ConfigError(f"no column {option!r} to sort by", hint=hint)
    return COLUMNS[known.index(option)]
