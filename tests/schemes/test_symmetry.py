"""Symmetries of a layer: voxels and conditions that move together, and readouts that have none."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from caloray.errors import ConfigError
from caloray.geometry import Geometry, Layer, load_geometry
from caloray.io.store import LayerStoreBuilder
from caloray.preprocess.conditions import ConditionRange
from caloray.preprocess.statistics import TrainingStatistics
from caloray.schemes.layerwise import LayerwiseScheme
from caloray.schemes.layerwise_config import LayerwiseConfig
from caloray.schemes.symmetry import draw_turns, require_symmetric, require_turnable

EDGES = (-2.0, -1.0, 0.0, 1.0, 2.0)
WIDE = (-4.0, -2.0, 0.0, 2.0, 4.0)
UNEVEN = (-2.0, -1.5, 0.0, 1.5, 2.0)
SHIFTED = (-10.0, 0.0, 10.0, 20.0, 30.0)
CIRCLE = tuple(np.linspace(-np.pi, np.pi, 5))
SQUARE = Geometry("square", "cartesian", tuple(Layer(i, EDGES, EDGES) for i in range(3)))
VECTORS = ("direction_x", "direction_y", "impact_x", "impact_y")


def _centre(weight: torch.Tensor) -> torch.Tensor:
    """(n, 2) sums of energy times place of 4 x 4 voxels around the middle."""
    centre = torch.arange(4) - 1.5
    x, y = centre.repeat_interleave(4).to(weight), centre.repeat(4).to(weight)
    return torch.stack([(weight * x).sum(1), (weight * y).sum(1)], dim=1)


@pytest.mark.parametrize("vector", ["direction", "impact"])
def test_flip_moves_voxels_and_vectors_together(vector):
    """A voxel's place relative to the middle is mapped as x and y of the vector are."""
    turn = draw_turns("flip", (4, 4), 200, torch.Generator().manual_seed(1))
    weight = torch.rand(200, 16, generator=torch.Generator().manual_seed(2))
    names = ("theta", f"{vector}_y", f"{vector}_x")
    before = torch.cat([torch.ones(200, 1), _centre(weight).flip(1)], dim=1)
    after = turn.conditions(before, names)
    torch.testing.assert_close(_centre(turn.layer(weight)), after[:, 1:].flip(1), rtol=0, atol=1e-5)
    assert (after[:, 0] == 1).all()
    assert len({tuple(row) for row in turn.voxels.tolist()}) == 8


def test_a_rectangle_is_flipped_but_not_exchanged():
    turn = draw_turns("flip", (2, 3), 100, torch.Generator().manual_seed(1))
    assert not turn.exchanged.any()
    assert len({tuple(row) for row in turn.voxels.tolist()}) == 4
    assert all(sorted(row) == list(range(6)) for row in turn.voxels.tolist())


def _leaning():
    """One shower whose direction is the moment of layer 2, whose entry that of layer 1; and its scheme."""
    rng = np.random.default_rng(1)
    voxels = [rng.uniform(1, 9, (1, 16)).astype(np.float32) for _ in range(3)]
    moments = [_centre(torch.from_numpy(v).double()).numpy()[0] for v in voxels]
    conditions = dict(zip(VECTORS, [*moments[2], *moments[1]], strict=True))
    builder = LayerStoreBuilder(SQUARE, (0, 1, 2))
    builder.add_dense(
        np.arange(1), np.array([1e3]), voxels, {n: np.array([v]) for n, v in conditions.items()}
    )
    store = builder.build()
    ranges = tuple(ConditionRange(name, "", -100.0, 100.0) for name in VECTORS)
    fitted = TrainingStatistics(1, 0.5, 200.0, 1e3, 1e3, ranges, tuple(store.layer_maxima.tolist()))
    config = LayerwiseConfig.model_validate(
        {"kind": "layerwise", "threshold": 0.1, "conditions": VECTORS, "augment": "flip"}
        | {"flows": {"layer": {"blocks": 1, "hidden": 3, "squeeze": (2, 2), "kernels": ((2, 2),)}}}
    )
    return store, LayerwiseScheme(config, SQUARE, fitted, seed=1)


