"""The trained ranges: which particles leave them, by the slack of every other check, and what lies inside."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caloray.errors import ConfigError
from caloray.generation.domain import Refused, TrainedDomain, unphysical, unphysical_reasons
from caloray.generation.energies import Listed, check_range
from caloray.io.particle_record import ParticleRows
from caloray.preprocess.condition_range import ConditionRange, require_inside
from caloray.showers import DIRECTION

ENERGIES = (1e3, 5e4)
EDGE = float(np.sin(np.deg2rad(50)))
BEAM = tuple(
    ConditionRange(name, "1", low, high)
    for name, low, high in zip(DIRECTION, (-EDGE, -EDGE, 0.64), (EDGE, EDGE, 1.0), strict=True)
)
AGE = ConditionRange("age", "ns", 1.0, 2.0)
DOMAIN = TrainedDomain(ENERGIES, (*BEAM, AGE))


def particles(
    energies: list[float], ages: list[float] | None = None, theta: list[float] | None = None
) -> ParticleRows:
    n = len(energies)
    polar = np.deg2rad(theta or [0.0] * n)
    unit = np.sin(polar), np.zeros(n), np.cos(polar)
    conditions = dict(zip(DIRECTION, unit, strict=True)) | {"age": np.array(ages or [1.5] * n)}
    zeros = np.zeros(n)
    return ParticleRows(np.array(energies), zeros, np.arange(n), zeros, zeros, conditions)


def test_what_lies_outside_and_why() -> None:
    rows = particles([2e3, 900, 6e4, 2e3, 2e3, 900], [1.5, 1.5, 1.5, 2.5, 1.5, 0.5], [0, 0, 0, 0, 60, 0])
    assert DOMAIN.outside(rows).tolist() == [False, True, True, True, True, True]
    reasons = DOMAIN.reasons(rows)
    assert reasons[0] == ""
    assert reasons[1] == "energy 900 MeV (trained 1000 to 50000 MeV)"
    assert reasons[3] == "age 2.5 ns (trained 1 to 2 ns)"
    assert reasons[4] == (
        "direction_x 0.866025404 (trained -0.766044443 to 0.766044443); direction_z 0.5 (trained 0.64 to 1)"
    )
    assert reasons[5].count(";") == 1


@settings(max_examples=60, deadline=None)
@given(
    st.floats(0.9e3, 1.1e3) | st.floats(4.9e4, 5.1e4) | st.sampled_from([1e3 * (1 - 1e-6), 5e4 * (1 + 1e-6)])
)
def test_energies_as_the_check_of_a_single_request_sees_them(energy: float) -> None:
    def refused() -> bool:
        try:
            check_range(Listed(values=(energy,)), ENERGIES, allow_extrapolation=False)
        except ConfigError:
            return True
        return False

    assert bool(TrainedDomain(ENERGIES, ()).outside(particles([energy]))[0]) is refused()


@settings(max_examples=60, deadline=None)
@given(st.floats(0.95, 1.05) | st.floats(1.95, 2.05))
def test_conditions_as_the_check_of_a_single_request_sees_them(age: float) -> None:
    def refused() -> bool:
        try:
            require_inside(AGE, np.array([age]), allow_extrapolation=False)
        except ConfigError:
            return True
        return False

    assert bool(DOMAIN.outside(particles([2e3], [age]))[0]) is refused()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(1.0, 1e6), st.floats(-5, 5), st.floats(0, 180)), min_size=1, max_size=20))
def test_what_stands_in_lies_inside_and_leaves_the_others_alone(
    points: list[tuple[float, float, float]],
) -> None:
    rows = particles(*(list(column) for column in zip(*points, strict=True)))
    energies, table = DOMAIN.inside(rows)
    assert table is not None
    names = (*DIRECTION, "age")
    again = ParticleRows(
        energies,
        *(getattr(rows, name) for name in ("run", "event", "particle", "pdg")),
        conditions=dict(zip(names, table.T, strict=True)),
    )
    assert not DOMAIN.outside(again).any()
    assert not unphysical(again).any()
    kept = ~DOMAIN.outside(rows)
    np.testing.assert_array_equal(energies[kept], rows.energies[kept])
    for name, column in zip(names, table.T, strict=True):
        np.testing.assert_array_equal(column[kept], rows.conditions[name][kept])
    assert np.isin(energies, [*ENERGIES, *rows.energies]).all()


def test_a_model_without_conditions() -> None:
    rows = particles([1.0, 2e3])
    energies, table = TrainedDomain(ENERGIES, ()).inside(rows)
    assert energies.tolist() == [1e3, 2e3]
    assert table is None


def test_what_no_policy_permits() -> None:
    rows = particles([2e3, -1, 0, np.nan, np.inf, 2e3, 2e3], [1.5, 1.5, 1.5, 1.5, 1.5, np.nan, 1.5])
    rows.conditions["direction_z"][6] = 0.9
    assert unphysical(rows).tolist() == [False, True, True, True, True, True, True]
    assert unphysical_reasons(rows) == [
        "",
        "energy -1 MeV",
        "energy 0 MeV",
        "energy nan MeV",
        "energy inf MeV",
        "age nan",
        "length of direction 0.9",
    ]
    rows.conditions["direction_z"][0] = np.nan
    assert unphysical_reasons(rows)[0] == "direction_z nan"


def test_the_first_ten_are_named_and_all_are_counted() -> None:
    found = Refused()
    rows = particles([-1.0] * 8)
    for first in (0, 8, 16):
        found.add(first, rows, np.ones(8, bool), unphysical_reasons)
    assert found.count == 24
    assert found.rows == list(range(10))
    text = str(found)
    assert text.startswith("row 0: energy -1 MeV, row 1: ")
    assert "row 9 (run 0, event 1, particle 0): energy -1 MeV" in text
    assert text.endswith(", ...")


def test_ranges_without_any_direction_are_named() -> None:
    empty = tuple(ConditionRange(name, "1", 0.1, 0.2) for name in DIRECTION)
    with pytest.raises(ConfigError, match="no direction of length 1"):
        TrainedDomain(ENERGIES, empty).inside(particles([2e3]))
