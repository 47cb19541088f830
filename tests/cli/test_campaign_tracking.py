"""What MLflow hears of a campaign: the drift that stops it, nothing secret; and what happens without it."""

from __future__ import annotations

import importlib.util
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from caloray.cli import main
from caloray.io.manifest import Manifest
from caloray.quality.build import ReferenceBuilder
from caloray.quality.layout import Layout
from caloray.showers import Showers

STUB = Path(__file__).parents[1] / "generation/stub_model.py"
N = 800
NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The stub model, with a reference of its own showers; every bundle path loads it."""
    spec = importlib.util.spec_from_file_location("stub_model", STUB)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    stub = module.StubModel
    builder = ReferenceBuilder(stub.geometry, Layout(energies=stub.energy_range, block_size=stub.block_size))
    energies = np.exp(np.random.default_rng(0).uniform(*np.log(stub.energy_range), (150, 8)))
    for block, some in enumerate(energies):
        builder.add(Showers(some, stub().sample_block(some, 99, block), np.arange(8) + 8 * block))
    monkeypatch.setattr(stub, "quality", replace(builder.build(), digest="d" * 64))
    monkeypatch.setattr("caloray.distributed.produce.Bundle", stub)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr("caloray.tracking.background._LONG_PATIENCE", 600.0)
    return stub


@pytest.fixture
def campaign(model: Any, tmp_path: Path) -> Path:
    """A campaign of 800 showers in four shards, tracked in its own directory."""
    value = {
        "name": "toy",
        "bundle": "bundle",
        "output": str(tmp_path / "out"),
        "seed": 7,
        "particles": {"kind": "spectrum", "n": N},
        "rows_per_shard": 200,
        "quality": {"min_showers": 200},
        "workers": {"count": 0},
    }
    (tmp_path / "campaign.yaml").write_text(yaml.safe_dump(value))
    return tmp_path / "campaign.yaml"


def halved(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the model's showers lose half of their energy."""
    whole = model.sample_block
    monkeypatch.setattr(model, "sample_block", lambda *request: whole(*request) / 2)


def test_the_drift_that_stops_a_campaign_is_in_mlflow(
    campaign: Path, model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    halved(model, monkeypatch)
    assert main(["produce", str(campaign), "--set", "quality.on_drift=stop"]) == 70
    out = tmp_path / "out"
    client = mlflow.tracking.MlflowClient(f"sqlite:///{out.resolve() / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("caloray")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FAILED"
    made = len(list((out / "receipts").iterdir()))
    assert (run.data.metrics["shards"], run.data.metrics["showers"]) == (made, 200 * made)
    drifts = {name: value for name, value in run.data.metrics.items() if name.startswith("drift_")}
    assert max(abs(value) for value in drifts.values()) > 0.25
    assert {item.path for item in client.list_artifacts(run.info.run_id)} == {"quality.json"}


def test_a_server_that_is_away_costs_one_warning(campaign: Path, tmp_path: Path, caplog: Any) -> None:
    with caplog.at_level(logging.WARNING):
        assert main(["produce", str(campaign), "--set", f"tracking.uri={NOBODY}"]) == 0
    assert Manifest.load(tmp_path / "out").rows() == N
    assert [record.getMessage() for record in caplog.records if "does not answer" in record.getMessage()]
    assert "Retrying" not in caplog.text
    assert len([record for record in caplog.records if record.name.startswith("caloray")]) == 1


def test_nothing_tells_the_password_of_the_server(
    campaign: Path, tmp_path: Path, capsys: Any, caplog: Any
) -> None:
    uri = NOBODY.replace("//", "//me:hunter2@")
    with caplog.at_level(logging.DEBUG, logger="caloray"):
        assert main(["produce", str(campaign), "--set", f"tracking.uri={uri}"]) == 0
    captured = capsys.readouterr()
    assert "hunter2" not in captured.out + captured.err + caplog.text
    for path in (tmp_path / "out").rglob("*"):
        assert not path.is_file() or b"hunter2" not in path.read_bytes(), path
    assert (tmp_path / "out" / "campaign.json").is_file()
