from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caloray.atomic import digest_json, sha256_file
from caloray.errors import BundleError, IntegrityError
from caloray.generation.energies import Listed
from caloray.generation.output import open_output
from caloray.generation.plan import make_plan
from caloray.generation.receipts import read_receipt, receipt_path, worked_seconds
from caloray.generation.run import finish, generate, produce
from caloray.generation.shard import make_shard
from caloray.io.manifest import Manifest
from caloray.io.shards import ShardReader
from caloray.showers import Showers

Read = Callable[[Path], Showers]
N = 100  # 13 blocks of 8, the last one not full


def digest(manifest: Manifest) -> str:
    return str(manifest.created["content_digest"])


@pytest.mark.parametrize("blocks_per_shard", [1, 2, 3, 4])
def test_the_layout_does_not_change_the_showers(
    model: Any, tmp_path: Path, read_all: Read, blocks_per_shard: int
) -> None:
    whole = generate(model, make_plan(model, N, 7, blocks_per_shard=13), tmp_path / "one")
    assert len(whole.shards) == 1
    manifest = generate(model, make_plan(model, N, 7, blocks_per_shard=blocks_per_shard), tmp_path / "many")
    assert len(manifest.shards) == -(-13 // blocks_per_shard)
    assert digest(manifest) == digest(whole)
    one, many = read_all(tmp_path / "one"), read_all(tmp_path / "many")
    np.testing.assert_array_equal(many.ids, np.arange(N))
    np.testing.assert_array_equal(one.voxels, many.voxels)
    np.testing.assert_array_equal(one.incident_energies, many.incident_energies)


def test_shards_made_in_another_order_by_others_are_the_same(model: Any, stub: Any, tmp_path: Path) -> None:
    plan = make_plan(model, N, 7, blocks_per_shard=2)
    here = generate(model, plan, tmp_path / "here")
    elsewhere = produce(
        plan,
        tmp_path / "elsewhere",
        lambda todo: [make_shard(stub.StubModel(), plan, i, tmp_path / "elsewhere") for i in reversed(todo)],
    )
    assert elsewhere == here
    for name in ("manifest.json", *(shard.path for shard in here.shards)):
        assert sha256_file(tmp_path / "here" / name) == sha256_file(tmp_path / "elsewhere" / name)


def test_the_seed_changes_everything(model: Any, tmp_path: Path) -> None:
    one, other = (generate(model, make_plan(model, N, seed), tmp_path / str(seed)) for seed in (1, 2))
    assert digest(one) != digest(other)


@pytest.mark.parametrize("more", [101, 104, 131])
def test_asking_for_more_keeps_the_first_showers(
    model: Any, tmp_path: Path, read_all: Read, more: int
) -> None:
    generate(model, make_plan(model, N, 7), tmp_path / "n")
    generate(model, make_plan(model, more, 7, blocks_per_shard=3), tmp_path / "more")
    few, many = read_all(tmp_path / "n"), read_all(tmp_path / "more")
    np.testing.assert_array_equal(few.voxels, many.voxels[:N])
    np.testing.assert_array_equal(few.incident_energies, many.incident_energies[:N])


def test_single_showers_are_made_again_from_their_blocks(
    stub: Any, model: Any, tmp_path: Path, read_all: Read
) -> None:
    generate(model, make_plan(model, N, 7), tmp_path / "all")
    fresh = stub.StubModel()
    generate(fresh, make_plan(fresh, N, 7, ids=[99, 12, 13]), tmp_path / "some")
    whole, some = read_all(tmp_path / "all"), read_all(tmp_path / "some")
    assert some.ids.tolist() == [12, 13, 99]
    np.testing.assert_array_equal(some.voxels, whole.voxels[some.ids])
    np.testing.assert_array_equal(some.incident_energies, whole.incident_energies[some.ids])
    assert [block for block, _ in fresh.calls] == [1, 12]


def test_listed_energies_arrive_in_the_shards(model: Any, tmp_path: Path, read_all: Read) -> None:
    values = tuple(float(e) for e in np.linspace(1e3, 5e4, 21))
    generate(model, make_plan(model, energies=Listed(values=values)), tmp_path / "d")
    assert read_all(tmp_path / "d").incident_energies.tolist() == list(values)


def test_receipts_keep_the_books_of_the_layers(model: Any, tmp_path: Path) -> None:
    plan = make_plan(model, N, 7, blocks_per_shard=4)
    manifest = generate(model, plan, tmp_path)
    for index, entry in enumerate(manifest.shards):
        receipt = read_receipt(tmp_path, plan, index)
        assert receipt is not None
        with ShardReader(tmp_path / entry.path, plan.readout) as reader:
            showers = reader.showers()
        assert receipt.sha256 == entry.sha256 == sha256_file(tmp_path / entry.path)
        assert (receipt.first_id, receipt.last_id) == (showers.ids[0], showers.ids[-1])
        expected = showers.layer_energies(plan.readout).sum(axis=0)
        np.testing.assert_allclose(receipt.layer_energies, expected, rtol=1e-12)
        np.testing.assert_allclose(sum(receipt.layer_energies), showers.voxels.sum(dtype=float), rtol=1e-12)
    assert worked_seconds(tmp_path, plan) >= 0


def test_the_manifest_says_where_the_showers_came_from(model: Any, tmp_path: Path) -> None:
    plan = make_plan(model, N, 7, allow_extrapolation=True)
    manifest = generate(model, plan, tmp_path)
    assert Manifest.load(tmp_path) == manifest
    assert manifest.verify(tmp_path) == []
    assert manifest.kind == "generated"
    assert manifest.counts == {"generated": N}
    assert manifest.readout.digest == model.geometry.digest
    created = manifest.created
    assert created["bundle_digest"] == model.digest
    assert created["plan_digest"] == plan.digest
    assert created["plan"]["allow_extrapolation"] is True
    assert created["numerics"] == [dict(model.numerics)]
    assert json.loads((tmp_path / "plan.json").read_text())["digest"] == plan.digest


def test_redraws_are_counted_and_independent_of_the_layout(stub: Any, tmp_path: Path) -> None:
    bad = {(1, 2): 1, (5, 0): 3}
    made = []
    for k in (1, 13):
        model = stub.StubModel(bad)
        plan = make_plan(model, N, 7, blocks_per_shard=k, on_invalid="resample")
        made.append(generate(model, plan, tmp_path / str(k)))
    assert digest(made[0]) == digest(made[1])
    assert made[0].created["redraws"] == {"showers": 2, "draws": 4, "attempts": 3, "vetoed": 0}


def test_vetoes_are_in_receipts_and_manifest(stub: Any, tmp_path: Path) -> None:
    """Row i of a block was drawn i times too often: 3 blocks of 8 rows, the last with 4."""

    class Vetoing(stub.StubModel):  # type: ignore[misc]
        def vetoes(self, energies: np.ndarray, *_: object) -> np.ndarray:
            return np.arange(len(energies))

    plan = make_plan(Vetoing(), 20, 7, blocks_per_shard=2)
    manifest = generate(Vetoing(), plan, tmp_path)
    assert manifest.created["redraws"] == {"showers": 0, "draws": 0, "attempts": 0, "vetoed": 28 + 28 + 6}
    found = [read_receipt(tmp_path, plan, index) for index in range(2)]
    assert [receipt.redraws.vetoed for receipt in found if receipt is not None] == [56, 6]


def test_receipts_of_before_vetoes_were_counted_are_taken(model: Any, tmp_path: Path) -> None:
    plan = make_plan(model, N, 7)
    first = generate(model, plan, tmp_path)
    for index in range(plan.n_shards):
        path = receipt_path(tmp_path, index)
        body = json.loads(path.read_text())["receipt"]
        del body["redraws"]["vetoed"]
        path.write_text(json.dumps({"digest": digest_json(body), "receipt": body}))
    calls = len(model.calls)
    assert generate(model, plan, tmp_path) == first
    assert len(model.calls) == calls


def test_showers_are_streamed_not_collected(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No call ever holds more showers than one block, however large the shard."""
    sizes = []
    init = Showers.__post_init__

    def spy(self: Showers) -> None:
        init(self)
        sizes.append(len(self))

    monkeypatch.setattr(Showers, "__post_init__", spy)
    generate(model, make_plan(model, 400, 7, blocks_per_shard=50), tmp_path)
    assert max(sizes) == model.block_size


def test_progress_counts_every_shower_once(model: Any, tmp_path: Path) -> None:
    plan = make_plan(model, N, 7, blocks_per_shard=2)
    seen: list[int] = []
    generate(model, plan, tmp_path, seen.append)
    assert sum(seen) == N
    seen.clear()
    generate(model, plan, tmp_path, seen.append)
    assert seen == [N]


def test_a_finished_request_is_checked_but_not_made_again(stub: Any, model: Any, tmp_path: Path) -> None:
    plan = make_plan(model, N, 7)
    first = generate(model, plan, tmp_path)
    idle = stub.StubModel()
    assert generate(idle, plan, tmp_path) == first
    assert idle.calls == []


def test_another_model_cannot_make_shards_of_the_plan(stub: Any, model: Any, tmp_path: Path) -> None:
    plan = make_plan(model, N, 7)
    model.digest = "d" * 64
    with pytest.raises(BundleError, match="the plan was made for bundle bbbb"):
        generate(model, plan, tmp_path / "d")
    assert not (tmp_path / "d").exists()
    with pytest.raises(BundleError):
        make_shard(model, plan, 0, tmp_path / "d")


def test_finishing_without_all_receipts_is_refused(model: Any, tmp_path: Path) -> None:
    plan = make_plan(model, N, 7, blocks_per_shard=2)
    make_shard(model, plan, 0, tmp_path)
    with pytest.raises(IntegrityError, match="1 of 7 shards"):
        finish(plan, tmp_path)
    assert not (tmp_path / "manifest.json").exists()


@pytest.mark.parametrize(
    ("second", "consequence"),
    [("native-bf16 amx", "some showers are approximate"), ("torch", "last bits may differ")],
)
def test_a_production_by_two_backends_says_so(
    stub: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, second: str, consequence: str
) -> None:
    model, other = stub.StubModel(), stub.StubModel()
    other.numerics = {**model.numerics, "backend": second}
    plan = make_plan(model, N, 7, blocks_per_shard=2)
    with open_output(plan, tmp_path):
        make_shard(other, plan, 0, tmp_path)
    manifest = generate(model, plan, tmp_path)
    assert [machine["backend"] for machine in manifest.created["numerics"]] == sorted([second, "stub"])
    assert f"backend {' and '.join(sorted([second, 'stub']))}; {consequence}" in caplog.text
