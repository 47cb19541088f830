"""Samples that are not what they seem are told of, honest ones are not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from caloray.evaluation.doubts import doubts
from caloray.evaluation.passes import PassSettings, reduce_reference
from caloray.evaluation.table import Table
from caloray.geometry import load_geometry
from caloray.showers import Showers

GEOMETRY = load_geometry("ds1_photons")
ENERGIES = np.geomspace(1e3, 1e5, 300)


@pytest.fixture
def table(source: Callable[..., Any]) -> Callable[[np.ndarray], Table]:
    def make(voxels: np.ndarray) -> Table:
        showers = Showers(ENERGIES[: len(voxels)], voxels, np.arange(len(voxels)))
        return reduce_reference(source(showers, GEOMETRY), PassSettings(0.0))[2]

    return make


def voxels(seed: int) -> np.ndarray:
    found = np.random.default_rng(seed).gamma(2.0, 1.0, (300, GEOMETRY.n_voxels))
    return found * (0.9 * ENERGIES / found.sum(axis=1))[:, None]


def test_honest_samples_raise_none(table: Callable[[np.ndarray], Table]) -> None:
    assert doubts(table(voxels(1)), table(voxels(2))) == []


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda v: v / 1000, "mean E_tot / E_inc is 0.9 in the reference and 0.0009 in the generated"),
        (lambda v: v * 1000, "generated: mean E_tot / E_inc is 900; both energies must be in MeV"),
        (
            lambda v: np.where(np.arange(300)[:, None] < 12, 0, v),
            "generated: 12 of 300 showers have no energy",
        ),
        (lambda v: np.where(GEOMETRY.layer_of_voxel == 3, 0, v), "no energy in any shower in layer 3"),
        (lambda v: np.concatenate([voxels(1)[:50], v[50:]]), "50 showers are in both samples"),
        (lambda v: v[:100], "only 100 showers of a sample"),
    ],
)
def test_signs_of_trouble(
    table: Callable[[np.ndarray], Table], change: Callable[[np.ndarray], np.ndarray], line: str
) -> None:
    found = doubts(table(voxels(1)), table(change(voxels(2))))
    assert any(line in one for one in found), found
    assert all("\n" not in one for one in found)
