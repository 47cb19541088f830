"""Campaigns: the engine of generation with identities, flags, policies and books."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pytest

from caloray.atomic import digest_json, sha256_file
from caloray.errors import ConfigError, IntegrityError, NumericalError, StorageError
from caloray.generation.campaign import plan_campaign
from caloray.generation.plan import GenerationPlan, make_plan, read_plan
from caloray.generation.receipts import read_receipt, receipt_path
from caloray.generation.run import finish, generate, produce
from caloray.generation.shard import make_shard
from caloray.io.particle_table import read_skipped


@pytest.fixture
def some_outside(tmp_path: Path, campaigns: Any) -> tuple[dict[str, Any], np.ndarray]:
    """A list of 40 particles, every fifth of them beyond the trained range, and which these are."""
    energies = np.linspace(2e3, 4e4, 40)
    energies[::5] = 9e4
    return campaigns.listed(tmp_path / "list.csv", energies), energies > 5e4


def test_a_campaign_makes_the_showers_of_a_plain_request(model: Any, tmp_path: Path, campaigns: Any) -> None:
    made = campaigns.make(model, tmp_path / "campaign", max_response=0)
    plain = generate(model, make_plan(model, campaigns.N, campaigns.SEED), tmp_path / "plain")
    assert made.digest == plain.created["content_digest"]
    assert [reader.layout for reader in made.readers()] == ["sparse"] * made.plan.n_shards
    dense = campaigns.make(model, tmp_path / "dense", max_response=0, format="dense")
    assert dense.digest == made.digest
    np.testing.assert_array_equal(dense.voxels(), made.voxels())
    assert dense.readers()[0].layout == "dense"


def test_every_shower_knows_its_particle(model: Any, tmp_path: Path, campaigns: Any) -> None:
    made = campaigns.make(model, tmp_path, likelihood=True)
    np.testing.assert_array_equal(made.ids(), np.arange(campaigns.N))
    np.testing.assert_array_equal(made.column("event"), made.ids())
    assert set(made.column("run")) == {3}
    assert set(made.column("pdg")) == {22}
    assert set(made.column("particle")) == {0}
    assert made.column("log_prob").dtype == np.float32
    np.testing.assert_allclose(made.column("log_prob"), -made.voxels().sum(axis=1, dtype=float), rtol=1e-6)
    assert "log_prob" not in campaigns.make(model, tmp_path / "without").readers()[0].extras


def test_the_identities_of_a_list_reach_the_showers(model: Any, tmp_path: Path, campaigns: Any) -> None:
    columns = {"run": np.full(20, 5), "event": np.arange(20) // 2 + 100, "particle": np.arange(20) % 2}
    particles = campaigns.listed(tmp_path / "list.csv", np.linspace(2e3, 4e4, 20), **columns)
    made = campaigns.make(model, tmp_path / "out", particles=particles)
    for name, values in columns.items():
        np.testing.assert_array_equal(made.column(name), values)
    assert made.plan.energies.kind == "table"


@pytest.mark.parametrize("rows_per_shard", [8, 24, 1000])
def test_the_layout_does_not_change_the_showers(
    model: Any, tmp_path: Path, campaigns: Any, rows_per_shard: int
) -> None:
    whole = campaigns.make(model, tmp_path / "whole")
    other = campaigns.make(model, tmp_path / "other", rows_per_shard=rows_per_shard)
    assert other.digest == whole.digest
    assert len(other.manifest.shards) == -(-campaigns.N // min(rows_per_shard, 104))


def test_a_longer_campaign_begins_with_the_shorter_one(model: Any, tmp_path: Path, campaigns: Any) -> None:
    few = campaigns.make(model, tmp_path / "few", particles=campaigns.SPECTRUM | {"n": 48})
    many = campaigns.make(model, tmp_path / "many")
    blocks = [r.blocks for i in range(3) if (r := read_receipt(many.directory, many.plan, i)) is not None]
    ours = [r.blocks for i in range(3) if (r := read_receipt(few.directory, few.plan, i)) is not None]
    assert ours == blocks
    np.testing.assert_array_equal(few.voxels(), many.voxels()[:48])


def test_single_showers_are_made_again(model: Any, tmp_path: Path, campaigns: Any) -> None:
    whole = campaigns.make(model, tmp_path / "whole")
    some = campaigns.make(model, tmp_path / "some", ids=[99, 12])
    np.testing.assert_array_equal(some.ids(), [12, 99])
    np.testing.assert_array_equal(some.voxels(), whole.voxels()[[12, 99]])
    np.testing.assert_array_equal(some.column("event"), [12, 99])
    assert whole.plan.command([12]) == "caloray produce CAMPAIGN.yaml --ids 12 --set output=repro"


def test_particles_outside_are_refused(
    model: Any, tmp_path: Path, campaigns: Any, some_outside: tuple[dict[str, Any], np.ndarray]
) -> None:
    particles, _ = some_outside
    with pytest.raises(ConfigError, match="8 "):
        campaigns.make(model, tmp_path / "out", particles=particles)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] in (
        ["list.csv"],
        ["list.csv", ".lock"],
    )


def test_particles_outside_are_flagged(
    model: Any, tmp_path: Path, campaigns: Any, some_outside: tuple[dict[str, Any], np.ndarray]
) -> None:
    particles, outside = some_outside
    made = campaigns.make(model, tmp_path / "out", particles=particles, domain="flag")
    np.testing.assert_array_equal(made.column("flags") & 1, outside)
    assert made.manifest.created["counts"]["flagged"] == outside.sum()
    assert not (made.directory / "skipped.parquet").exists()


def test_particles_outside_are_skipped_and_listed(
    model: Any, tmp_path: Path, campaigns: Any, some_outside: tuple[dict[str, Any], np.ndarray]
) -> None:
    particles, outside = some_outside
    flagged = campaigns.make(model, tmp_path / "flag", particles=particles, domain="flag")
    made = campaigns.make(model, tmp_path / "skip", particles=particles, domain="skip")
    np.testing.assert_array_equal(made.ids(), np.flatnonzero(~outside))
    np.testing.assert_array_equal(made.voxels(), flagged.voxels()[~outside])
    ids, rows, reasons = read_skipped(made.directory / "skipped.parquet")
    np.testing.assert_array_equal(ids, np.flatnonzero(outside))
    assert set(rows.energies) == {9e4}
    assert all("energy" in reason for reason in reasons)
    created = made.manifest.created
    assert created["counts"]["skipped"] == outside.sum() == created["skipped"]["rows"]
    assert created["skipped"]["sha256"] == sha256_file(made.directory / "skipped.parquet")
    assert made.manifest.rows() == (~outside).sum()


def test_a_shard_of_skipped_particles_is_empty(model: Any, tmp_path: Path, campaigns: Any) -> None:
    energies = np.full(40, 2e3)
    energies[16:32] = 9e4
    particles = campaigns.listed(tmp_path / "list.csv", energies)
    made = campaigns.make(model, tmp_path / "out", particles=particles, domain="skip")
    assert [entry.rows for entry in made.manifest.shards] == [16, 0, 8]
    assert 2 not in {block for block, _ in model.calls}
    assert made.manifest.verify(made.directory) == []


def test_too_large_showers_are_redrawn_marked_and_counted(model: Any, tmp_path: Path, campaigns: Any) -> None:
    plain = campaigns.make(model, tmp_path / "plain", max_response=0)
    with plain.readers()[0] as reader:
        showers = reader.showers()
    limit = float(np.sort(showers.voxels.sum(axis=1) / showers.incident_energies)[-3])
    made = campaigns.make(model, tmp_path / "cut", max_response=limit)
    assert made.plan.production.max_response == limit
    marked = made.column("flags") & 2 > 0
    assert marked[:16].sum() >= 2
    np.testing.assert_array_equal(marked, made.column("attempts") > 0)
    np.testing.assert_array_equal(made.voxels()[~marked], plain.voxels()[~marked])
    assert made.manifest.created["redraws"]["showers"] == marked.sum()
    assert made.manifest.created["counts"]["redrawn"] == marked.sum()


def test_the_limit_comes_from_the_training_split(model: Any, tmp_path: Path, campaigns: Any) -> None:
    plan, _ = plan_campaign(campaigns.request(tmp_path), model, tmp_path)
    assert plan.production.max_response == pytest.approx(1.5 * model.largest_response)


def test_a_redraw_that_never_helps_ends(stub: Any, tmp_path: Path, campaigns: Any) -> None:
    model = stub.StubModel({(3, 1): 10**6})
    with pytest.raises(NumericalError, match="invalid after 4 redraws") as caught:
        campaigns.make(model, tmp_path, max_attempts=4)
    assert "caloray produce CAMPAIGN.yaml --ids 25" in caught.value.hint
    assert [call for call in model.calls if call[0] == 3] == [(3, attempt) for attempt in range(5)]


def test_the_manifest_keeps_the_books(model: Any, tmp_path: Path, campaigns: Any) -> None:
    created = campaigns.make(model, tmp_path).manifest.created
    assert created["counts"] == dict.fromkeys(created["counts"], 0)
    assert created["devices"] == {"cpu": campaigns.N}
    parts = {"sample", "write", "sample_cpu", "write_cpu"}
    assert set(created["timing"]) == {"seconds", "showers_per_worker_second", *parts}
    assert created["plan"]["seed"] == campaigns.SEED
    assert created["plan"]["production"]["particles"] == {"kind": "spectrum", "run": 3, "pdg": 22}


def test_showers_without_energy_are_counted(stub: Any, tmp_path: Path, campaigns: Any) -> None:
    class Tired(stub.StubModel):  # type: ignore[misc]
        def sample_block(self, energies: np.ndarray, seed: int, block: int, *rest: Any) -> np.ndarray:
            voxels = np.array(super().sample_block(energies, seed, block, *rest))
            voxels[:2] *= block != 3
            return voxels

    made = campaigns.make(Tired(), tmp_path)
    assert made.manifest.created["counts"]["empty"] == 2
    path = receipt_path(tmp_path, 0)
    body = json.loads(path.read_text())["receipt"]
    assert body.pop("empty") == 0
    path.write_text(json.dumps({"digest": digest_json(body), "receipt": body}))
    assert "empty" not in finish(made.plan, tmp_path).created["counts"], "nobody counted in that shard"


def test_the_manifest_names_the_file_of_the_particles(model: Any, tmp_path: Path, campaigns: Any) -> None:
    particles = campaigns.listed(tmp_path / "list.csv", np.full(20, 2e3))
    made = campaigns.make(model, tmp_path / "out", particles=particles)
    source = {"name": "list.csv", "path": str(tmp_path / "list.csv"), "rows": 20}
    assert made.manifest.sources == (source | {"sha256": sha256_file(tmp_path / "list.csv")},)
    assert made.plan.identity() == read_plan(made.directory).identity()
    assert "sources" not in made.plan.identity()
    value = json.loads((made.directory / "plan.json").read_text())
    del value["plan"]["sources"]  # as before there were any
    (made.directory / "plan.json").write_text(json.dumps(value))
    assert campaigns.make(model, tmp_path / "out", particles=particles).manifest.sources == ()


def test_the_same_campaign_twice_makes_nothing_new(
    stub: Any, model: Any, tmp_path: Path, campaigns: Any
) -> None:
    first = campaigns.make(model, tmp_path)
    idle = stub.StubModel()
    assert campaigns.make(idle, tmp_path).manifest == first.manifest
    assert idle.calls == []


def test_another_campaign_is_refused_before_its_list_is_written(
    model: Any, tmp_path: Path, campaigns: Any
) -> None:
    out = tmp_path / "out"
    campaigns.make(model, out)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    particles = campaigns.listed(tmp_path / "list.csv", np.full(5, 2e3))
    for change in ({"seed": 8}, {"particles": particles}, {"likelihood": True}, {"format": "dense"}):
        with pytest.raises(StorageError, match=r"belongs to (a )?plan"):
            campaigns.make(model, out, **change)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_only_one_driver_works_on_a_campaign(model: Any, tmp_path: Path, campaigns: Any) -> None:
    with (
        filelock.FileLock(tmp_path / ".lock"),
        pytest.raises(StorageError, match="another caloray process"),
    ):
        campaigns.make(model, tmp_path)
    assert campaigns.make(model, tmp_path).manifest.rows() == campaigns.N


def test_plans_of_before_campaigns_keep_their_digest(model: Any) -> None:
    plan = make_plan(model, 100, 7, blocks_per_shard=2)
    assert set(plan.identity()) == {
        "format", "bundle_digest", "geometry", "n", "seed", "ids", "energies", "energy_range",
        "allow_extrapolation", "on_invalid", "max_attempts", "block_size", "blocks_per_shard",
    }  # fmt: skip
    assert plan.digest == digest_json(plan.identity())


def test_plans_are_read_again(model: Any, tmp_path: Path, campaigns: Any) -> None:
    made = campaigns.make(model, tmp_path)
    assert read_plan(tmp_path) == made.plan
    text = (tmp_path / "plan.json").read_text()
    (tmp_path / "plan.json").write_text(text.replace('"seed": 7', '"seed": 8'))
    with pytest.raises(IntegrityError, match="digest does not fit"):
        read_plan(tmp_path)
    (tmp_path / "plan.json").write_text('["plan", "digest"]')
    with pytest.raises(IntegrityError, match="it holds something else"):
        read_plan(tmp_path)
    with pytest.raises(StorageError, match=r"no plan\.json"):
        read_plan(tmp_path / "nowhere")


def test_receipts_of_before_campaigns_are_read(model: Any, tmp_path: Path) -> None:
    plan = make_plan(model, 20, 7)
    make_shard(model, plan, 0, tmp_path)
    path = receipt_path(tmp_path, 0)
    body = json.loads(path.read_text())["receipt"]
    for name in ("skipped", "flagged", "quality", "timing", "empty"):
        del body[name]
    path.write_text(json.dumps({"digest": digest_json(body), "receipt": body}))
    receipt = read_receipt(tmp_path, plan, 0)
    assert receipt is not None
    assert (receipt.skipped, receipt.flagged, receipt.quality, receipt.timing) == (0, 0, None, {})
    assert finish(plan, tmp_path).rows() == 20


class Watcher:
    """An observer that may have enough."""

    def __init__(self, patience: int = 10**6) -> None:
        self.seen: list[tuple[int, bool]] = []
        self.patience = patience

    def add(self, receipt: Any, /, *, new: bool) -> None:
        self.seen.append((receipt.index, new))
        if new and len(self.seen) > self.patience:
            raise NumericalError("enough")

    def caught_up(self) -> None:
        self.seen.append((-1, False))

    def facts(self) -> dict[str, Any]:
        return {"watched": len(self.seen)}


def test_observers_see_every_receipt_and_may_stop(model: Any, tmp_path: Path, campaigns: Any) -> None:
    plan, _ = plan_campaign(campaigns.request(tmp_path), model, tmp_path)
    closed = []

    def shards(todo: Any) -> Any:
        try:
            for index in todo:
                yield make_shard(model, plan, index, tmp_path)
        finally:
            closed.append(True)

    with pytest.raises(NumericalError, match="enough"):
        produce(plan, tmp_path, shards, observer=Watcher(2))
    assert closed == [True]
    watcher = Watcher()
    manifest = produce(plan, tmp_path, shards, observer=watcher)
    seen = [(0, False), (1, False), (2, False), (-1, False)]
    assert watcher.seen == [*seen, *((index, True) for index in range(3, plan.n_shards))]
    assert manifest.created["watched"] == plan.n_shards + 1


def test_more_shards_than_a_manifest_lists_are_refused(
    model: Any, tmp_path: Path, campaigns: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("caloray.generation.output.MOST_SHARDS", 3)
    with pytest.raises(ConfigError, match="7 shards") as caught:
        campaigns.make(model, tmp_path)
    assert "5 blocks or more (40 showers)" in caught.value.hint


def test_receipts_that_do_not_add_up_are_refused(model: Any, tmp_path: Path, campaigns: Any) -> None:
    made = campaigns.make(model, tmp_path)
    plan: GenerationPlan = made.plan
    path = receipt_path(tmp_path, 2)
    body = json.loads(path.read_text())["receipt"] | {"skipped": 1}
    path.write_text(json.dumps({"digest": digest_json(body), "receipt": body}))
    with pytest.raises(IntegrityError):
        finish(plan, tmp_path)
