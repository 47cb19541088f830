"""How far a production is, and whether it is what it says."""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caloray.atomic import digest_json
from caloray.errors import IntegrityError, StorageError
from caloray.generation.campaign import plan_campaign
from caloray.generation.receipts import receipt_path
from caloray.generation.shard import make_shard
from caloray.generation.status import _End, _rate, read_status
from caloray.generation.verify import verify_production
from caloray.io.manifest import Manifest
from caloray.io.worker_notes import announced, forget, notes_of


@pytest.fixture(scope="module")
def finished(stub: Any, campaigns: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished campaign with skipped particles; to be read only."""
    folder = tmp_path_factory.mktemp("finished")
    energies = np.linspace(2e3, 4e4, 100)
    energies[::9] = 9e4
    particles = campaigns.listed(folder / "list.csv", energies)
    campaigns.make(stub.StubModel(), folder / "out", particles=particles, domain="skip")
    return Path(folder / "out")


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "copy"))


def test_a_finished_production(finished: Path) -> None:
    found = read_status(finished)
    assert (found.state, found.totals.shards, found.totals.planned) == ("finished", 7, 100)
    assert (found.totals.rows, found.totals.skipped) == (88, 12)
    assert found.rate is None
    assert found.seconds_left is None
    assert found.workers == ()


def test_a_production_under_way(model: Any, campaigns: Any, tmp_path: Path) -> None:
    plan, _ = plan_campaign(campaigns.request(tmp_path), model, tmp_path)
    with pytest.raises(StorageError, match=r"no plan\.json"):
        read_status(tmp_path)
    (tmp_path / "plan.json").write_text(
        json.dumps({"digest": plan.digest, "plan": plan.model_dump(mode="json")})
    )
    now = time.time()
    for index in range(3):
        make_shard(model, plan, index, tmp_path)
        os.utime(receipt_path(tmp_path, index), (now - 6 + 2 * index,) * 2)
    assert read_status(tmp_path).state == "stopped"
    with announced(tmp_path, "driver"), announced(tmp_path, "00003"):
        found = read_status(tmp_path)
        assert found.state == "running"
        assert found.driver is not None
        assert found.driver.pid == os.getpid()
        assert [note.name for note in found.workers] == ["00003"]
        assert found.rate == pytest.approx(48 / 4, rel=0.3)
        assert found.seconds_left == pytest.approx(52 / found.rate)
    assert notes_of(tmp_path) == []


def test_the_notes_of_the_dead_do_not_count(tmp_path: Path, model: Any, campaigns: Any) -> None:
    campaigns.make(model, tmp_path)
    notes = tmp_path / "workers"
    notes.mkdir(exist_ok=True)
    gone = {"host": socket.gethostname(), "pid": 2**22 + 1, "since": time.time()}
    reused = {"host": socket.gethostname(), "pid": os.getpid(), "since": 1.0}
    (notes / "driver.json").write_text(json.dumps(gone))
    (notes / "00001.json").write_text(json.dumps(reused))
    (notes / "00002.json").write_text('{"host": ')
    (notes / "00003.json").write_text(json.dumps(gone | {"host": "elsewhere"}))
    found = read_status(tmp_path)
    assert found.state == "finished"
    assert [(note.name, note.alive) for note in found.workers] == [("00003", None)]
    forget(tmp_path)
    assert not notes.exists()


def test_a_damaged_receipt_is_told(copy: Path) -> None:
    receipt_path(copy, 2).write_text("{}")
    found = read_status(copy)
    assert found.totals.shards == 6
    assert "shard-00002.json" in found.damaged[0]


@pytest.mark.parametrize("what", ["empty", "flipped", "gone", "other", "receipts"])
def test_a_destroyed_production_is_not_finished(copy: Path, what: str) -> None:
    manifest = copy / "manifest.json"
    match what:
        case "empty":
            manifest.write_text("{}")
        case "flipped":
            flip(manifest)
        case "gone":
            shutil.rmtree(copy / "shards")
            shutil.rmtree(copy / "receipts")
        case "other":
            value = Manifest.load(copy)
            replace(value, created=value.created | {"plan_digest": "0" * 64}).save(copy)
        case _:
            receipt_path(copy, 3).unlink()
    found = read_status(copy)
    assert found.state == "damaged"
    assert len(found.damaged) == 1


def test_the_rate_forgets_pauses_and_what_is_long_ago() -> None:
    now = time.time()
    steady = [_End(now - 20 + 2 * i, 16, 2.0) for i in range(10)]
    assert _rate(steady) == pytest.approx(8)
    earlier = [_End(now - 90_000 + 2 * i, 16, 2.0) for i in range(50)]
    assert _rate(earlier + steady) == pytest.approx(8)
    assert _rate(earlier) is None
    assert _rate(steady[:1]) == pytest.approx(8)
    assert _rate([]) is None


def test_the_rate_of_workers_that_go_in_step() -> None:
    now = time.time()
    pairs = [_End(now - 1000 + 500 * i + 0.01 * j, 100, 500.0) for i in range(3) for j in range(2)]
    assert _rate(pairs) == pytest.approx(0.4, rel=0.01)
    assert _rate(pairs[:2]) == pytest.approx(0.4, rel=0.01)


def test_all_is_well(finished: Path) -> None:
    seen: list[int] = []
    found = verify_production(finished, seen.append)
    assert found.problems == ()
    assert found.complete
    assert (found.shards, found.rows, found.skipped) == (7, 88, 12)
    assert sum(seen) == 88


def flip(path: Path, place: float = 0.5) -> None:
    content = bytearray(path.read_bytes())
    content[int((len(content) - 2) * place)] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["shards/shard-00003.parquet", "skipped.parquet", "particles.parquet"])
def test_a_flipped_byte_is_found(copy: Path, name: str) -> None:
    flip(copy / name)
    found = verify_production(copy)
    assert [problem.path for problem in found.problems] == [name]


@pytest.mark.parametrize("place", [0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
def test_a_flipped_byte_of_the_plan_is_found(copy: Path, place: float) -> None:
    flip(copy / "plan.json", place)
    with pytest.raises(IntegrityError, match="not a readable plan") as caught:
        verify_production(copy)
    assert caught.value.exit_code == 66


def test_a_flipped_byte_of_the_comparison_is_found(copy: Path) -> None:
    body = {"reference": "d" * 64, "counted": 88, "uncounted": 0, "settings": {}, "report": {"verdict": "ok"}}
    path = copy / "quality.json"
    path.write_text(json.dumps(body))
    assert verify_production(copy).problems == (), "as it was written before it told its digest"
    path.write_text(json.dumps(body | {"digest": digest_json(body)}))
    assert verify_production(copy).problems == ()
    whole = path.read_bytes()
    for place in range(0, len(whole), 3):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert verify_production(copy).problems[0].path == "quality.json", place


@pytest.mark.parametrize("name", ["shards/shard-00077.parquet", "receipts/shard-00077.json", "shards/x.tmp"])
def test_strays_are_found(copy: Path, name: str) -> None:
    (copy / "shards" / "shard-00001.parquet.12-0123abcd.tmp").write_text("being written")
    (copy / name).write_text("")
    found = verify_production(copy)
    assert [(problem.path, problem.kind) for problem in found.problems] == [(name, "stray")]


@pytest.mark.parametrize("name", ["shards/shard-00003.parquet", "receipts/shard-00003.json"])
def test_a_missing_file_is_found(copy: Path, name: str) -> None:
    (copy / name).unlink()
    found = verify_production(copy)
    assert [problem.path for problem in found.problems] == ["shards/shard-00003.parquet"]


def test_a_changed_manifest_or_receipt_is_found(copy: Path) -> None:
    receipt_path(copy, 1).write_text(receipt_path(copy, 1).read_text().replace('"rows": 14', '"rows": 15'))
    flip(copy / "manifest.json")
    problems = verify_production(copy).problems
    assert {problem.kind for problem in problems} == {"manifest", "receipt"}


def test_showers_that_are_there_twice_are_found(copy: Path) -> None:
    """A whole shard in the place of another, and every book changed to fit."""
    path = receipt_path(copy, 1)
    body = json.loads(path.read_text())["receipt"]
    donor = json.loads(receipt_path(copy, 2).read_text())["receipt"]
    shutil.copy(copy / donor["path"], copy / body["path"])
    body |= {name: donor[name] for name in ("sha256", "bytes", "rows", "skipped")}
    path.write_text(json.dumps({"digest": digest_json(body), "receipt": body}))
    (copy / "manifest.json").unlink()
    found = verify_production(copy)
    assert not found.complete
    assert [problem.kind for problem in found.problems] == ["ids"]


def test_an_unfinished_production_is_looked_at_as_far_as_it_is(copy: Path) -> None:
    (copy / "manifest.json").unlink()
    receipt_path(copy, 6).unlink()
    found = verify_production(copy)
    assert (found.complete, found.shards, found.problems) == (False, 6, ())
