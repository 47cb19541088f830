"""The frozen reference of a bundle: made once, kept, checked, and no part of what the bundle is called."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from caloray.bundle import Bundle, verify_bundle
from caloray.bundle_file import load_quality, read_bundle_file, write_quality_entry
from caloray.calibration import quality
from caloray.calibration.quality import FILE, freeze_reference
from caloray.calibration.rewrite import with_postprocess
from caloray.cli import main
from caloray.errors import BundleError, CaloRayError, StorageError
from caloray.quality.counter import QualityCounter
from caloray.quality.drift import drift

NUMBER = 1000


@pytest.fixture(scope="module")
def frozen(bundle_path, tmp_path_factory, silent):
    """A bundle of the toy model with a reference, to be read only."""
    path = tmp_path_factory.mktemp("quality") / "bundle"
    shutil.copytree(bundle_path, path)
    freeze_reference(path, NUMBER, 3, silent)
    return path


@pytest.fixture
def copy(frozen, tmp_path):
    """A copy of it, to be changed."""
    return shutil.copytree(frozen, tmp_path / "bundle")


@pytest.fixture
def quick(monkeypatch, toy):
    """Other showers in the place of those of the model, which take longer."""

    def draw(bundle, number, seed, builder, tell):
        showers = toy.showers(2 * number, seed)
        inside = bundle.file.statistics
        energies = showers.incident_energies
        rows = np.flatnonzero((energies > inside.min_incident) & (energies < inside.max_incident))
        builder.add(showers.select(rows[:number]))

    monkeypatch.setattr(quality, "_draw", draw)


def test_the_bundle_keeps_its_name(frozen, bundle_path):
    plain, made = Bundle.load(bundle_path), Bundle.load(frozen)
    assert made.digest == plain.digest
    entry = made.file.quality
    assert (entry.showers, entry.seed, entry.path) == (NUMBER, 3, FILE)
    assert entry.numerics == made.numerics
    assert entry.layout.energies == made.energy_range
    assert verify_bundle(frozen).identical
    assert plain.file.quality is None
    assert "quality" not in json.loads((bundle_path / "bundle.json").read_text())
    assert load_quality(bundle_path, plain.file) is None


def test_nothing_else_in_the_bundle_changes(frozen, bundle_path, toy):
    before, after = toy.content(bundle_path), toy.content(frozen)
    assert set(after) - set(before) == {FILE}
    assert {name for name in before if before[name] != after[name]} == {"bundle.json"}
    old, new = (json.loads(files["bundle.json"]) for files in (before, after))
    assert {key for key in new if new[key] != old.get(key)} == {"quality", "sha256"}


def test_honest_showers_of_the_bundle_pass(frozen):
    bundle = Bundle.load(frozen)
    known = load_quality(frozen, bundle.file)
    assert known.digest == bundle.file.quality.sha256
    counter = QualityCounter(known)
    energies = np.random.default_rng(0).uniform(*bundle.energy_range, 1200)
    counter.add(bundle.sample(energies, seed=9))
    report = drift(counter.counts, known, min_showers=1000)
    assert report.verdict == "ok", report.lines()


def test_it_is_frozen(copy, silent, toy, quick):
    before = toy.content(copy)
    with pytest.raises(StorageError, match="frozen"):
        freeze_reference(copy, NUMBER, 4, silent)
    assert toy.content(copy) == before
    entry = freeze_reference(copy, NUMBER, 4, silent, force=True)
    assert read_bundle_file(copy).quality == entry
    assert entry.seed == 4
    assert verify_bundle(copy).identical
    assert entry.sha256 != json.loads(before["bundle.json"])["quality"]["sha256"]
    assert freeze_reference(copy, NUMBER, 4, silent, force=True) == entry


@pytest.mark.parametrize("step", ["write_quality_entry", "save_file", "sha256_file"])
def test_stopped_in_between_the_bundle_is_whole(copy, silent, quick, monkeypatch, step):
    """Replacing a reference, whatever call fails: the bundle loads, and has a reference that fits or none."""

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(quality, step, fail)
        with pytest.raises(KeyboardInterrupt):
            freeze_reference(copy, NUMBER, 4, silent, force=True)
    assert verify_bundle(copy).identical
    found = load_quality(copy, read_bundle_file(copy))
    assert found is None or found.counts.showers == NUMBER
    freeze_reference(copy, NUMBER, 4, silent, force=True)
    assert verify_bundle(copy).identical


@pytest.mark.parametrize("offset", [0, 200, 10_000, -1])
def test_a_flipped_byte_is_noticed(copy, offset):
    data = bytearray((copy / FILE).read_bytes())
    data[offset] ^= 1
    (copy / FILE).write_bytes(data)
    with pytest.raises(BundleError, match=FILE):
        verify_bundle(copy)
    with pytest.raises(BundleError, match=FILE):
        load_quality(copy, read_bundle_file(copy))
    assert Bundle.load(copy).digest


def test_a_missing_or_foreign_reference_is_noticed(copy):
    entry = read_bundle_file(copy).quality
    (copy / FILE).unlink()
    with pytest.raises(BundleError, match="missing"):
        verify_bundle(copy)
    golden = read_bundle_file(copy).golden
    write_quality_entry(
        copy, entry.model_copy(update={k: getattr(golden, k) for k in ("path", "sha256", "bytes")})
    )
    with pytest.raises(BundleError, match=r"quality reference: .* is missing"):
        verify_bundle(copy)
    write_quality_entry(copy, None)
    assert verify_bundle(copy).identical


def test_a_bundle_with_other_post_processing_starts_without(frozen, tmp_path):
    made = with_postprocess(frozen, tmp_path / "other", ())
    assert made.file.quality is None
    assert not (made.path / FILE).exists()


def test_too_few_showers_leave_the_bundle_alone(bundle_copy, silent, toy, quick):
    before = toy.content(bundle_copy)
    with pytest.raises(CaloRayError, match="needs 1000"):
        freeze_reference(bundle_copy, 500, 0, silent)
    assert toy.content(bundle_copy) == before


def test_on_the_command_line(bundle_copy, capsys, quick):
    command = ["model", "reference", str(bundle_copy), "-n", str(NUMBER), "--seed", "3"]
    assert main(command) == 0
    assert "1,000 showers, seed 3" in capsys.readouterr().out
    assert main(command) == 74
    assert "--force" in capsys.readouterr().err
    assert main([*command, "--force", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["showers"] == NUMBER
    assert main(["model", "inspect", str(bundle_copy)]) == 0
    assert "1,000 showers, seed 3" in capsys.readouterr().out
