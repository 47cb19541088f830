"""Counts: the same however the showers are cut and ordered, and the same after a receipt has held them."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caloray.errors import DataError
from caloray.quality.counter import QualityCounter
from caloray.quality.counts import KEPT, QualityCounts, lowest
from caloray.quality.encoding import pack, unpack
from caloray.showers import Showers

SHOWERS = 120


@pytest.fixture(scope="module", params=["plain", "tilted"])
def case(request, reference):
    """A reference and showers of its model; some come twice, some are empty."""
    model = request.getfixturevalue(request.param)
    showers = model.showers(SHOWERS, seed=3)
    voxels = showers.voxels.copy()
    voxels[7] = 0
    known = reference(model)
    return known, Showers.concatenate(
        [replace(showers, voxels=voxels), showers.select(np.arange(0, SHOWERS, 9))]
    )


def same(a: QualityCounts, b: QualityCounts) -> bool:
    return json.dumps(a.to_json(), sort_keys=True) == json.dumps(b.to_json(), sort_keys=True)


@settings(max_examples=15)
@given(data=st.data())
def test_cuts_and_order_do_not_matter(case, count, data):
    known, showers = case
    order = data.draw(st.permutations(range(len(showers))))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(showers) - 1), max_size=12)))
    counter, parts = QualityCounter(known), []
    for begin, end in zip([0, *cuts], [*cuts, len(showers)], strict=True):
        piece = showers.select(np.array(order[begin:end]))
        counter.add(piece)
        parts.append(count(piece, known))
    shuffled = data.draw(st.permutations(parts))
    whole = count(showers, known)
    assert same(counter.counts, whole)
    assert same(QualityCounts.merged(shuffled, known), whole)


def test_one_shower_at_a_time_is_the_same(case, count):
    known, showers = case
    parts = (count(showers.select(slice(i, i + 1)), known) for i in range(len(showers)))
    assert same(QualityCounts.merged(parts, known), count(showers, known))


def test_a_receipt_gives_them_back(case, count):
    known, showers = case
    counts = count(showers, known)
    text = json.dumps(counts.to_json(), allow_nan=False)
    back = QualityCounts.from_json(json.loads(text), known)
    assert back.showers == len(showers)
    assert back.prints == counts.prints
    assert all(np.array_equal(back.arrays[key], values) for key, values in counts.arrays.items())
    assert same(back, counts)


def test_none_and_merged_of_nothing(case):
    known, showers = case
    assert same(QualityCounts.merged([], known), QualityCounts.none(known))
    counter = QualityCounter(known)
    counter.add(showers.select(slice(0, 0)))
    assert counter.counts.showers == 0
    assert same(counter.counts, QualityCounts.none(known))


def test_what_the_reference_does_not_know_is_left_out(case, count):
    known, showers = case
    energies, voxels = showers.incident_energies.copy(), showers.voxels.copy()
    energies[:3] = [10.0, 1e9, np.nan]
    voxels[3, 5], voxels[4, 5], voxels[5, :2] = np.nan, np.inf, 3e38
    counts = count(replace(showers, incident_energies=energies, voxels=voxels), known)
    assert counts.left_out == 6
    assert counts.showers == len(showers) - 6
    assert same(replace(counts, left_out=0), count(showers.select(slice(6, None)), known))
    assert QualityCounts.from_json(counts.to_json(), known).left_out == 6
    assert (counts + counts).left_out == 12


def test_other_showers_are_refused(case, count, tilted):
    known, showers = case
    with pytest.raises(DataError, match="10 voxels per shower"):
        count(replace(showers, voxels=showers.voxels[:, :10]), known)
    if known.layout == tilted.layout():
        with pytest.raises(DataError, match="without condition direction_x"):
            count(replace(showers, conditions={}), known)


def test_counts_of_another_reference_are_refused(case, count):
    known, showers = case
    counts = count(showers, known)
    other = replace(known, digest="e" * 64)
    with pytest.raises(DataError, match=r"reference dddd.*expected eeee"):
        QualityCounts.from_json(counts.to_json(), other)
    with pytest.raises(DataError, match="cannot be added"):
        QualityCounts.merged([counts], other)


@pytest.mark.parametrize(
    "change",
    [
        {"cells": "i8:AAAA"},
        {"cells": "f8:" + "A" * 8},
        {"cells": None},
        {"cells": pack(np.arange(5))},
        {"scalars": pack(np.zeros(10**7, dtype=np.int64))},
        {"voxels": "i1:no base64"},
        {"left_out": -1},
        {"left_out": "many"},
        {"times": pack(np.arange(1))},
        {"prints": pack(np.arange(10_000))},
    ],
    ids=str,
)
def test_damaged_counts_are_refused(case, count, change):
    known, showers = case
    value = count(showers, known).to_json() | change
    with pytest.raises(DataError, match="quality counts"):
        QualityCounts.from_json(value, known)


def test_what_is_no_counts_is_refused(case):
    with pytest.raises(DataError, match="quality counts against reference list"):
        QualityCounts.from_json([1, 2], case[0])


@given(
    values=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=40).map(lambda v: np.array(v, dtype=np.int64))
)
def test_packed_integers_come_back(values):
    assert np.array_equal(unpack(pack(values), values.shape, "test"), values)


@given(parts=st.lists(st.dictionaries(st.integers(1, 2000), st.integers(1, 3), max_size=400), max_size=4))
def test_lowest_fingerprints_are_exact(parts):
    everything: dict[int, int] = {}
    merged: dict[int, int] = {}
    for part in parts:
        for key, times in part.items():
            everything[key] = everything.get(key, 0) + times
        kept = lowest(dict(part))
        merged = lowest({key: merged.get(key, 0) + kept.get(key, 0) for key in merged | kept})
    assert merged == {key: everything[key] for key in sorted(everything)[:KEPT]}


def test_a_receipt_stays_small(count, tilted, reference):
    """As many numbers as for a readout of 40,500 voxels with directions, filled by 10,000 showers."""
    rng = np.random.default_rng(0)
    voxels = pack(rng.poisson(rng.exponential(800, 40_500)))
    scalars = pack(rng.poisson(np.tile(600 * np.exp(-(np.linspace(-6, 6, 50) ** 2) / 2) / 10, 18 * 11)))
    profiles = rng.normal(0, 2e4, (18, 118, 3)).astype(np.int64)
    rest = len(json.dumps(count(tilted.showers(2000), reference(tilted)).to_json()))
    assert len(voxels) + len(scalars) + len(pack(profiles)) + rest < 130_000
