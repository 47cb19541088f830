from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from caloray.errors import BundleError, NumericalError
from caloray.generation.blocks import BlockRequest, Redraws, draw_block


def request(max_attempts: int = 0, keep: list[int] | None = None, n: int = 8, block: int = 2) -> BlockRequest:
    return BlockRequest(
        block=block,
        seed=7,
        energies=np.linspace(2e3, 3e3, n),
        keep=np.array(range(n) if keep is None else keep),
        first_id=8 * block,
        max_attempts=max_attempts,
        command=lambda ids: f"caloray generate --ids {ids}",
    )


@pytest.mark.parametrize("fault", [np.nan, np.inf, -np.inf, -1e-30])
def test_an_invalid_shower_stops_the_block_and_says_how_to_make_it_again(stub: Any, fault: float) -> None:
    model = stub.StubModel({(2, 3): 1, (2, 5): 1}, fault=fault)
    with pytest.raises(NumericalError) as caught:
        draw_block(model, request())
    error = caught.value
    assert "block 2, seed 7: 2 showers" in error.message
    assert "ids 19, 21" in error.message
    assert error.hint.endswith("--ids [19, 21]")
    assert error.context["ids"] == [19, 21]
    assert error.exit_code == 70


def test_redraws_replace_only_invalid_rows_and_are_deterministic(stub: Any) -> None:
    bad = {(2, 3): 1, (2, 5): 4}
    voxels, redraws = draw_block(stub.StubModel(bad), request(10))
    again, _ = draw_block(stub.StubModel(bad), request(10))
    np.testing.assert_array_equal(voxels, again)
    assert redraws == Redraws(rows=2, draws=5, attempts=4)
    attempts = [stub.StubModel().sample_block(request().energies, 7, 2, a) for a in range(5)]
    expected = attempts[0].copy()
    expected[3], expected[5] = attempts[1][3], attempts[4][5]
    np.testing.assert_array_equal(voxels, expected)


def test_a_shower_that_is_never_valid_ends_after_the_allowed_redraws(stub: Any) -> None:
    model = stub.StubModel({(2, 3): 10**9})
    with pytest.raises(NumericalError, match="invalid after 10 redraws"):
        draw_block(model, request(10))
    assert model.calls == [(2, attempt) for attempt in range(11)]


def test_rows_that_are_not_wanted_are_not_judged(stub: Any) -> None:
    model = stub.StubModel({(2, 3): 1})
    voxels, redraws = draw_block(model, request(keep=[1, 4]))
    whole, _ = draw_block(stub.StubModel(), request())
    np.testing.assert_array_equal(voxels, whole[[1, 4]])
    assert redraws == Redraws()


class Vetoing:
    """Row i is drawn i times too often at every attempt; those of ``lost`` never come below the ratio."""

    def __init__(self, stub: Any, lost: tuple[int, ...] = (), attempts: int = 1) -> None:
        self.inner = stub.StubModel({(2, row): attempts for row in lost})
        self.geometry, self.block_size = self.inner.geometry, self.inner.block_size
        self.digest, self.energy_range = self.inner.digest, self.inner.energy_range

    def make_block(self, energies: np.ndarray, *request: Any) -> Any:
        made = self.inner.make_block(energies, *request)
        made.vetoes = np.arange(len(energies))
        made.layer_energies[np.isnan(made.voxels).any(axis=1)] = np.nan
        return made


def test_vetoes_are_counted_for_wanted_rows_and_for_the_draws_that_replace_others(stub: Any) -> None:
    _, redraws = draw_block(Vetoing(stub), request())
    assert redraws == Redraws(vetoed=sum(range(8)))
    _, redraws = draw_block(Vetoing(stub), request(keep=[1, 4]))
    assert redraws == Redraws(vetoed=5)
    _, redraws = draw_block(Vetoing(stub, (3, 5), attempts=2), request(10))
    assert redraws == Redraws(2, 4, 2, vetoed=28 + 8 + 8)
    assert redraws + Redraws(vetoed=2) == Redraws(2, 4, 2, vetoed=46)


def test_a_shower_that_stays_above_the_ratio_is_told_as_such(stub: Any) -> None:
    told = r"1 showers of component layer_energies, above the scheme's max_ratio in every draw, are invalid"
    with pytest.raises(NumericalError, match=told) as caught:
        draw_block(Vetoing(stub, (3,)), request())
    assert caught.value.context["component"] == "layer_energies"


class Raising:
    """A model whose component gives up at attempt 0."""

    def __init__(self, stub: Any) -> None:
        self.inner = stub.StubModel()
        self.geometry, self.block_size = self.inner.geometry, self.inner.block_size
        self.digest, self.energy_range = self.inner.digest, self.inner.energy_range

    def make_block(
        self, energies: np.ndarray, seed: int, block: int, attempt: int = 0, conditions: Any = None
    ) -> Any:
        if attempt == 0:
            raise NumericalError("spline of layer 3 gave NaN", component="next-layer")
        return self.inner.make_block(energies, seed, block, attempt)


def test_an_error_of_a_component_keeps_its_name_and_gains_the_place(stub: Any) -> None:
    with pytest.raises(NumericalError, match="block 2, seed 7: spline of layer 3") as caught:
        draw_block(Raising(stub), request())
    assert caught.value.context["component"] == "next-layer"
    assert "--ids" in caught.value.hint


def test_an_error_of_a_component_can_be_redrawn(stub: Any) -> None:
    voxels, redraws = draw_block(Raising(stub), request(10))
    np.testing.assert_array_equal(voxels, stub.StubModel().sample_block(request().energies, 7, 2, 1))
    assert redraws == Redraws(rows=8, draws=8, attempts=1)


def test_a_model_of_another_shape_is_refused(stub: Any) -> None:
    class Short(Raising):
        def make_block(
            self, energies: np.ndarray, seed: int, block: int, attempt: int = 0, conditions: Any = None
        ) -> Any:
            return SimpleNamespace(voxels=np.zeros((len(energies), 35), np.float32))

    with pytest.raises(BundleError, match=r"shape \(8, 35\), expected \(8, 36\)"):
        draw_block(Short(stub), request())
