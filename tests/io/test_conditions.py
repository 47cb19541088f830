"""Directions and other scalars of the particle on their way from HDF5 to shards, stores and back."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest

from caloray.errors import DataError, IntegrityError
from caloray.geometry import load_geometry
from caloray.io.challenge import ChallengeFile, write_challenge
from caloray.io.ingest import IngestConfig, ingest
from caloray.io.manifest import Manifest
from caloray.io.particles import read_particles
from caloray.io.shards import ShardReader, ShardWriter, write_shard
from caloray.io.source import open_source
from caloray.io.store import LayerStore, LayerStoreBuilder
from caloray.showers import DIRECTION, Showers, apply_policy

GEOMETRY = load_geometry("ds1_photons")
UNITS = {"age": "ns"}


def directions(n: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    theta, phi = rng.uniform(0, 0.8, n), rng.uniform(0, 2 * np.pi, n)
    parts = np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)
    return dict(zip(DIRECTION, parts, strict=True))


def particles(n: int = 60, seed: int = 1) -> Showers:
    rng = np.random.default_rng(seed)
    voxels = (rng.random((n, GEOMETRY.n_voxels)) ** 8).astype(np.float32)
    conditions = {**directions(n, rng), "age": rng.uniform(1, 2, n)}
    energies = rng.uniform(1e3, 5e4, n).astype(np.float32)
    return Showers(energies, voxels, np.arange(n), conditions)


def same(found: dict, expected: dict) -> None:
    assert set(found) == set(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_challenge(tmp_path / "a.hdf5", GEOMETRY, [particles()], units=UNITS)
    return tmp_path / "a.hdf5"


def test_a_file_gives_back_what_was_written(file: Path) -> None:
    with h5py.File(file) as raw:
        assert raw["incident_directions"].shape == (60, 3)
        assert raw["incident_age"].shape == (60, 1)
        assert "incident_direction_x" not in raw
    with ChallengeFile.open(file) as opened:
        assert opened.conditions == {"age": "ns", **dict.fromkeys(DIRECTION, "1")}
        same(opened.read(7, 31).conditions, particles().select(slice(7, 31)).conditions)
    source = open_source(file)
    assert source.conditions["age"] == "ns"
    same(Showers.concatenate(list(source.chunks(17))).conditions, particles().conditions)


def test_showers_without_conditions_make_the_file_that_they_always_made(tmp_path: Path) -> None:
    showers = particles()
    plain = Showers(showers.incident_energies, showers.voxels, showers.ids)
    write_challenge(tmp_path / "a.hdf5", GEOMETRY, [plain], units=UNITS)
    with h5py.File(tmp_path / "a.hdf5") as raw:
        assert set(raw) == {"incident_energies", "showers"}
    write_shard(tmp_path / "a.parquet", plain, GEOMETRY)
    schema = pq.read_schema(tmp_path / "a.parquet")
    assert schema.names[:3] == ["event_id", "incident_energy", "layer_00"]
    assert set(schema.metadata) == {b"caloray.format", b"caloray.geometry", b"caloray.geometry_digest"}


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("incident_directions", np.zeros((60, 2)), r"a\.hdf5, incident_directions: shape \(60, 2\)"),
        (
            "incident_directions",
            np.zeros((59, 3)),
            r"incident_directions: shape \(59, 3\), expected \(60, 3\)",
        ),
        ("incident_age", np.zeros(59), r"a\.hdf5, incident_age: 59 rows, expected 60"),
        ("incident_Age", np.zeros(60), "'Age' cannot be the name of a condition"),
        ("incident_direction_x", np.zeros(60), "condition direction_x is in another dataset already"),
    ],
)
def test_datasets_that_do_not_fit_are_named(file: Path, name: str, values: np.ndarray, message: str) -> None:
    with h5py.File(file, "r+") as raw:
        raw.pop(name, None)
        raw[name] = values
    with pytest.raises(DataError, match=message):
        ChallengeFile.open(file)


def test_links_are_refused_and_words_are_no_condition(file: Path) -> None:
    with h5py.File(file, "r+") as raw:
        raw["incident_type"] = np.array([b"photon"] * 60)
        raw["incident_vertex"] = np.zeros((60, 4))
    with ChallengeFile.open(file) as opened:
        assert set(opened.conditions) == {"age", *DIRECTION}
    with h5py.File(file, "r+") as raw:
        raw["incident_other"] = h5py.ExternalLink("b.hdf5", "/x")
    with pytest.raises(DataError, match="incident_other: is a link to other data"):
        ChallengeFile.open(file)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "direction_x",
            2.0,
            r"f, rows 100 to 159: direction not of length 1 .*\(incident_directions\) in 1 row \(105\)",
        ),
        ("age", np.nan, r"f, rows 100 to 159: condition not finite \(age\) in 1 row \(105\)"),
        ("age", np.inf, r"condition not finite \(age\)"),
    ],
)
def test_rows_with_bad_conditions_are_rejected_or_dropped(name: str, value: float, message: str) -> None:
    showers = particles()
    showers.conditions[name][5] = value
    with pytest.raises(DataError, match=message):
        apply_policy(showers, GEOMETRY, max_ratio=np.inf, where="f", first_row=100)
    keep, found = apply_policy(showers, GEOMETRY, "drop", max_ratio=np.inf)
    assert np.flatnonzero(~keep).tolist() == [5]
    assert [item.count for item in found] == [1]


def test_a_direction_out_of_the_calorimeter_breaks_the_rule() -> None:
    showers = particles()
    showers.conditions["direction_z"][7] *= -1
    with pytest.raises(DataError, match=r"not into the calorimeter .* in 1 row \(7\)"):
        apply_policy(showers, GEOMETRY, max_ratio=np.inf, where="f")


def test_a_direction_may_be_as_exact_as_float32(tmp_path: Path) -> None:
    showers = particles()
    for name in DIRECTION:
        showers.conditions[name][:] = showers.conditions[name].astype(np.float32) * np.float32(1.0005)
    assert apply_policy(showers, GEOMETRY, max_ratio=np.inf)[0].all()


def test_shards_carry_conditions_whatever_the_pieces(tmp_path: Path) -> None:
    showers = particles()
    digest = write_shard(tmp_path / "a.parquet", showers, GEOMETRY, units=UNITS)
    units = {**dict.fromkeys(DIRECTION, "1"), "age": "ns"}
    with ShardWriter(tmp_path / "b.parquet", GEOMETRY, conditions=units) as writer:
        for start in range(0, 60, 13):
            writer.append(showers.select(slice(start, start + 13)))
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    assert len(digest) == 64
    with ShardReader(tmp_path / "a.parquet", GEOMETRY) as reader:
        assert reader.conditions == units
        same(reader.showers().conditions, showers.conditions)
        assert reader.read([0])[0].tolist() == list(range(60))


def test_a_shard_takes_no_showers_with_other_conditions(tmp_path: Path) -> None:
    showers = particles()
    plain = Showers(showers.incident_energies, showers.voxels, showers.ids)
    for kinds, rows in (({}, showers), ({"age": "ns"}, showers), ({"age": "ns"}, plain)):
        with (
            pytest.raises(DataError, match="showers with conditions"),
            ShardWriter(tmp_path / "a.parquet", GEOMETRY, conditions=kinds) as writer,
        ):
            writer.append(rows)
    assert not (tmp_path / "a.parquet").exists()
    with pytest.raises(DataError, match="do not join"):
        Showers.concatenate([showers, plain])
    with pytest.raises(DataError, match="conditions"):
        write_challenge(tmp_path / "a.hdf5", GEOMETRY, [showers] * 20 + [plain] * 20)


def test_altered_metadata_are_noticed(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.parquet", particles(), GEOMETRY)
    table = pq.read_table(tmp_path / "a.parquet")
    for text in ("{}", '[["age"]]', "[]", "[[1, 2]]", '[["age", "ns"]]', "no json"):
        meta = {**table.schema.metadata, b"caloray.conditions": text.encode()}
        pq.write_table(table.replace_schema_metadata(meta), tmp_path / "b.parquet", compression="zstd")
        with pytest.raises((DataError, IntegrityError), match=r"b\.parquet"):
            ShardReader(tmp_path / "b.parquet")


def test_ingested_shards_and_stores_hold_the_particles(file: Path, tmp_path: Path) -> None:
    manifest = ingest(IngestConfig(files=(file,), rows_per_shard=25), tmp_path / "out")
    assert manifest.sources[0]["conditions"]["age"] == "ns"
    paths = [tmp_path / "out" / entry.path for entry in manifest.shards]
    store = LayerStore.from_shards(paths, GEOMETRY, [0])
    assert store.nbytes > 4 * 8 * 60
    found = {float(e): float(store.conditions["age"][i]) for i, e in enumerate(store.incident_energies)}
    expected = particles()
    for energy, age in zip(expected.incident_energies, expected.conditions["age"], strict=True):
        assert found[float(energy)] == age
    assert Manifest.load(tmp_path / "out").digest == manifest.digest
    source = open_source(tmp_path / "out", "train")
    assert source.conditions["age"] == "ns"


def test_files_with_other_conditions_do_not_mix(file: Path, tmp_path: Path) -> None:
    write_challenge(tmp_path / "b.hdf5", GEOMETRY, [particles(seed=2)], units={"age": "s"})
    with pytest.raises(DataError, match=r"age \[s\].*but .*a\.hdf5 has age \[ns\]"):
        ingest(IngestConfig(files=(file, tmp_path / "b.hdf5")), tmp_path / "out")


def test_a_store_does_not_depend_on_the_order_of_arrival() -> None:
    showers = particles()
    stores = []
    for order in ([slice(0, 20), slice(20, 60)], [slice(20, 60), slice(0, 20)]):
        builder = LayerStoreBuilder(GEOMETRY, [0, 1])
        for part in map(showers.select, order):
            layers = [part.voxels[:, GEOMETRY.span(layer)] for layer in (0, 1)]
            builder.add_dense(part.ids, part.incident_energies, layers, part.conditions)
        stores.append(builder.build())
    same(stores[0].conditions, stores[1].conditions)
    same(stores[0].conditions, showers.conditions)
    builder = LayerStoreBuilder(GEOMETRY, [0])
    builder.add_dense(showers.ids, showers.incident_energies, [showers.voxels[:, GEOMETRY.span(0)]])
    with pytest.raises(DataError, match="those before have none"):
        builder.add_dense(
            showers.ids, showers.incident_energies, [showers.voxels[:, GEOMETRY.span(0)]], showers.conditions
        )


def test_lists_of_particles(file: Path, tmp_path: Path) -> None:
    found = read_particles(file)
    same(dict(found.conditions), particles().conditions)
    np.testing.assert_array_equal(found.energies, particles().incident_energies)
    text = tmp_path / "p.csv"
    text.write_text("# beam\nenergy, age, temperature\n1000, 1.5, 20 # first\n\n2e3 1.6 21\n")
    found = read_particles(text)
    assert found.energies.tolist() == [1e3, 2e3]
    assert {name: values.tolist() for name, values in found.conditions.items()} == {
        "age": [1.5, 1.6],
        "temperature": [20, 21],
    }
    text.write_text("1000\n2000\n")
    assert read_particles(text).conditions == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("energy,age\n1,2\n3\n", "line 3 is not 2 numbers: '3'"),
        ("energy,age\n1,x\n", "line 2, age: 'x' is not a number"),
        ("energy,age,age\n1,2,3\n", "named twice"),
        ("energy,age\n", "no particle"),
        ("age,length\n1,2\n", "no column 'energy', it has age, length"),
    ],
)
def test_lists_that_make_no_sense(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "p.txt").write_text(content)
    with pytest.raises(DataError, match=message):
        read_particles(tmp_path / "p.txt")
