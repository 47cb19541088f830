"""Ranges of conditions, their way into contexts, and what a request is refused for."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from caloray.errors import ConfigError, DataError
from caloray.preprocess.condition_range import ConditionRange, condition_table, inside_ranges, ranges_of
from caloray.preprocess.conditions import ParticleMap
from caloray.preprocess.statistics import TrainingStatistics
from caloray.showers import DIRECTION

AGE = ConditionRange("age", "ns", 2.0, 6.0)
FIXED = ConditionRange("field", "T", 3.5, 3.5)
COS = math.cos(0.8)
BEAM = tuple(ConditionRange(n, "1", low, 1.0) for n, low in zip(DIRECTION, (-1.0, -1.0, COS), strict=True))


def test_the_context_holds_the_energy_and_mapped_conditions():
    maps = ParticleMap((AGE, FIXED))
    assert maps.width == 3
    incident = torch.tensor([1e3, 1e4, 1e5], dtype=torch.float64)
    table = torch.tensor([[2.0, 3.5], [4.0, 3.5], [6.0, 3.5]], dtype=torch.float64)
    expected = [[-1.5, -1, 0], [-0.5, 0, 0], [0.5, 1, 0]]
    np.testing.assert_allclose(maps.context(incident, table), expected, atol=1e-12)
    plain = ParticleMap()
    assert torch.equal(plain.context(incident), (torch.log10(incident) - 4.5)[:, None])
    for other, given in ((maps, None), (maps, table[:, :1]), (plain, table)):
        with pytest.raises(ConfigError, match="conditions for a model with"):
            other.context(incident, given)


def test_a_condition_that_the_data_do_not_have_is_told_with_those_they_have():
    known = (AGE, FIXED)
    assert ParticleMap.of(("field", "age"), known).names == ("field", "age")
    with pytest.raises(ConfigError, match=r"have no direction_x; they have age, field"):
        ParticleMap.of(("age", "direction_x"), known)
    with pytest.raises(ConfigError, match="they have no conditions"):
        ParticleMap.of(("age",), ())
    with pytest.raises(ConfigError, match="twice"):
        ParticleMap.of(("age", "age"), known)
    with pytest.raises(DataError, match="no condition age"):
        ParticleMap((AGE,)).take({"field": np.ones(3)}, np.arange(2))


def test_statistics_gather_merge_and_travel():
    rng = np.random.default_rng(1)
    layers, incident, age = rng.random((20, 3)), rng.uniform(1, 2, 20), rng.random(20)
    parts = [
        TrainingStatistics.of(layers[s], incident[s], {"age": age[s]}, {"age": "ns"})
        for s in (slice(0, 5), slice(5, 20))
    ]
    whole = TrainingStatistics.of(layers, incident, {"age": age}, {"age": "ns"})
    assert parts[0].merge(parts[1]) == parts[1].merge(parts[0]) == whole
    assert whole.conditions == (ConditionRange("age", "ns", age.min(), age.max()),)
    assert TrainingStatistics(**json.loads(json.dumps(whole.to_dict()))) == whole
    assert "conditions" not in TrainingStatistics.of(layers, incident).to_dict()
    for other in (
        TrainingStatistics.of(layers, incident),
        TrainingStatistics.of(layers, incident, {"age": age}, {"age": "s"}),
    ):
        with pytest.raises(DataError, match="condition"):
            whole.merge(other)


def test_units_of_directions_need_not_be_said():
    found = ranges_of({"direction_z": np.ones(2), "age": np.ones(2)}, {})
    assert [item.unit for item in found] == ["1", ""]


def test_tables_are_checked_against_the_model():
    table = condition_table((AGE, FIXED), {"field": [3.5, 3.5], "age": [2, 6]}, 2)
    np.testing.assert_array_equal(table, [[2, 3.5], [6, 3.5]])
    assert condition_table((), {}, 3) is None
    both = {"age": [3.0], "field": [3.5]}
    for columns, count, message in (
        ({"age": [3.0]}, 1, "needs a value of field"),
        ({**both, "phi": [1.0]}, 1, r"no condition phi; it has age, field"),
        (both, 2, "1 values for 2 showers"),
        ({**both, "age": [np.nan]}, 1, "age: nan in row 0 is not a finite"),
        ({**both, "age": [6.1]}, 1, r"age: 6\.1 ns is outside the trained range 2 to 6"),
        ({**both, "field": [3.6]}, 1, "field: 3.6 T is outside"),
    ):
        with pytest.raises(ConfigError, match=message):
            condition_table((AGE, FIXED), columns, count)
    far = condition_table((AGE, FIXED), {**both, "age": [99.0]}, 1, allow_extrapolation=True)
    assert far is not None
    with pytest.raises(ConfigError, match="it has none") as caught:
        condition_table((), {"age": [1.0]}, 1)
    assert "leave it out" in caught.value.hint


def test_directions_are_unit_vectors():
    good = dict(zip(DIRECTION, ([0.6], [0.0], [0.8]), strict=True))
    assert condition_table(BEAM, good, 1) is not None
    with pytest.raises(ConfigError, match=r"row 0 has length 1\.16"):
        condition_table(BEAM, {**good, "direction_y": [0.6]}, 1)
    with pytest.raises(ConfigError) as caught:
        condition_table(BEAM, {}, 1)
    assert "--theta" in caught.value.hint


def test_draws_lie_inside_the_ranges_and_point_somewhere():
    drawn = inside_ranges((AGE, *BEAM, FIXED), np.random.default_rng(3), 500)
    assert (drawn[:, 0] >= 2).all()
    assert (drawn[:, 0] <= 6).all()
    np.testing.assert_allclose((drawn[:, 1:4] ** 2).sum(axis=1), 1)
    assert (drawn[:, 3] >= COS).all()
    assert (drawn[:, 4] == 3.5).all()
    again = inside_ranges((AGE, *BEAM, FIXED), np.random.default_rng(3), 500)
    assert np.array_equal(drawn, again)
