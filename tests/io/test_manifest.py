"""The manifest: nothing unnoticed, nothing outside its directory."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caloray.atomic import digest_json, sha256_file
from caloray.errors import DataError, IntegrityError
from caloray.geometry import Geometry, Layer
from caloray.io import manifest as module
from caloray.io.manifest import MANIFEST, Manifest, ShardEntry, check_shard, verify_directory
from caloray.io.shards import write_shard
from caloray.showers import Showers

TOY = Geometry(
    "toy", "cylindrical", (Layer(0, (0.0, 1.0), (0.0, 1.0, 2.0)), Layer(1, (0.0, 1.0), (0.0, 1.0)))
)
OTHER = Geometry("other", "cylindrical", (Layer(0, (0.0, 1.0), (0.0, 1.0, 2.0, 3.0)),))


def entry(directory: Path, name: str, split: str, rows: int, geometry: Geometry = TOY) -> ShardEntry:
    voxels = np.full((rows, geometry.n_voxels), 2.5, np.float32)
    showers = Showers(np.full(rows, 100.0), voxels, np.arange(rows))
    sha256 = write_shard(directory / name, showers, geometry)
    return ShardEntry(name, rows, (directory / name).stat().st_size, sha256, split, {"file": "x", "start": 0})


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    here = tmp_path / "data"
    shards = (
        entry(here, "train/part-00000.parquet", "train", 8),
        entry(here, "train/part-00001.parquet", "train", 7),
        entry(here, "test/part-00000.parquet", "test", 3),
    )
    built(shards).save(here)
    return here


def built(shards: tuple[ShardEntry, ...], **more: Any) -> Manifest:
    return Manifest(
        kind="geant4",
        geometry=TOY.to_dict(),
        geometry_digest=TOY.digest,
        shards=shards,
        created={"caloray": "0.1", "request": "abc"},
        dropped={"nan": 2},
        sources=({"name": "a.hdf5", "attrs": {"cpu_s": 281.25}},),
        split={"fractions": {"train": 0.8}, "seed": 0},
        **more,
    )


def test_round_trip(directory: Path) -> None:
    found = Manifest.load(directory)
    assert found == built(found.shards)
    assert found.digest == built(found.shards).digest
    assert found.readout == TOY
    assert found.counts == {"train": 15, "test": 3}
    assert (found.rows(), found.rows("train"), len(found.of("test"))) == (18, 15, 1)
    assert found.sources[0]["attrs"]["cpu_s"] == 281.25
    assert found.verify(directory) == []
    before = (directory / MANIFEST).read_bytes()
    found.save(directory)
    assert (directory / MANIFEST).read_bytes() == before


def test_digest_says_everything(directory: Path) -> None:
    found = Manifest.load(directory)
    assert replace(found, dropped={}).digest != found.digest
    assert replace(found, shards=found.shards[:2]).digest != found.digest


def test_unknown_split(directory: Path) -> None:
    with pytest.raises(DataError, match=r"no split 'validation', only train, test"):
        Manifest.load(directory).of("validation")


# ------------------------------------------------------------------ damage


@pytest.mark.faults
def test_every_flipped_byte_of_the_manifest_is_noticed(directory: Path) -> None:
    path = directory / MANIFEST
    raw = path.read_bytes()
    for mask in (0xFF, 0x01, 0x20):
        for position in range(0, len(raw), 7):
            damaged = bytearray(raw)
            damaged[position] ^= mask
            path.write_bytes(damaged)
            with pytest.raises(IntegrityError, match=r"manifest\.json"):
                Manifest.load(directory)
            (problem,) = verify_directory(directory)
            assert problem.path == MANIFEST


@pytest.mark.faults
@pytest.mark.parametrize("number", [0, 1, 2])
def test_every_flipped_byte_of_a_shard_is_blamed_on_that_shard(directory: Path, number: int) -> None:
    manifest = Manifest.load(directory)
    path = directory / manifest.shards[number].path
    raw = path.read_bytes()
    for position in range(number, len(raw), 11):
        damaged = bytearray(raw)
        damaged[position] ^= 0x10
        path.write_bytes(damaged)
        (problem,) = manifest.verify(directory)
        assert (problem.path, problem.kind) == (manifest.shards[number].path, "sha256")
        assert manifest.shards[number].sha256 in problem.message
        assert sha256_file(path) in problem.message
    path.write_bytes(raw)
    assert manifest.verify(directory) == []


@pytest.mark.faults
def test_missing_and_truncated(directory: Path) -> None:
    manifest = Manifest.load(directory)
    (directory / "test/part-00000.parquet").unlink()
    path = directory / "train/part-00001.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    found = {problem.path: problem for problem in manifest.verify(directory)}
    assert found["test/part-00000.parquet"].kind == "missing"
    assert found["train/part-00001.parquet"].kind == "size"
    size = manifest.shards[1].bytes
    assert f"{size - 1} bytes, expected {size}" in found["train/part-00001.parquet"].message
    assert len(found) == 2


def test_wrong_rows_geometry_and_content(directory: Path) -> None:
    shards = Manifest.load(directory).shards
    (problem,) = check_shard(directory, replace(shards[0], rows=9), TOY.digest)
    assert (problem.kind, "8 rows, expected 9" in problem.message) == ("rows", True)
    alien = entry(directory, "train/part-00009.parquet", "train", 2, OTHER)
    (problem,) = check_shard(directory, alien, TOY.digest)
    assert problem.kind == "geometry"
    assert OTHER.digest in problem.message
    (directory / "train/part-00008.parquet").write_text("hello")
    path = directory / "train/part-00008.parquet"
    plain = ShardEntry("train/part-00008.parquet", 1, 5, sha256_file(path), "train")
    (problem,) = check_shard(directory, plain, TOY.digest)
    assert problem.kind == "unreadable"
    assert check_shard(directory, plain) == []  # hashes alone


def test_links_out_of_the_directory_are_refused(directory: Path, tmp_path: Path) -> None:
    manifest = Manifest.load(directory)
    path = directory / manifest.shards[0].path
    outside = tmp_path / "outside.parquet"
    path.rename(outside)
    path.symlink_to(outside)
    (problem,) = manifest.verify(directory)
    assert (problem.kind, problem.path) == ("unsafe", manifest.shards[0].path)


def test_the_directory_itself_may_be_a_link(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(directory)
    assert verify_directory(tmp_path / "link") == []


# ------------------------------------------------------------------ crafted manifests


def forge(directory: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the manifest and make its digest right again."""
    value = json.loads((directory / MANIFEST).read_bytes())
    change(value)
    value.pop("digest")
    value["digest"] = digest_json(value)
    (directory / MANIFEST).write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")


