"""What a campaign would take, told without writing anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caloray.generation.campaign import HIT_BYTES, ROW_BYTES, plan_campaign
from caloray.generation.forecast import Trial, forecast, try_out


def test_numbers_of_a_plan(model: Any, campaigns: Any, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    plan, _ = plan_campaign(campaigns.request(out), model, out, write=False)
    found = forecast(plan, out)
    assert found.bytes == int(campaigns.N * (ROW_BYTES + HIT_BYTES * model.hits_per_shower))
    assert found.fits
    assert (found.hours, found.worker_hours, found.trial) == (None, None, None)
    trial = Trial(seconds=36.0, bytes=1000.0, device="cpu stub")
    timed = forecast(plan, out, workers=4, trial=trial)
    assert timed.bytes == 1000 * campaigns.N
    assert timed.worker_hours == pytest.approx(1.0)
    assert timed.hours == pytest.approx(0.25)
    assert forecast(plan, out, workers=50, trial=trial).hours == pytest.approx(1 / 7)
    assert not out.exists()


@pytest.mark.parametrize("kind", ["spectrum", "short", "file", "grid"])
def test_blocks_are_tried_out_elsewhere(stub: Any, campaigns: Any, tmp_path: Path, kind: str) -> None:
    particles: dict[str, Any] = {
        "spectrum": campaigns.SPECTRUM,
        "short": campaigns.SPECTRUM | {"n": 3},
        "file": campaigns.listed(tmp_path / "list.csv", np.linspace(2e3, 4e4, 11)),
        "grid": {"kind": "grid", "energies": [2e3, 4e3, 8e3], "repeat": 1000},
    }[kind]
    before = sorted(tmp_path.rglob("*"))
    model = stub.StubModel()
    wanted = campaigns.request(tmp_path / "out", particles=particles)
    plan, _ = plan_campaign(wanted, model, tmp_path / "out", write=False)
    trial = try_out(wanted, model, plan.n)
    assert trial.seconds > 0
    assert trial.bytes > 0
    assert trial.device == "cpu stub"
    assert len(model.calls) <= 3
    assert sorted(tmp_path.rglob("*")) == before
