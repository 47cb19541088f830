"""What a tracker gets from a record: no number without its floor."""

from __future__ import annotations

from typing import Any

import pytest

from caloray.evaluation.results import Results

METRIC = {"name": "fpd", "value": 0.5, "matched": 0.6, "floor": 0.1, "significance": 50.0}
ROW = {"observable": "hits", "separation": 0.25, "floor": 0.01, "significance": 24.0}
FULL = {
    "fpd/value": 0.5,
    "fpd/matched": 0.6,
    "fpd/floor": 0.1,
    "fpd/significance": 50.0,
    "separation/hits": 0.25,
    "separation_floor/hits": 0.01,
    "separation_significance/hits": 24.0,
}


def numbers(metric: dict[str, Any], row: dict[str, Any]) -> dict[str, float]:
    return Results({"summary": {}, "metrics": [metric], "separations": [row]}).numbers()


def test_value_floor_and_significance() -> None:
    assert numbers(METRIC, ROW) == FULL
    names = [*FULL]
    assert not [(one, two) for one in names for two in names if two.startswith(f"{one}/")]


@pytest.mark.parametrize("key", ["value", "matched", "floor", "significance"])
def test_what_is_unknown_is_left_out(key: str) -> None:
    gone = "separation" if key == "value" else key
    found = numbers(METRIC | {key: None}, ROW | ({} if key == "matched" else {gone: None}))
    assert f"fpd/{key}" not in found
    assert set(found) < set(FULL)
    assert not any(name.startswith("separation") for name in found) or key != "value"
