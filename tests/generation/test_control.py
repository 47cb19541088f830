"""Quality control: counts of shards against a frozen reference, while they are made."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caloray.errors import NumericalError
from caloray.generation.campaign import plan_campaign
from caloray.generation.control import QualityControl, QualitySettings
from caloray.generation.run import generate
from caloray.quality.build import ReferenceBuilder
from caloray.quality.layout import Layout
from caloray.quality.reference import QualityReference
from caloray.showers import Showers

N = 1600


@pytest.fixture(scope="module")
def reference(stub: Any) -> QualityReference:
    """Of the stub model's own showers."""
    model = stub.StubModel()
    builder = ReferenceBuilder(
        model.geometry, Layout(energies=model.energy_range, block_size=model.block_size)
    )
    rng = np.random.default_rng(0)
    low, high = np.log(model.energy_range)
    for block in range(200):
        energies = np.exp(rng.uniform(low, high, 8))
        voxels = model.sample_block(energies, 99, block)
        builder.add(Showers(energies, voxels, np.arange(8) + 8 * block))
    return replace(builder.build(), digest="d" * 64)


def drifting(stub: Any) -> Any:
    """A model whose showers have half the energy that they should have."""

    class Drifting(stub.StubModel):  # type: ignore[misc]
        def sample_block(self, *request: Any) -> np.ndarray:
            return np.asarray(super().sample_block(*request) / 2)

    return Drifting()


def control(reference: QualityReference, directory: Path, **changes: Any) -> QualityControl:
    settings = QualitySettings.model_validate({"min_showers": 500, **changes})
    return QualityControl(reference, settings, directory)


def carry_out(campaigns: Any, model: Any, out: Path, watcher: Any, reference: Any) -> Any:
    spectrum = campaigns.SPECTRUM | {"n": N}
    plan, _ = plan_campaign(campaigns.request(out, particles=spectrum, rows_per_shard=400), model, out)
    return generate(model, plan, out, observer=watcher, reference=reference)


def test_a_good_production_is_said_to_be_good(
    stub: Any, campaigns: Any, reference: QualityReference, tmp_path: Path
) -> None:
    watcher = control(reference, tmp_path)
    manifest = carry_out(campaigns, stub.StubModel(), tmp_path, watcher, reference)
    quality = manifest.created["quality"]
    assert quality == {"verdict": "ok", "drifted": [], "showers": N, "reference": "d" * 64}
    written = json.loads((tmp_path / "quality.json").read_text())
    assert written["report"]["verdict"] == "ok"
    assert written["counted"] == N
    assert written["uncounted"] == 0
    assert watcher.metrics()


def test_drift_is_told_and_goes_on(
    stub: Any, campaigns: Any, reference: QualityReference, tmp_path: Path, caplog: Any
) -> None:
    with caplog.at_level(logging.WARNING, logger="caloray"):
        manifest = carry_out(campaigns, drifting(stub), tmp_path, control(reference, tmp_path), reference)
    assert manifest.created["quality"]["verdict"] == "drift"
    assert "observables drift" in caplog.text


def test_drift_stops_and_the_campaign_can_be_continued(
    stub: Any,
    campaigns: Any,
    reference: QualityReference,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("caloray.generation.control._LOOK_SHARE", 1e9)
    strict = control(reference, tmp_path, on_drift="stop")
    with pytest.raises(NumericalError, match="drifts from the bundle's reference in") as caught:
        carry_out(campaigns, drifting(stub), tmp_path, strict, reference)
    assert caught.value.exit_code == 70
    assert "--set quality.on_drift=warn" in caught.value.hint
    kept = len(list(tmp_path.glob("receipts/*.json")))
    assert 0 < kept < 4
    assert not (tmp_path / "manifest.json").exists()
    monkeypatch.setattr("caloray.generation.control._LOOK_SHARE", 1e-9)  # looks once, then hardly ever
    again = control(reference, tmp_path, on_drift="stop")
    with pytest.raises(NumericalError):
        carry_out(campaigns, drifting(stub), tmp_path, again, reference)
    assert len(list(tmp_path.glob("receipts/*.json"))) == kept
    lenient = control(reference, tmp_path)
    manifest = carry_out(campaigns, drifting(stub), tmp_path, lenient, reference)
    assert manifest.created["quality"]["verdict"] == "drift"


def test_shards_that_were_not_counted_are_left_out_and_told(
    stub: Any, campaigns: Any, reference: QualityReference, tmp_path: Path, caplog: Any
) -> None:
    carry_out(campaigns, stub.StubModel(), tmp_path, None, None)
    with caplog.at_level(logging.WARNING, logger="caloray"):
        manifest = carry_out(campaigns, stub.StubModel(), tmp_path, control(reference, tmp_path), reference)
    assert caplog.text.count("such shards are left out") == 1
    assert manifest.created["quality"]["verdict"] == "too few"
    assert json.loads((tmp_path / "quality.json").read_text())["uncounted"] == N
