"""A metric knows its floor; pairs are disjoint, of equal size and named by their seed."""

from __future__ import annotations

import json

import numpy as np
import pytest

from caloray.errors import NumericalError
from caloray.evaluation.metric import Metric, matched
from caloray.evaluation.pairs import matched_pairs


def metric(**changes: object) -> Metric:
    facts: dict = {
        "name": "fpd",
        "label": "FPD",
        "value": 3.0,
        "floor": 1.0,
        "spread": 0.5,
        "matched": 2.0,
        "showers": (100, 90),
        "pair_showers": 50,
        "pairs": 10,
    }
    return Metric(**facts | changes)


def test_significance_compares_what_has_the_same_size() -> None:
    assert metric().significance == pytest.approx(2.0)
    assert metric(better="higher").significance == pytest.approx(-2.0)
    assert metric(spread=0.0).significance is None


def test_the_record_is_plain_json() -> None:
    record = json.loads(json.dumps(metric(settings={"k": 5}).to_dict()))
    assert record["significance"] == pytest.approx(2.0)
    assert record["showers"] == [100, 90]
    assert record["settings"] == {"k": 5}


@pytest.mark.parametrize("name", ["value", "floor", "spread", "matched"])
def test_a_number_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(NumericalError, match="metric fpd"):
        metric(**{name: float("nan")})


def test_matched_is_mean_and_sample_deviation() -> None:
    found = matched([1.0, 2.0, 6.0], [4.0, 5.0, 6.0])
    assert found == {"floor": 3.0, "spread": pytest.approx(np.sqrt(7.0)), "matched": 5.0, "pairs": 3}
    assert matched([0.1 + 0.2, 0.3, 0.3], [0.3, 0.3, 0.3])["spread"] == 0.0
    with pytest.raises(NumericalError, match="2 floor and 2 matched"):
        matched([1.0, 2.0], [1.0, 2.0])


def test_pairs() -> None:
    drawn = matched_pairs(101, 400, seed=3, pairs=4)
    for pair in drawn:
        assert len(pair.first) == len(pair.second) == len(pair.generated) == 50
        assert len({*pair.first.tolist(), *pair.second.tolist()}) == 100
        assert len(set(pair.generated.tolist())) == 50
        assert max(pair.generated) < 400
    assert not np.array_equal(drawn[0].first, drawn[1].first)
    again = matched_pairs(101, 400, seed=3, pairs=4)
    assert all(np.array_equal(a.first, b.first) for a, b in zip(drawn, again, strict=True))
    other = matched_pairs(101, 400, seed=4, pairs=4)
    assert not np.array_equal(drawn[0].first, other[0].first)


@pytest.mark.parametrize(("generated", "most", "size"), [(30, None, 30), (400, 20, 20), (400, 90, 50)])
def test_the_smallest_of_all_limits_is_the_size(generated: int, most: int | None, size: int) -> None:
    assert len(matched_pairs(101, generated, seed=0, pairs=1, most=most)[0].second) == size


def test_samples_of_equal_size_are_compared_place_by_place() -> None:
    """Sorted by energy, generated and second rows then have the same energies."""
    for pair in matched_pairs(100, 100, seed=3, pairs=3):
        np.testing.assert_array_equal(pair.generated, pair.second)
        assert not set(pair.generated) & set(pair.first)
    assert any(not np.array_equal(pair.generated, pair.second) for pair in matched_pairs(100, 101, seed=3))
