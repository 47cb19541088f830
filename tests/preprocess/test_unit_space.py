"""Unit space against a loop over showers and layers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from caloray.preprocess.unit_space import from_unit_space, to_unit_space

SCALE = 2.5
ENERGIES = hnp.arrays(
    np.float64,
    st.tuples(st.integers(1, 4), st.integers(2, 6)),
    elements=st.one_of(st.just(0.0), st.floats(1e-3, 1e3)),
)


def slow(energies: list[float], incident: float, scale: float) -> list[float]:
    """One shower, from the definition."""
    shares = [min(1.0, sum(energies) / (scale * incident))]
    for layer in range(len(energies) - 1):
        left = sum(energies[layer:])
        shares.append(energies[layer] / left if left > 0 else 0.0)
    return shares


def incident_of(energies: np.ndarray) -> np.ndarray:
    return np.maximum(energies.sum(axis=1), 1.0)


@given(ENERGIES)
def test_shares_are_the_definition(energies):
    incident = incident_of(energies)
    found = to_unit_space(torch.from_numpy(energies), torch.from_numpy(incident), SCALE)
    expected = [slow(row, e, SCALE) for row, e in zip(energies.tolist(), incident.tolist(), strict=True)]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9, atol=1e-12)


@given(ENERGIES)
def test_there_and_back_with_empty_layers(energies):
    incident = torch.from_numpy(incident_of(energies))
    shares = to_unit_space(torch.from_numpy(energies), incident, SCALE)
    assert not shares.isnan().any()
    assert ((shares >= 0) & (shares <= 1)).all()
    back = from_unit_space(shares, incident, SCALE).numpy()
    np.testing.assert_allclose(back, energies, rtol=1e-9, atol=1e-9 * max(1.0, energies.sum()))


@given(ENERGIES)
def test_shares_of_any_kind_give_non_negative_layers_that_sum_to_the_total(energies):
    shares = torch.from_numpy(energies / 1e3).clamp(0, 1)
    incident = torch.full((len(energies),), 50.0, dtype=torch.float64)
    layers = from_unit_space(shares, incident, SCALE)
    assert (layers >= 0).all()
    np.testing.assert_allclose(layers.sum(1), shares[:, 0] * SCALE * 50.0, rtol=1e-12)


def test_an_empty_shower_is_all_zero():
    shares = to_unit_space(
        torch.zeros(1, 4, dtype=torch.float64), torch.tensor([10.0], dtype=torch.float64), SCALE
    )
    assert shares.tolist() == [[0, 0, 0, 0]]


def test_totals_above_the_scale_are_clamped():
    energies = torch.tensor([[30.0, 10.0]], dtype=torch.float64)
    shares = to_unit_space(energies, torch.tensor([10.0], dtype=torch.float64), SCALE)
    assert shares.tolist() == [[1.0, 0.75]]
    back = from_unit_space(shares, torch.tensor([10.0], dtype=torch.float64), SCALE)
    assert back.tolist() == [[18.75, 6.25]]


def test_rows_do_not_mix():
    energies = torch.tensor([[1.0, 2.0], [float("nan"), 1.0], [3.0, 4.0]], dtype=torch.float64)
    incident = torch.full((3,), 10.0, dtype=torch.float64)
    shares = to_unit_space(energies, incident, SCALE)
    alone = to_unit_space(energies[[0, 2]], incident[:2], SCALE)
    assert torch.equal(shares[[0, 2]], alone)
    assert shares[1].isnan().any()
    assert shares[0].tolist() == pytest.approx([3 / 25, 1 / 3])
