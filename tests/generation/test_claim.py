"""An output directory belongs to one plan, and what others left in it is not touched."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caloray.errors import ConfigError, IntegrityError, StorageError
from caloray.generation.campaign import plan_campaign
from caloray.generation.plan import make_plan
from caloray.generation.run import generate


def snapshot(directory: Path) -> dict[str, bytes | None]:
    return {str(p): p.read_bytes() if p.is_file() else None for p in sorted(directory.rglob("*"))}


@pytest.mark.parametrize(
    "name",
    [
        "notes.tmp",
        "old.tmp/thesis.txt",
        "shards/shard-00000.parquet",
        "receipts/mine.json",
        "workers/mine.json",
        "campaign.json",
        "particles.parquet",
        "history.jsonl",
        "manifest.json",
        "a.json.12-0123abcd.tmp/inside.txt",
    ],
)
@pytest.mark.parametrize("kind", ["campaign", "request", "dry"])
def test_the_files_of_others_are_not_touched(
    model: Any, tmp_path: Path, campaigns: Any, name: str, kind: str
) -> None:
    out = tmp_path / "out"
    (out / name).parent.mkdir(parents=True)
    (out / name).write_text("precious")
    before = snapshot(tmp_path)
    attempts = {
        "campaign": lambda: campaigns.make(model, out),
        "dry": lambda: plan_campaign(campaigns.request(out), model, out, write=False),
        "request": lambda: generate(model, make_plan(model, 20), out),
    }
    with pytest.raises(StorageError, match=r"holds other (files|shards) but no plan\.json") as caught:
        attempts[kind]()
    assert name.split("/", maxsplit=1)[0] in caught.value.message
    assert snapshot(tmp_path) == before


def test_what_an_early_end_leaves_is_no_obstacle(model: Any, tmp_path: Path, campaigns: Any) -> None:
    """Planned, described and tracked, and then killed."""
    out = tmp_path / "out"
    particles = campaigns.listed(tmp_path / "list.csv", np.full(20, 2e3))
    plan_campaign(campaigns.request(out, particles=particles), model, out)
    keys = ("name", "bundle", "output", "seed", "particles", "rows_per_shard", "workers", "tracking")
    (out / "campaign.json").write_text("{" + ", ".join(f'"{key}": 1' for key in keys) + "}")
    for name in ("tracking.json", "mlflow.db", "particles.parquet.77-0123abcd.tmp"):
        (out / name).write_text("{}")
    assert {path.name for path in out.iterdir()} > {".lock", "particles.parquet"}
    made = campaigns.make(model, out, particles=particles)
    assert made.manifest.rows() == 20
    assert not list(out.rglob("*.tmp"))


def test_only_what_was_left_half_written_is_removed(model: Any, tmp_path: Path, campaigns: Any) -> None:
    made = campaigns.make(model, tmp_path)
    stale = tmp_path / "shards" / "shard-00001.parquet.4711-0a1b2c3d.tmp"
    kept = [tmp_path / "my.tmp", tmp_path / "shards" / "thesis.tmp" / "chapter-1", tmp_path / "x.1-2.tmp"]
    for path in (stale, *kept):
        path.parent.mkdir(exist_ok=True)
        path.write_text("precious")
    assert campaigns.make(model, tmp_path).digest == made.digest
    assert not stale.exists()
    assert [path.read_text() for path in kept] == ["precious"] * 3


def test_the_shards_of_a_lost_plan_are_not_overwritten(model: Any, tmp_path: Path, campaigns: Any) -> None:
    campaigns.make(model, tmp_path)
    for name in ("plan.json", "manifest.json"):
        (tmp_path / name).unlink()
    before = snapshot(tmp_path)
    with pytest.raises(StorageError, match="holds other shards") as caught:
        campaigns.make(model, tmp_path, seed=8, particles=campaigns.SPECTRUM | {"n": 3})
    assert "put its plan.json back" in caught.value.hint
    assert snapshot(tmp_path) == before


def test_a_damaged_plan_is_told(model: Any, tmp_path: Path, campaigns: Any) -> None:
    campaigns.make(model, tmp_path)
    path = tmp_path / "plan.json"
    path.write_text(path.read_text().replace('"max_attempts": 10', '"max_attempts": 11'))
    with pytest.raises(IntegrityError, match="digest does not fit"):
        campaigns.make(model, tmp_path)


@pytest.mark.parametrize("place", ["file", "file/below", "file/far/below"])
def test_a_file_where_the_directory_should_be(model: Any, tmp_path: Path, campaigns: Any, place: str) -> None:
    (tmp_path / "file").write_text("mine")
    for write in (True, False):
        with pytest.raises(StorageError, match="is a file, not a directory"):
            plan_campaign(campaigns.request(tmp_path / place), model, tmp_path / place, write=write)


@pytest.fixture
def full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)


@pytest.mark.usefixtures("full_disk")
@pytest.mark.parametrize("kind", ["file", "first", "grid", "spectrum"])
def test_what_does_not_fit_leaves_no_list(model: Any, tmp_path: Path, campaigns: Any, kind: str) -> None:
    listed = campaigns.listed(tmp_path / "list.csv", np.full(60, 2e3))
    particles = {
        "file": listed,
        "first": listed | {"n": 50},
        "grid": {"kind": "grid", "energies": [2e3], "repeat": 60},
        "spectrum": campaigns.SPECTRUM,
    }[kind]
    out = tmp_path / "out"
    with pytest.raises(StorageError, match=r"need .* kB, have 1.00 kB free"):
        plan_campaign(campaigns.request(out, particles=particles), model, out)
    assert {path.name for path in out.rglob("*")} <= {".lock"}


@pytest.mark.parametrize("write", [True, False])
def test_absurd_grids_are_refused_unseen(
    model: Any, tmp_path: Path, campaigns: Any, monkeypatch: pytest.MonkeyPatch, write: bool
) -> None:
    def streamed(*_: Any, **__: Any) -> Any:
        raise AssertionError("its particles were looked at")

    monkeypatch.setattr("caloray.generation.particle_lists.stream_particles", streamed)
    grid = {"kind": "grid", "energies": [2e3], "repeat": 10**12}
    out = tmp_path / "out"
    with pytest.raises(ConfigError, match="a directory holds 150000 at most"):
        plan_campaign(campaigns.request(out, particles=grid), model, out, write=write)
    wide = campaigns.request(out, particles=grid | {"repeat": 10**13}, rows_per_shard=10**9)
    with pytest.raises(StorageError, match="need 1360000"):
        plan_campaign(wide, model, out, write=write)


def test_something_where_receipts_belong(model: Any, tmp_path: Path, campaigns: Any) -> None:
    made = campaigns.make(model, tmp_path)
    receipt = tmp_path / "receipts" / "shard-00002.json"
    receipt.unlink()
    receipt.mkdir()
    with pytest.raises(StorageError, match=r"shard-00002\.json: cannot be written"):
        generate(model, made.plan, tmp_path)
    shutil.rmtree(tmp_path / "receipts")
    (tmp_path / "receipts").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        generate(model, made.plan, tmp_path)


@pytest.mark.parametrize("name", ["a\0b", "n" * 300])
def test_names_that_no_directory_can_have(model: Any, tmp_path: Path, campaigns: Any, name: str) -> None:
    out = tmp_path / name
    with pytest.raises(StorageError, match="cannot be written"):
        plan_campaign(campaigns.request(out), model, out)