def test_rows_of_a_batch_are_flipped_with_their_conditions():
    """Target, layer before, direction and entry of a row: all by the same of 8 symmetries."""
    store, scheme = _leaning()
    part, maps = scheme.component("layer_02"), scheme.maps
    rows = np.repeat(part.rows(store), 100, axis=0)
    target, context = part.batch(store, rows, torch.Generator().manual_seed(1), torch.float64)
    first = 6 * 16 + 1  # behind two layers, four guides and the energy
    direction, entry = 100 * context[:, first : first + 2], 100 * context[:, first + 2 : first + 4]
    for seen, layer, expected in ((target, 2, direction), (context[:, 16:32], 1, entry)):
        moment = _centre(maps.voxel_map.decode(seen, maps.maxima[layer]))
        torch.testing.assert_close(moment, expected, rtol=0, atol=1e-4)
    assert len({tuple(row) for row in direction.round(decimals=6).tolist()}) == 8


@pytest.mark.parametrize(
    ("kind", "names", "left"),
    [
        ("flip", ("direction_x",), "direction_x"),
        ("flip", ("impact_y", "theta"), "impact_y"),
        ("flip", ("direction_x", "direction_y", "phi"), "phi"),
        ("flip", ("direction_x", "impact_y"), "direction_x, impact_y"),
        ("rotate", ("direction_x", "direction_y", "direction_z"), "direction_x, direction_y"),
        ("rotate", ("impact_x", "impact_y"), "impact_x, impact_y"),
        ("rotate", ("theta", "phi"), "phi"),
        ("rotate", ("age",), "age"),
    ],
)
def test_conditions_that_would_not_turn(kind, names, left):
    require_turnable("none", names)
    with pytest.raises(ConfigError, match=f"{kind} turns showers but not their condition {left}$") as caught:
        require_turnable(kind, names)
    assert "augment: none" in caught.value.hint


def test_conditions_that_turn_or_need_not():
    require_turnable("flip", (*VECTORS, "direction_z", "theta"))
    require_turnable("rotate", ("theta", "direction_z"))


def _geometry(kind, first, second):
    return Geometry("box", kind, (Layer(0, first, first), Layer(1, first, second)))


@pytest.mark.parametrize(
    ("kind", "geometry", "message"),
    [
        ("flip", _geometry("cartesian", EDGES, WIDE), "layer 1: as many bins in x as in y, but other edges"),
        ("flip", _geometry("cartesian", EDGES, UNEVEN), "layer 1: as many bins in x as in y"),
        ("flip", _geometry("cartesian", SHIFTED, SHIFTED), "layer 0: edges of x, -10 to 30 mm, are not symm"),
        ("flip", _geometry("cartesian", EDGES, SHIFTED), "layer 1: edges of y"),
        ("rotate", _geometry("cylindrical", EDGES, (0.0, 1.0)), "not 4 equal bins from -2 round"),
        ("flip", _geometry("cylindrical", CIRCLE, (0.0, 1.0)), "flip needs a cartesian geometry"),
        ("rotate", SQUARE, "rotate needs a cylindrical geometry"),
    ],
)
def test_readouts_without_the_symmetry(kind, geometry, message):
    require_symmetric("none", geometry)
    with pytest.raises(ConfigError, match=message):
        require_symmetric(kind, geometry)


def test_other_alpha_in_one_layer_cannot_be_rotated():
    turned = tuple(edge + 0.1 for edge in CIRCLE)
    layers = Layer(0, CIRCLE, (0.0, 1.0)), Layer(1, turned, (0.0, 1.0))
    with pytest.raises(ConfigError, match="layer 1: edges of alpha"):
        require_symmetric("rotate", Geometry("twisted", "cylindrical", layers))


@pytest.mark.parametrize(
    ("kind", "geometry"),
    [
        ("flip", SQUARE),
        ("flip", _geometry("cartesian", UNEVEN, UNEVEN)),
        ("flip", _geometry("cartesian", EDGES, (-3.0, 0.0, 3.0))),
        ("flip", "ild_30x30x30"),
        ("rotate", "ds2"),
        ("rotate", "ds3"),
    ],
)
def test_readouts_with_the_symmetry(kind, geometry):
    require_symmetric(kind, load_geometry(geometry) if isinstance(geometry, str) else geometry)


@pytest.mark.parametrize(
    ("edges", "augment", "names", "message"),
    [
        (EDGES, "flip", ("phi",), "not their condition phi"),
        (EDGES, "flip", ("impact_x",), "not their condition impact_x"),
        (SHIFTED, "flip", (), "not symmetric about 0"),
    ],
)
def test_the_scheme_asks(edges, augment, names, message):
    config = LayerwiseConfig(kind="layerwise", augment=augment, conditions=names)
    geometry = Geometry("box", "cartesian", tuple(Layer(i, edges, edges) for i in range(2)))
    with pytest.raises(ConfigError, match=message):
        LayerwiseScheme(config, geometry, TrainingStatistics.unfitted(names), 1)
