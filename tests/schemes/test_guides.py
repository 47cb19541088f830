"""Planes along and across the particle's vectors."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from caloray.geometry import Geometry, Layer
from caloray.preprocess.condition_range import ConditionRange
from caloray.preprocess.conditions import ParticleMap
from caloray.schemes.guides import SCALE, Guides
from caloray.schemes.symmetry import draw_turns

EDGES = tuple(np.linspace(-20.0, 20.0, 9))
SQUARE = Geometry("square", "cartesian", (Layer(0, EDGES, EDGES, 1.0),))
DIRECTION = ("direction_x", "direction_y", "direction_z")


def particle(*names, high=0.5):
    return ParticleMap(tuple(ConditionRange(name, "", -high, high) for name in names))


def test_a_plane_rises_along_the_vector_and_one_across():
    guides = Guides(SQUARE, particle(*DIRECTION))
    directions = torch.tensor([[0.5, 0.0, 0.8], [0.0, -0.25, 0.9], [0.3, 0.4, 0.8]], dtype=torch.float64)
    along, across = (plane.reshape(3, 8, 8) for plane in guides.planes(directions))
    assert guides.count == 2
    middle = np.arange(8) / 4 - 0.875  # in half widths
    x, y = np.meshgrid(middle, middle, indexing="ij")
    np.testing.assert_allclose(along[0], SCALE * x)
    np.testing.assert_allclose(along[1], -0.5 * SCALE * y)
    np.testing.assert_allclose(along[2], SCALE * (0.6 * x + 0.8 * y))
    np.testing.assert_allclose(across[2], SCALE * (0.6 * y - 0.8 * x))


def test_guides_turn_with_the_voxels():
    """A turned direction has the turned plane along it; across it may change its sign."""
    guides = Guides(SQUARE, particle(*DIRECTION))
    directions = torch.rand((40, 3), dtype=torch.float64, generator=torch.Generator().manual_seed(1)) - 0.5
    turn = draw_turns("flip", (8, 8), 40, torch.Generator().manual_seed(2))
    along, across = guides.planes(directions)
    turned_along, turned_across = guides.planes(turn.conditions(directions, DIRECTION))
    torch.testing.assert_close(turned_along, turn.layer(along))
    torch.testing.assert_close(turned_across.abs(), turn.layer(across).abs())


@pytest.mark.parametrize(
    ("names", "count"),
    [
        ((), 0),
        (("theta",), 0),
        (("direction_x", "direction_z"), 0),
        (DIRECTION, 2),
        (("impact_y", "impact_x"), 2),
        ((*DIRECTION, "impact_x", "impact_y"), 4),
    ],
)
def test_only_whole_vectors_have_planes(names, count):
    guides = Guides(SQUARE, particle(*names))
    values = torch.zeros((3, len(names)), dtype=torch.float64) if names else None
    planes = guides.planes(values)
    assert guides.count == len(planes) == count
    assert all(plane.shape == (3, 64) for plane in planes)


def test_rings_have_none():
    ring = Geometry("ring", "cylindrical", (Layer(0, (-1.0, 0.0, 1.0), (0.0, 1.0)),))
    assert Guides(ring, particle(*DIRECTION)).count == 0
