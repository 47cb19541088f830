"""Directions drawn inside trained ranges: of length 1, and taken by what checks them."""

from __future__ import annotations

import numpy as np
import pytest

from caloray.errors import ConfigError
from caloray.preprocess.condition_range import ConditionRange, condition_table, inside_ranges
from caloray.showers import DIRECTION


def beam(*spans: tuple[float, float]) -> tuple[ConditionRange, ...]:
    return tuple(ConditionRange(name, "1", *span) for name, span in zip(DIRECTION, spans, strict=True))


@pytest.mark.parametrize(
    "ranges",
    [
        beam((0, 0.77), (-0.05, 0.05), (0.64, 1)),
        beam((-0.77, 0.77), (-0.77, 0.77), (0.64, 1)),
        beam((0, 0), (0, 0), (1, 1)),
        beam((0, 0), (-0.6, 0.6), (0.8, 1)),
        beam((0.6, 0.6), (0, 0), (0.8, 0.8)),
        beam((0.3, 0.5), (0.4, 0.4), (0.75, 0.9)),
        beam((-1, 1), (-1, 1), (-1, 1)),
    ],
)
@pytest.mark.parametrize("count", [1, 300])
def test_draws_are_unit_vectors_inside_the_ranges(ranges, count):
    drawn = inside_ranges(ranges, np.random.default_rng(3), count)
    assert drawn.shape == (count, 3)
    np.testing.assert_allclose(np.linalg.norm(drawn, axis=1), 1, rtol=0, atol=1e-3)
    for values, item in zip(drawn.T, ranges, strict=True):
        assert item.low <= values.min() <= values.max() <= item.high
    assert condition_table(ranges, dict(zip(DIRECTION, drawn.T, strict=True)), count) is not None


def test_a_narrow_fan_is_filled():
    """All of 0 to 0.77 in x occurs, not the edges only."""
    drawn = inside_ranges(beam((0, 0.77), (-0.05, 0.05), (0.64, 1)), np.random.default_rng(1), 500)
    assert len(np.unique(drawn[:, 0])) == 500
    assert (np.histogram(drawn[:, 0], 7, (0, 0.77))[0] > 0).all()


def test_ranges_without_a_direction_are_refused():
    with pytest.raises(ConfigError, match=r"no direction of length 1 .* 0 to 0\.1, 0 to 0\.1, 0\.5 to 0\.6"):
        inside_ranges(beam((0, 0.1), (0, 0.1), (0.5, 0.6)), np.random.default_rng(1), 4)
