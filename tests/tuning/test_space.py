"""Ranges: drawn, listed and mapped to the unit interval."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caloray.tuning.space import Parameter

RANGES = [
    {"uniform": [-1.0, 3.0]},
    {"log_uniform": [1e-4, 1e-1]},
    {"int": [4, 16]},
    {"int": [4, 16], "step": 4},
    {"log_int": [4, 200]},
    {"choice": ["adam", "adamw", None, {"kind": "constant"}]},
]


@pytest.mark.parametrize("value", RANGES, ids=str)
@given(share=st.floats(0, 1))
def test_every_share_is_a_value_of_the_range(value, share):
    parameter = Parameter.model_validate(value)
    found = parameter.at(share)
    if parameter.kind == "choice":
        assert found in parameter.choices
    else:
        assert parameter.low <= found <= parameter.high
    if parameter.whole:
        assert isinstance(found, int)
        assert (found - parameter.low) % parameter.step == 0
    json.dumps(found, allow_nan=False)
    assert 0 <= parameter.unit(found) <= 1


@pytest.mark.parametrize("value", RANGES, ids=str)
def test_a_range_is_as_it_stood_in_the_file(value):
    parameter = Parameter.model_validate(value)
    assert parameter.model_dump(mode="json") == value
    assert Parameter.model_validate(parameter) == parameter


@given(share=st.floats(0, 1), low=st.floats(1e-6, 1.0), width=st.floats(1.01, 1e6))
def test_unit_is_the_inverse_of_at(share, low, width):
    parameter = Parameter.model_validate({"log_uniform": [low, low * width]})
    assert parameter.unit(parameter.at(share)) == pytest.approx(share, abs=1e-6)


def test_integers_are_drawn_evenly():
    parameter = Parameter.model_validate({"int": [4, 16], "step": 4})
    generator = np.random.default_rng(1)
    drawn = [parameter.draw(generator) for _ in range(4000)]
    counts = np.bincount(drawn, minlength=17)
    assert counts.nonzero()[0].tolist() == [4, 8, 12, 16]
    assert counts[[4, 8, 12, 16]].min() > 900


def test_draws_of_a_logarithm_have_its_median():
    parameter = Parameter.model_validate({"log_uniform": [1e-4, 1e-2]})
    generator = np.random.default_rng(1)
    drawn = [parameter.draw(generator) for _ in range(2000)]
    assert np.median(drawn) == pytest.approx(1e-3, rel=0.15)


def test_points_of_a_grid():
    points = [Parameter.model_validate(value).points() for value in RANGES[2:4]]
    assert points == [tuple(range(4, 17)), (4, 8, 12, 16)]
    assert Parameter.model_validate({"log_uniform": [1e-4, 1e-2], "grid": 3}).points() == pytest.approx(
        (1e-4, 1e-3, 1e-2)
    )
    assert Parameter.model_validate({"log_int": [1, 100], "grid": 3}).points() == (1, 10, 100)
    assert Parameter.model_validate({"uniform": [1, 3], "grid": 1}).points() == (2.0,)
