"""Campaign files around a small run config, and made-up campaigns for the tests of summary and page."""

from __future__ import annotations

import copy
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from caloray.tuning.settings import TuneConfig, load_tuning

RUN: dict[str, Any] = {
    "name": "small",
    "seed": 5,
    "output": "runs/small",
    "data": {"files": ["none.hdf5"], "geometry": "ds2"},
    "scheme": {"kind": "inductive"},
    "training": {
        "layer_energies": {"epochs": 10, "schedule": {"kind": "onecycle"}},
        "first_layer": {"epochs": 10, "schedule": {"kind": "constant"}},
        "next_layer": {"epochs": 18, "schedule": {"kind": "onecycle", "max_lr": 1e-3}},
    },
}
TUNE: dict[str, Any] = {
    "name": "small",
    "config": "run.yaml",
    "output": "tuned",
    "components": ["next_layer"],
    "space": {"training.next_layer.schedule.max_lr": {"log_uniform": [1e-4, 1e-2]}},
    "search": {"kind": "random"},
    "budget": {"trials": 6},
    "objective": {"kind": "nll"},
}


@pytest.fixture(scope="session")
def made_up() -> Any:
    """The module ``toy_campaign``."""
    if "toy_campaign" not in sys.modules:
        path = Path(__file__).with_name("toy_campaign.py")
        spec = importlib.util.spec_from_file_location("toy_campaign", path)
        module = importlib.util.module_from_spec(spec)
        sys.modules["toy_campaign"] = module
        spec.loader.exec_module(module)
    return sys.modules["toy_campaign"]


@pytest.fixture
def campaign(tmp_path: Path) -> Callable[..., Path]:
    """Write a campaign's file: ``campaign(space={...}, run={"training.next_layer.epochs": 9})``."""

    def write(*, run: dict[str, Any] | None = None, **changes: Any) -> Path:
        config = copy.deepcopy(RUN)
        for name, value in (run or {}).items():
            inner = config
            *path, last = name.split(".")
            for key in path:
                inner = inner.setdefault(key, {})
            inner[last] = value
        (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
        file = copy.deepcopy(TUNE) | changes
        file["output"] = str(tmp_path / file["output"])
        (tmp_path / "tune.yaml").write_text(yaml.safe_dump(file, sort_keys=False))
        return tmp_path / "tune.yaml"

    return write


@pytest.fixture
def load(campaign: Callable[..., Path]) -> Callable[..., TuneConfig]:
    """The settings of such a campaign."""
    return lambda **changes: load_tuning(campaign(**changes))
