"""Kolmogorov-Smirnov test of the incident energies."""

from __future__ import annotations

import numpy as np
import pytest

from caloray.evaluation.incident import compare_spectra


def test_same_energies_in_another_precision() -> None:
    energies = np.sort(np.random.default_rng(0).uniform(1e3, 5e4, 500))
    found = compare_spectra(energies, energies.astype(np.float32).astype(float))
    assert found.identical
    assert found.distance == 0
    assert found.warning is None
    assert compare_spectra(energies, np.repeat(energies, 3)).identical
    assert not compare_spectra(energies, np.sort(energies * 1.01)).identical


def test_distance_and_probability() -> None:
    # Two samples of two: cumulative curves differ by one half; asymptotic formula with its size correction.
    found = compare_spectra(np.array([1.0, 3.0]), np.array([2.0, 4.0]))
    assert found.distance == 0.5
    rng = np.random.default_rng(0)
    levels = [
        compare_spectra(np.sort(rng.random(300)), np.sort(rng.random(200))).probability for _ in range(400)
    ]
    assert np.mean(np.array(levels) < 0.1) == pytest.approx(0.1, abs=0.05)
    assert np.mean(levels) == pytest.approx(0.5, abs=0.06)


def test_different_spectra_are_warned_of() -> None:
    rng = np.random.default_rng(0)
    found = compare_spectra(np.sort(rng.uniform(1, 50, 500)), np.sort(rng.uniform(1, 30, 500)))
    assert found.warning is not None
    assert f"KS distance {found.distance:.4f}" in found.warning
