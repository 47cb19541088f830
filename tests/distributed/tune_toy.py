"""A tuning campaign around the toy run: trials of a second each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from caloray.tuning.ledger import Ledger
from caloray.tuning.settings import TuneConfig, load_tuning


def campaign(toy: Any, folder: Path, **changes: Any) -> Path:
    """A campaign file with its run config beside it; ``changes`` are sections of the campaign."""
    folder.mkdir(parents=True, exist_ok=True)
    run = toy.config(folder / "base", **changes.pop("run", {}))
    (folder / "run.yaml").write_text(yaml.safe_dump(run.model_dump(mode="json"), sort_keys=False))
    value = {
        "name": "toy-tune",
        "config": "run.yaml",
        "output": str(folder / "tune"),
        "components": ["first_layer"],
        "set": {"training.first_layer.epochs": 2},
        "space": {"training.first_layer.schedule.max_lr": {"log_uniform": [1e-4, 1e-2]}},
        "search": {"kind": "random"},
        "budget": {"trials": 3},
        "trial": {"cpus": 0.5, "concurrent": 2, "retries": 1},
        "objective": {"kind": "nll", "rows": 200},
        "confirm": None,
        "tracking": {"enabled": False},
        "cluster": {"num_cpus": 4, "object_store_gb": 0.3},
        **changes,
    }
    path = folder / "tune.yaml"
    path.write_text(yaml.safe_dump(value, sort_keys=False))
    return path


def settings(toy: Any, folder: Path, **changes: Any) -> TuneConfig:
    """The same, read."""
    return load_tuning(campaign(toy, folder, **changes))


def carry_out(settings: TuneConfig) -> Ledger:
    """The whole campaign, on the cluster that runs."""
    from caloray.distributed.session import connect
    from caloray.distributed.tune import run_tuning

    with connect(settings.cluster) as session:
        run_tuning(settings, session)
    return Ledger(settings.output)
