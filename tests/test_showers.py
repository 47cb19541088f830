"""The Showers record and the row rules."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caloray.errors import DataError
from caloray.geometry import Geometry, Layer, load_geometry
from caloray.showers import RULES, Showers, Violation, apply_policy, check_rows, merge_violations

TOY = Geometry(
    "toy",
    "cylindrical",
    (Layer(0, (-1.0, 1.0), (0.0, 1.0, 2.0)), Layer(1, (-1.0, 0.0, 1.0), (0.0, 1.0, 2.0, 3.0))),
)


def toy(n: int = 20) -> Showers:
    rng = np.random.default_rng(3)
    return Showers(np.full(n, 100.0), rng.random((n, 8)), np.arange(n))


def test_dtypes_and_length() -> None:
    showers = Showers([1, 2], [[0.5] * 8] * 2, [7, 8])  # type: ignore[arg-type]
    assert len(showers) == 2
    arrays = showers.incident_energies, showers.voxels, showers.ids
    assert [array.dtype.name for array in arrays] == ["float64", "float32", "int64"]


@pytest.mark.parametrize(
    ("energies", "voxels", "ids"),
    [((2,), (3, 8), (3,)), ((3, 1), (3, 8), (3,)), ((3,), (24,), (3,)), ((3,), (3, 8), (2,))],
)
def test_shapes_that_do_not_fit_are_refused(
    energies: tuple[int, ...], voxels: tuple[int, ...], ids: tuple[int, ...]
) -> None:
    with pytest.raises(DataError, match=r"expected \(N,\), \(N, V\), \(N,\)"):
        Showers(np.ones(energies), np.ones(voxels), np.ones(ids))


@pytest.mark.parametrize("geometry", [TOY, load_geometry("ds2")], ids=lambda g: g.name)
def test_layer_energies_are_float64_sums(geometry: Geometry) -> None:
    rng = np.random.default_rng(1)
    voxels = rng.random((5, geometry.n_voxels)).astype(np.float32) * 1e3
    found = Showers(np.ones(5), voxels, np.arange(5)).layer_energies(geometry)
    expected = [
        [sum(float(v) for v in row[geometry.span(i)]) for i in range(geometry.n_layers)] for row in voxels
    ]
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-13)


def test_wrong_geometry_is_refused() -> None:
    with pytest.raises(DataError, match="8 voxels per shower, geometry ds2 has 6480"):
        toy().layer_energies(load_geometry("ds2"))
    with pytest.raises(DataError, match=r"f\.hdf5: 8 voxels"):
        check_rows(toy(), load_geometry("ds2"), where="f.hdf5")


def test_select_and_concatenate() -> None:
    showers = toy()
    again = Showers.concatenate([showers.select(slice(0, 7)), showers.select(np.arange(20) >= 7)])
    assert np.array_equal(again.voxels, showers.voxels)
    assert np.array_equal(again.ids, showers.ids)


def test_good_rows_break_no_rule() -> None:
    assert check_rows(toy(), TOY) == []
    keep, found = apply_policy(toy(), TOY)
    assert keep.all()
    assert found == []


@pytest.mark.parametrize(
    ("rule", "row", "energy", "voxel"),
    [
        ("nan", 3, np.nan, None),
        ("nan", 3, None, np.nan),
        ("infinite", 4, np.inf, None),
        ("infinite", 4, None, np.inf),
        ("infinite", 4, None, 1e39),
        ("negative", 5, None, -1e-6),
        ("incident-energy", 6, 0.0, None),
        ("incident-energy", 6, -1.0, None),
        ("deposit", 7, None, 501.0),
    ],
)
def test_each_rule(rule: str, row: int, energy: float | None, voxel: float | None) -> None:
    showers = toy()
    energies, voxels = showers.incident_energies.copy(), showers.voxels.astype(float)
    if energy is not None:
        energies[row] = energy
    if voxel is not None:
        voxels[row, 2] = voxel
    spoiled = Showers(energies, voxels, showers.ids)
    assert check_rows(spoiled, TOY, first_row=1000) == [Violation(rule, 1, (1000 + row,))]
    keep, found = apply_policy(spoiled, TOY, "drop")
    assert np.flatnonzero(~keep).tolist() == [row]
    assert found[0].rule == rule
    with pytest.raises(DataError) as caught:
        apply_policy(spoiled, TOY, "reject", where="f.hdf5", first_row=1000)
    assert str(caught.value) == f"f.hdf5, rows 1000 to 1019: {RULES[rule]} in 1 row ({1000 + row})"
    assert caught.value.context["rows"] == {rule: [1000 + row]}


def test_a_row_may_break_several_rules_and_nan_hides_none() -> None:
    showers = toy()
    voxels = showers.voxels.copy()
    voxels[2, :3] = np.nan, -1, np.inf
    found = check_rows(Showers(showers.incident_energies, voxels, showers.ids), TOY)
    assert [item.rule for item in found] == ["nan", "infinite", "negative"]


def test_the_largest_ratio_is_a_choice() -> None:
    showers = Showers(np.ones(1), np.full((1, 8), 0.5), np.zeros(1))
    assert check_rows(showers, TOY) == []
    assert check_rows(showers, TOY, max_ratio=3.9)[0].rule == "deposit"


def test_energies_in_gev_are_suspected() -> None:
    showers = Showers(np.full(3, 0.1), np.full((3, 8), 0.5), np.arange(3))
    with pytest.raises(DataError) as caught:
        apply_policy(showers, TOY)
    assert "MeV" in caught.value.hint


def test_only_ten_rows_are_named() -> None:
    showers = Showers(np.zeros(25), np.zeros((25, 8)), np.arange(25))
    (found,) = check_rows(showers, TOY)
    assert found == Violation("incident-energy", 25, tuple(range(10)))
    assert str(found).endswith("in 25 rows (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ...)")


def test_merging_adds_up_chunks_in_any_order() -> None:
    parts = [Violation("negative", 12, tuple(range(20, 30))), Violation("nan", 1, (3,))]
    more = [Violation("negative", 2, (4, 5))]
    expected = [
        Violation("nan", 1, (3,)),
        Violation("negative", 14, (4, 5, 20, 21, 22, 23, 24, 25, 26, 27)),
    ]
    assert merge_violations(parts + more) == expected
    assert merge_violations(more + parts) == expected
    assert merge_violations([]) == []


numbers = st.one_of(
    st.floats(0, 50, width=32), st.sampled_from([np.nan, np.inf, -np.inf, -1.0, 3e38, -0.0, 400.0])
)
rows = st.tuples(
    st.one_of(st.floats(1, 1e6), st.sampled_from([0.0, -5.0, np.nan, np.inf, -np.inf])),
    st.lists(numbers, min_size=8, max_size=8),
)


def broken_rules(energy: float, voxels: list[float]) -> set[str]:
    """The rules in words, row by row."""
    values = [energy, *voxels]
    broken = set()
    if any(np.isnan(values)):
        broken.add("nan")
    if any(np.isinf(values)):
        broken.add("infinite")
    if any(v < 0 for v in voxels):
        broken.add("negative")
    if energy <= 0:
        broken.add("incident-energy")
    if np.all(np.isfinite(values)) and energy > 0 and sum(float(np.float32(v)) for v in voxels) > 5 * energy:
        broken.add("deposit")
    return broken


@given(st.lists(rows, min_size=1, max_size=15), st.integers(0, 10**6))
def test_rules_agree_with_their_words(table: list[tuple[float, list[float]]], first: int) -> None:
    energies = np.array([energy for energy, _ in table])
    showers = Showers(energies, np.array([voxels for _, voxels in table]), np.arange(len(table)))
    expected = [broken_rules(energy, voxels) for energy, voxels in table]
    found = {item.rule: item for item in check_rows(showers, TOY, first_row=first)}
    for rule in RULES:
        bad = [first + i for i, broken in enumerate(expected) if rule in broken]
        assert (found[rule].count if rule in found else 0) == len(bad)
        assert (found[rule].rows if rule in found else ()) == tuple(bad[:10])
    keep, _ = apply_policy(showers, TOY, "drop")
    assert keep.tolist() == [not broken for broken in expected]
