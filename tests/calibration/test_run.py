"""`caloray model postprocess`: reference and bundle in, corrected bundle out; and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from caloray.bundle import Bundle, verify_bundle
from caloray.calibration.judge import Judgement
from caloray.cli import main
from caloray.generation.plan import make_plan
from caloray.generation.run import generate

FEW = ("-n", "400", "--threshold", "20")


def run(*words: object) -> int:
    return main(["model", "postprocess", *map(str, words)])


@pytest.fixture(scope="module")
def corrected(bundle_path, shards, tmp_path_factory):
    """A bundle corrected to the train split."""
    out = tmp_path_factory.mktemp("corrected") / "bundle"
    steps = "renormalise,spectrum,renormalise"
    assert run(bundle_path, "-o", out, "--reference", shards, "--steps", steps, *FEW) == 0
    return Bundle.load(out)


def test_the_bundle_carries_what_was_fitted(corrected, bundle_path, shards):
    kinds = [step.kind for step in corrected.file.postprocess]
    assert kinds == ["renormalise", "spectrum", "renormalise"]
    assert all(step.threshold == 20 for step in corrected.file.postprocess)
    facts = corrected.file.postprocess[1].fitted_on
    assert facts["bundle"] == Bundle.load(bundle_path).digest
    assert (facts["split"], facts["seed"], facts["reference_showers"]) == ("train", 0, 450)
    assert facts["generated_showers"] <= 300
    assert verify_bundle(corrected.path).identical


def test_the_judgement_on_held_out_showers_is_recorded(corrected):
    held_out = corrected.info["postprocess"]["held_out"]
    assert 0 < held_out["floor"] < held_out["before"]
    assert held_out["reference_showers"] == 150
    assert held_out["generated_showers"] + held_out["invalid"] == 100


def test_equal_requests_give_equal_bytes(corrected, toy, bundle_path, shards, tmp_path):
    steps = "renormalise,spectrum,renormalise"
    assert run(bundle_path, "-o", tmp_path / "b", "--reference", shards, "--steps", steps, *FEW) == 0
    assert toy.content(tmp_path / "b") == toy.content(corrected.path)


def test_it_says_before_after_and_floor(bundle_path, shards, tmp_path, capsys):
    words = ("--reference", shards, "--split", "validation", "--steps", "spectrum", *FEW)
    assert run(bundle_path, "-o", tmp_path / "a", *words) == 0
    text = capsys.readouterr().out
    assert "before" in text
    assert "after" in text
    assert "floor" in text
    assert "took no part in the fit" in text
    assert "spectrum 1" in text
    assert run(bundle_path, "-o", tmp_path / "b", *words, "--json") == 0
    record = json.loads(capsys.readouterr().out)
    assert record["steps"][0]["fitted_on"]["split"] == "validation"
    assert set(record["held_out"]) >= {"before", "after", "floor", "spread"}
    assert record["digest"] == Bundle.load(tmp_path / "a").digest


def test_inspect_names_the_steps(corrected, bundle_path, capsys):
    assert main(["model", "inspect", str(corrected.path)]) == 0
    assert "renormalise, spectrum, renormalise" in capsys.readouterr().out


def test_renormalise_alone_needs_no_showers(bundle_path, tmp_path, capsys):
    out = tmp_path / "b"
    assert run(bundle_path, "-o", out, "--steps", "renormalise", "--threshold", 20) == 0
    assert Bundle.load(out).file.postprocess[0].kind == "renormalise"
    assert "floor" not in capsys.readouterr().out


def test_remove_gives_the_bundle_back(corrected, bundle_path, toy, tmp_path, capsys):
    assert run(corrected.path, "-o", tmp_path / "plain", "--remove") == 0
    assert "without post-processing" in capsys.readouterr().out
    assert toy.content(tmp_path / "plain") == toy.content(bundle_path)
    assert run(corrected.path, "-o", tmp_path / "again", "--remove", "--json") == 0
    assert json.loads(capsys.readouterr().out)["steps"] == []


@pytest.fixture(scope="module")
def stored(bundle_path, tmp_path_factory) -> Path:
    """Showers of the bundle that were made before."""
    bundle = Bundle.load(bundle_path)
    folder = tmp_path_factory.mktemp("stored") / "showers"
    generate(bundle, make_plan(bundle, 400, 5, on_invalid="resample"), folder)
    return folder


def test_stored_showers_do_as_well(bundle_path, shards, stored, tmp_path):
    words = ("--reference", shards, "--generated", stored, "--steps", "spectrum,renormalise", *FEW)
    assert run(bundle_path, "-o", tmp_path / "b", *words) == 0
    made = Bundle.load(tmp_path / "b")
    assert made.file.postprocess[0].fitted_on["generated_showers"] == 300
    held_out = made.info["postprocess"]["held_out"]
    assert held_out["after"] < held_out["before"]
    assert held_out["energy_after"] == pytest.approx(held_out["energy_before"], rel=0.05)


def refused(capsys, status, said, *words):
    assert run(*words) == status
    text = capsys.readouterr().err
    assert said in text
    assert text.startswith("error[CR-")
    assert "Traceback" not in text


def test_the_test_split_is_never_read(bundle_path, shards, tmp_path, capsys):
    words = (bundle_path, "-o", tmp_path / "b", "--reference", shards, *FEW)
    refused(capsys, 78, "train or the validation split only", *words, "--split", "test")
    assert not list(tmp_path.iterdir())
    copy = shutil.copytree(shards, tmp_path / "shards")
    (copy / "test" / "part-0.parquet").write_bytes(b"")
    assert run(bundle_path, "-o", tmp_path / "b", "--reference", copy, *FEW) == 0


def test_what_does_not_fit_together_is_refused(
    bundle_path, corrected, shards, stored, toy, write, tmp_path, capsys
):
    out = ("-o", tmp_path / "b")
    reference = ("--reference", shards)
    refused(capsys, 78, "give --reference", bundle_path, *out, *FEW)
    refused(capsys, 78, "no step 'blur'", bundle_path, *out, *reference, "--steps", "blur")
    refused(capsys, 78, "needs a readout threshold", bundle_path, *out, *reference)
    refused(capsys, 65, "no such file", bundle_path, *out, "--reference", tmp_path / "no", *FEW)
    refused(capsys, 78, "holds generated showers", bundle_path, *out, "--reference", stored, *FEW)
    spectrum = ("--generated", stored, "--steps", "spectrum", *FEW)
    refused(capsys, 78, "has post-processing", corrected.path, *out, *reference, *spectrum)
    words = (*reference, "--generated", stored, *FEW)
    refused(capsys, 78, "do not hold the sampled layer energies", bundle_path, *out, *words)
    other = toy.bundle(tmp_path / "other", seed=3)
    refused(capsys, 78, "made by bundle", other.path, *out, *reference, *spectrum)
    ragged = write(tmp_path / "r", {"train": toy.showers(50, geometry=toy.RAGGED)}, toy.RAGGED)
    refused(capsys, 65, "showers of readout ragged", bundle_path, *out, "--reference", ragged, *FEW)
    refused(capsys, 74, "exists already", bundle_path, "-o", corrected.path, *reference, *FEW)
    assert not (tmp_path / "b").exists()


def test_energies_beyond_the_trained_range_are_refused(bundle_path, toy, write, tmp_path, capsys):
    far = toy.showers(100)
    far.incident_energies[:] *= 100
    folder = write(tmp_path / "far", {"train": far}, toy.GEOMETRY)
    words = ("--reference", folder, *FEW)
    refused(capsys, 78, "outside the trained range", bundle_path, "-o", tmp_path / "b", *words)


def test_a_file_has_no_splits_and_that_is_said(bundle_path, tmp_path, capsys):
    sample = Path(__file__).parents[2] / "data" / "geant4_par04_ds2.hdf5"
    words = ("-o", tmp_path / "b", "--reference", sample, *FEW)
    refused(capsys, 65, "showers of readout", bundle_path, *words)


@pytest.mark.parametrize(
    ("before", "after", "moved"),
    [(1.0, 1.009, False), (1.0, 0.98, True), (0.9, 0.995, False), (0.98, 1.025, False), (0.98, 1.031, True)],
)
def test_a_mean_energy_that_is_moved_is_told(before, after, moved):
    judgement = Judgement(0.1, 0.1, 0.1, 0.1, 10, 10, 0, before, after)
    assert judgement.energy_is_moved is moved