def shard_field(**fields: object) -> Callable[[dict[str, Any]], None]:
    return lambda value: value["shards"][0].update(fields)


def test_forging_works_at_all(directory: Path) -> None:
    forge(directory, lambda value: value["created"].update(request="def"))
    assert Manifest.load(directory).created["request"] == "def"


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd.parquet",
        "../a.parquet",
        "train/../../a.parquet",
        "a\\b.parquet",
        "a.pkl",
        "",
        "./a.parquet",
        "train//a.parquet",
        "a\nb.parquet",
        "a" * 300 + ".parquet",
        "~/a.parquet",
    ],
)
def test_unsafe_paths(directory: Path, path: str) -> None:
    forge(directory, shard_field(path=path))
    with pytest.raises(IntegrityError, match="unsafe shard path"):
        Manifest.load(directory)


CRAFTED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "rows negative": shard_field(rows=-1),
    "rows text": shard_field(rows="8"),
    "rows bool": shard_field(rows=True),
    "rows float": shard_field(rows=8.0),
    "bytes huge": shard_field(bytes=2**60),
    "sha256 short": shard_field(sha256="abc"),
    "split unknown": shard_field(split="holdout"),
    "source list": shard_field(source=[]),
    "path number": shard_field(path=3),
    "same path twice": shard_field(path="test/part-00000.parquet"),
    "extra field": shard_field(more=1),
    "kind unknown": lambda v: v.update(kind="milk"),
    "shards dict": lambda v: v.update(shards={}),
    "shard list": lambda v: v["shards"].append([]),
    "no geometry": lambda v: v.pop("geometry"),
    "geometry empty": lambda v: v.update(geometry={}),
    "geometry other": lambda v: v.update(geometry=OTHER.to_dict()),
    "dropped text": lambda v: v.update(dropped={"nan": "2"}),
    "sources text": lambda v: v.update(sources=["a"]),
    "counts wrong": lambda v: v["counts"].update(train=1),
    "unknown key": lambda v: v.update(surprise=1),
    "created list": lambda v: v.update(created=[]),
}


@pytest.mark.parametrize("name", CRAFTED)
def test_crafted_manifests_are_refused(directory: Path, name: str) -> None:
    forge(directory, CRAFTED[name])
    with pytest.raises(IntegrityError, match=r"manifest\.json: altered or malformed") as caught:
        Manifest.load(directory)
    assert "\n" not in caught.value.message


def test_newer_format(directory: Path) -> None:
    forge(directory, lambda value: value.update(format=2))
    with pytest.raises(IntegrityError, match="manifest format 2, this caloray reads up to 1"):
        Manifest.load(directory)


@pytest.mark.parametrize(
    "text", ["", "[]", "null", "{", "[" * 100_000, '{"format": NaN}', "\xff", "9" * 5000]
)
def test_other_json(directory: Path, text: str) -> None:
    (directory / MANIFEST).write_bytes(text.encode("latin-1"))
    with pytest.raises(IntegrityError, match=r"manifest\.json"):
        Manifest.load(directory)


def test_caps(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_SHARDS", 2)
    with pytest.raises(IntegrityError, match="3 shards, more than the 2 allowed"):
        Manifest.load(directory)
    monkeypatch.setattr(module, "MAX_BYTES", 10)
    with pytest.raises(IntegrityError, match="more than the 10 allowed"):
        Manifest.load(directory)


def test_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match=r"no manifest\.json, so not a complete directory"):
        Manifest.load(tmp_path)
    (tmp_path / MANIFEST).mkdir()
    assert [problem.kind for problem in verify_directory(tmp_path)] == ["manifest"]


def test_save_refuses_what_load_would(tmp_path: Path) -> None:
    bad = built((ShardEntry("../x.parquet", 1, 1, "0" * 64, "train"),))
    with pytest.raises(IntegrityError, match="unsafe shard path"):
        bad.save(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_unreadable_manifest(directory: Path) -> None:
    (directory / MANIFEST).chmod(0)
    with pytest.raises(IntegrityError, match=r"manifest\.json"):
        Manifest.load(directory)


def test_saving_the_same_again_leaves_the_file_alone(directory: Path) -> None:
    """Its age is what later steps compare their own results with."""
    file = directory / MANIFEST
    os.utime(file, (1, 1))
    Manifest.load(directory).save(directory)
    assert file.stat().st_mtime == 1
    replace(Manifest.load(directory), dropped={"nan": 1}).save(directory)
    assert file.stat().st_mtime > 1


def test_a_name_that_no_directory_can_have(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match=r"cannot be read \(File name too long\)") as refused:
        Manifest.load(tmp_path / ("n" * 300))
    assert "\n" not in str(refused.value)
