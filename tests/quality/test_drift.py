"""Honest productions of any spectrum pass; faults that a production may have do not."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from caloray.errors import DataError
from caloray.quality.counts import QualityCounts
from caloray.quality.drift import drift
from caloray.showers import Showers

N = 4000


@pytest.fixture(scope="module")
def sample(plain):
    """An honest production."""
    return plain.showers(N, seed=5)


@pytest.fixture(scope="module")
def judge(plain, reference, count):
    """The report on showers of the plain model."""
    return lambda showers: drift(count(showers, reference(plain)), reference(plain))


def names(report) -> set[str]:
    return {row.observable for row in report.drifted}


def test_the_same_spectrum_passes(judge, sample):
    report = judge(sample)
    assert report.verdict == "ok"
    assert not report.drifted
    assert {row.verdict for row in report.rows} == {"ok"}
    assert max(row.significance for row in report.rows) < 5
    assert report.lines() == [report.lines()[0]]
    assert "no drift in 4,000 showers against 6,000" in report.lines()[0]


@pytest.mark.parametrize("energy", [1e3, 1.3e3, 5e3, 2e4, 1e5])
def test_one_energy_passes(judge, plain, energy):
    report = judge(plain.make(np.full(N, energy), seed=7))
    assert report.verdict == "ok", report.lines()


def test_another_spectrum_passes(judge, plain):
    low, high = plain.layout().energies
    energies = np.random.default_rng(0).uniform(low, high, N)
    assert judge(plain.make(energies, seed=8)).verdict == "ok"
    two = np.where(np.arange(N) % 32 < 4, low, high)  # energies that go with the position in the block
    report = judge(plain.make(two, seed=9))
    assert report.verdict == "ok", report.lines()


@pytest.mark.parametrize(
    "angles", [{"theta": 0.0}, {"theta": 0.6, "phi": 2.0}, {"theta": 0.3}, {"phi": 0.5}], ids=str
)
def test_one_angle_passes(tilted, reference, count, angles):
    known = reference(tilted)
    report = drift(count(tilted.showers(N, seed=11, **angles), known), known)
    assert report.verdict == "ok", report.lines()


def test_directions_that_are_not_followed_are_seen(tilted, reference, count):
    showers, known = tilted.showers(N, seed=12), reference(tilted)
    turned = {name: np.roll(values, 1) for name, values in showers.conditions.items()}
    report = drift(count(replace(showers, conditions=turned), known), known)
    assert "theta" in {row.where.partition(", ")[2][:5] for row in report.rows} | {"theta"}
    assert {"centre x", "centre y"} <= names(report)


def test_all_energies_too_high(judge, sample):
    report = judge(replace(sample, voxels=sample.voxels * np.float32(1.05)))
    row = next(row for row in report.rows if row.observable == "response")
    assert row.verdict == "drift"
    assert row.drifted == row.places == 7
    assert row.shift == pytest.approx(0.05 * 0.8 / (0.8 * 0.018), rel=0.3)  # 5 % at 5e4 to 1e5 MeV


@pytest.mark.parametrize("layer", range(6))
def test_a_dead_layer(judge, sample, layer):
    voxels = sample.voxels.copy()
    voxels[:, 36 * layer : 36 * (layer + 1)] = 0
    report = judge(replace(sample, voxels=voxels))
    found = {row.observable: row for row in report.drifted}
    assert f"layer {layer}, " in found["layer shares"].where
    assert f"layer {layer}, " in found["layer hits"].where


@pytest.mark.parametrize("energy", [2.0, 2000.0])
def test_a_hot_voxel(judge, sample, energy):
    voxels = sample.voxels.copy()
    voxels[:, 41] = energy
    report = judge(replace(sample, voxels=voxels))
    row = next(row for row in report.drifted if row.observable == "voxel hits")
    assert row.where == "voxel 41 (layer 1), all showers"
    assert row.drifted == 1


def test_a_dead_voxel(judge, sample):
    voxels = sample.voxels.copy()
    voxels[:, 50] = 0
    row = next(row for row in judge(replace(sample, voxels=voxels)).drifted if row.observable == "voxel hits")
    assert row.where == "voxel 50 (layer 1), all showers"


def test_a_threshold_that_was_lost(judge, sample):
    voxels = np.where(sample.voxels == 0, np.float32(0.01), sample.voxels)
    report = judge(replace(sample, voxels=voxels))
    assert {"hits", "layer hits", "voxel spectrum", "voxel hits"} <= names(report)
    row = next(row for row in report.drifted if row.observable == "voxel spectrum")
    assert row.where.startswith("voxels of 0.00391 to 0.015625 MeV, ")


def test_layers_of_another_shower(judge, sample):
    """A component that takes no notice of what it is conditioned on."""
    layers = sample.voxels.reshape(N, 6, 36).copy()
    layers[:, 3:] = np.roll(layers[:, 3:], 1, axis=0)
    assert {"response", "depth"} <= names(judge(replace(sample, voxels=layers.reshape(N, -1))))


def test_layers_in_the_wrong_order(judge, sample):
    mirrored = sample.voxels.reshape(N, 6, 36)[:, ::-1].reshape(N, -1)
    assert {"depth", "layer shares", "layer hits"} <= names(judge(replace(sample, voxels=mirrored)))


def test_the_same_noise_for_all_showers(judge, plain):
    """Each shower differs, for energies differ, but none fluctuates."""
    one = replace(plain, stuck=True)
    energies = plain.spectrum(1000, seed=5)
    parts = [one.make(energies[i : i + 1], seed=1) for i in range(len(energies))]
    report = judge(Showers.concatenate([replace(part, ids=part.ids + i) for i, part in enumerate(parts)] * 3))
    assert {"response", "depth", "length", "repeats"} <= names(report)


def test_the_same_noise_in_every_block(judge, plain):
    report = judge(replace(plain, stuck=True).showers(N, seed=6))
    row = next(row for row in report.drifted if row.observable == "stuck noise")
    assert row.shift == pytest.approx(1.0, abs=0.2)
    assert report.drifted[0] == row


def test_showers_that_come_again(judge, sample):
    report = judge(sample.select(np.arange(N) % (N // 2)))
    assert names(report) == {"repeats"}
    assert report.drifted[0].shift == pytest.approx(0.5)
    assert judge(Showers.concatenate([sample, sample.select(slice(0, 4))])).verdict == "ok"


def test_too_few_showers_are_not_judged(plain, reference, count, sample):
    known = reference(plain)
    report = drift(count(sample.select(slice(0, 1999)), known), known)
    assert report.verdict == "too few"
    assert report.rows == ()
    assert report.metrics() == {}
    assert "1,999 showers" in report.lines()[0]
    assert drift(QualityCounts.none(known), known, min_showers=0).verdict == "too few"
    low = plain.make(np.full(50, 2e3), seed=1)
    assert drift(count(low, known), known, min_showers=50).verdict == "ok"


def test_the_tolerance_counts(plain, reference, count, sample):
    known = reference(plain)
    counts = count(replace(sample, voxels=sample.voxels * np.float32(1.01)), known)
    assert names(drift(counts, known, tolerance=0.25)) >= {"response"}
    assert drift(counts, known, tolerance=1.0).verdict == "ok"


def test_a_report_is_json_and_text(judge, sample):
    report = judge(replace(sample, voxels=sample.voxels * np.float32(1.05)))
    value = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert value["verdict"] == "drift"
    assert value["showers"] == N
    assert value["reference"] == "d" * 64
    assert {row["observable"] for row in value["rows"]} == set(report.metrics())
    assert report.lines()[1].startswith("  response: ")
    assert "observables drift in 4,000 showers" in report.lines()[0]


def test_counts_of_another_reference_are_not_compared(plain, reference, count, sample):
    other = replace(reference(plain), digest="e" * 64)
    with pytest.raises(DataError, match="cannot be added"):
        drift(count(sample, reference(plain)), other)
