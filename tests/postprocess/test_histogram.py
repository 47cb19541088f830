"""The fine histogram against sorting all energies."""

from __future__ import annotations

import numpy as np
import pytest

from caloray.postprocess.histogram import FineSpectrum

RNG = np.random.default_rng(0)
ENERGIES = RNG.lognormal(0, 2.5, 20_000).astype(np.float32)


def filled(*parts, threshold=0.1) -> FineSpectrum:
    spectrum = FineSpectrum(threshold)
    for part in parts:
        spectrum.add(part)
    return spectrum


def test_counts_above_each_energy_are_those_of_the_sorted_energies():
    energies, above = filled(ENERGIES).above()
    lit = ENERGIES[np.float32(0.1) <= ENERGIES]
    assert above[0] == len(lit)
    assert above[-1] == 0
    assert (np.diff(above) < 0).all()
    assert (energies[0], energies[-1]) == (0.1, float(lit.max()))
    for energy, count in zip(energies[:-1:97], above[:-1:97], strict=True):
        assert np.count_nonzero(lit >= energy) == count
    assert np.diff(energies[: np.searchsorted(energies, 0.2)]).max() < 0.01


def test_order_pieces_and_merging_do_not_matter():
    whole = filled(ENERGIES)
    left, right = filled(ENERGIES[:777].reshape(7, 111)), filled(ENERGIES[:776:-1])
    left.merge(right)
    assert (left.total, left.largest) == (whole.total, whole.largest)
    for one, other in zip(left.above(), whole.above(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("threshold", [0.0, 0.1])
def test_what_is_no_energy_does_not_count(threshold):
    odd = np.array([0, -1, np.nan, np.inf, -np.inf, 1e-3, 2.0], dtype=np.float32)
    spectrum = filled(odd, threshold=threshold)
    assert spectrum.total == (2 if threshold == 0 else 1)
    assert spectrum.largest == 2.0
    assert filled(odd[:0]).total == 0
