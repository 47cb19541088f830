"""What a campaign would take, told without writing anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caloray.errors import StorageError
from caloray.generation.campaign import HIT_BYTES, ROW_BYTES, plan_campaign
from caloray.generation.forecast import Trial, _thinned, forecast, try_out
from caloray.generation.particle_sources import GridParticles


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


def test_what_is_there_already_takes_no_time(model: Any, campaigns: Any, tmp_path: Path) -> None:
    made = campaigns.make(model, tmp_path)
    for index in (0, 1, 4):
        (tmp_path / f"receipts/shard-0000{index}.json").unlink()
    trial = Trial(seconds=36.0, bytes=1000.0, device="cpu stub")
    found = forecast(made.plan, tmp_path, workers=50, trial=trial)
    assert (found.done, found.bytes) == (campaigns.N - 48, 48_000)
    assert found.worker_hours == pytest.approx(0.48)
    assert found.hours == pytest.approx(0.16)
    assert forecast(made.plan, tmp_path, 1, Trial(None, 1000.0, "cpu")).hours is None


def test_a_grid_is_thinned_over_its_whole_range() -> None:
    energies = tuple(float(e) for e in range(1000, 2001))
    angles = tuple(float(t) for t in range(0, 91, 5))
    grid = GridParticles(
        energies=energies, theta=angles, phi=(0.0, 90.0), conditions={"age": (1.0, 2.0, 3.0)}
    )
    few = _thinned(grid, 16)
    assert 1 <= few.rows <= 16
    assert (few.energies[0], few.energies[-1]) == (1000, 2000)
    assert set(few.theta or ()) <= set(angles)
    assert _thinned(GridParticles(energies=(1.0, 2.0), repeat=10**9), 16).shape == (2, 1, 1, 8)
    assert _thinned(GridParticles(energies=energies), 1).rows == 1


def test_no_place_for_temporary_files(
    model: Any, campaigns: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nowhere(**_: Any) -> Any:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr("tempfile.TemporaryDirectory", nowhere)
    with pytest.raises(StorageError, match="no folder for temporary files") as caught:
        try_out(campaigns.request(tmp_path / "out"), model, 100)
    assert "TMPDIR" in caught.value.hint


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
