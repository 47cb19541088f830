"""Bundles with post-processing: applied, part of the digest, checked, and taken off again."""

from __future__ import annotations

import json

import numpy as np
import pytest

from caloray.bundle import Bundle, verify_bundle
from caloray.calibration.rewrite import with_postprocess
from caloray.errors import BundleError, StorageError
from caloray.postprocess.renormalise import Renormalise
from caloray.postprocess.spectrum import SpectrumCorrection
from caloray.postprocess.steps import apply

SPECTRUM = SpectrumCorrection(
    threshold=20.0,
    largest=1e5,
    ceiling=1e6,
    nodes=(0.0, 0.5, 1.0),
    values=(0.0, 0.55, 1.02),
    slopes=(1.0, 0.9, 0.5),
    fitted_on={"reference": "ab"},
)
STEPS = (Renormalise(threshold=20.0), SPECTRUM)
ENERGIES = np.geomspace(2e3, 4e4, 8)


@pytest.fixture(scope="module")
def made(bundle_path, tmp_path_factory) -> Bundle:
    path = tmp_path_factory.mktemp("post") / "bundle"
    return with_postprocess(bundle_path, path, STEPS, {"from": "here"})


def test_every_shower_of_the_bundle_passes_the_steps(made, bundle_path, toy):
    plain = Bundle.load(bundle_path)
    assert made.file.postprocess == STEPS
    drawn = made.draw(ENERGIES, 3, 1)
    assert drawn.voxels.tobytes() == plain.sample_block(ENERGIES, 3, 1).tobytes()
    expected = apply(STEPS, drawn.voxels, drawn.layer_energies, toy.GEOMETRY)
    assert made.sample_block(ENERGIES, 3, 1).tobytes() == expected.tobytes()
    assert made.sample(ENERGIES, seed=3).voxels.shape == (8, 36)
    assert not np.array_equal(expected, drawn.voxels)


def test_a_short_block_is_the_beginning_of_a_whole_one(made):
    whole = made.sample_block(ENERGIES, 1, 0)
    for count in (1, 3, 7):
        assert made.sample_block(ENERGIES[:count], 1, 0).tobytes() == whole[:count].tobytes()


def test_the_digest_and_the_golden_sample_are_its_own(made, bundle_path, tmp_path):
    plain = Bundle.load(bundle_path)
    assert made.digest != plain.digest
    assert made.info == {"data": "toy", "postprocess": {"from": "here"}}
    assert verify_bundle(made.path).identical
    assert made.file.golden.sha256 != plain.file.golden.sha256
    other = with_postprocess(bundle_path, tmp_path / "other", STEPS[::-1])
    assert len({plain.digest, made.digest, other.digest}) == 3
    again = with_postprocess(bundle_path, tmp_path / "again", STEPS, {"from": "elsewhere"})
    assert again.digest == made.digest


def test_taking_the_steps_off_gives_the_same_bytes_as_before(made, bundle_path, toy, tmp_path):
    assert "postprocess" not in json.loads((bundle_path / "bundle.json").read_text())
    plain = with_postprocess(made.path, tmp_path / "plain", ())
    assert toy.content(plain.path) == toy.content(bundle_path)


def test_steps_replace_those_that_are_there(made, tmp_path):
    other = with_postprocess(made.path, tmp_path / "other", STEPS[:1])
    assert other.file.postprocess == STEPS[:1]
    assert other.info == {"data": "toy"}


def test_nothing_is_overwritten(made, bundle_path, toy):
    before = toy.content(made.path)
    with pytest.raises(StorageError, match="exists already"):
        with_postprocess(bundle_path, made.path, ())
    assert toy.content(made.path) == before
    assert [path.name for path in made.path.parent.iterdir()] == ["bundle"]


def edited(made, tmp_path, toy, change):
    import shutil

    copy = shutil.copytree(made.path, tmp_path / "copy")
    toy.edit(copy, change, seal=False)
    return copy


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "blur", "version": 1}, "step 1 is 'blur' 1"),
        (
            {"kind": "renormalise", "version": 9, "threshold": 1.0},
            "step 1 is 'renormalise' 9",
        ),
        ({"kind": "renormalise", "version": 1, "threshold": 1.0}, "differs from the sha256"),
        ({"kind": "renormalise", "version": 1, "threshold": -1.0}, "malformed"),
    ],
)
def test_steps_that_cannot_be_trusted_are_refused(made, tmp_path, toy, change, said):
    copy = edited(made, tmp_path, toy, lambda value: value["postprocess"].__setitem__(0, change))
    with pytest.raises(BundleError, match=said) as caught:
        Bundle.load(copy)
    assert "\n" not in caught.value.message


def test_steps_that_were_removed_by_hand_are_noticed(made, tmp_path, toy):
    copy = edited(made, tmp_path, toy, lambda value: value.pop("postprocess"))
    with pytest.raises(BundleError, match="differs from the sha256"):
        Bundle.load(copy)
