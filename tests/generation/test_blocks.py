from __future__ import annotations

from dataclasses import replace
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
        keep=np.array(range(n) if keep is None else keep, dtype=np.int64),
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
    drawn = draw_block(stub.StubModel(bad), request(10))
    voxels, again = drawn.voxels, draw_block(stub.StubModel(bad), request(10)).voxels
    np.testing.assert_array_equal(voxels, again)
    assert drawn.redraws == Redraws(rows=2, draws=5, attempts=4)
    assert drawn.attempts.tolist() == [0, 0, 0, 1, 0, 4, 0, 0]
    assert drawn.attempts.dtype == np.uint8
    np.testing.assert_array_equal(drawn.log_prob, -voxels.sum(axis=1, dtype=np.float64))
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
    drawn = draw_block(model, request(keep=[1, 4]))
    whole = draw_block(stub.StubModel(), request())
    np.testing.assert_array_equal(drawn.voxels, whole.voxels[[1, 4]])
    assert drawn.redraws == Redraws()


def vetoing(stub: Any, lost: tuple[int, ...] = (), attempts: int = 1) -> Any:
    """Row i is drawn i times too often at every attempt; those of ``lost`` never come below the ratio."""

    class Vetoing(stub.StubModel):  # type: ignore[misc]
        def make_block(self, energies: np.ndarray, *request: Any) -> Any:
            made = super().make_block(energies, *request)
            made.vetoes = np.arange(len(energies))
            made.layer_energies[np.isnan(made.voxels).any(axis=1)] = np.nan
            return made

    return Vetoing({(2, row): attempts for row in lost})


def test_vetoes_are_counted_for_wanted_rows_and_for_the_draws_that_replace_others(stub: Any) -> None:
    assert draw_block(vetoing(stub), request()).redraws == Redraws(vetoed=sum(range(8)))
    assert draw_block(vetoing(stub), request(keep=[1, 4])).redraws == Redraws(vetoed=5)
    redraws = draw_block(vetoing(stub, (3, 5), attempts=2), request(10)).redraws
    assert redraws == Redraws(2, 4, 2, vetoed=28 + 8 + 8)
    assert redraws + Redraws(vetoed=2) == Redraws(2, 4, 2, vetoed=46)


def test_a_shower_that_stays_above_the_ratio_is_told_as_such(stub: Any) -> None:
    told = r"1 showers of component layer_energies, above the scheme's max_ratio in every draw, are invalid"
    with pytest.raises(NumericalError, match=told) as caught:
        draw_block(vetoing(stub, (3,)), request())
    assert caught.value.context["component"] == "layer_energies"


def raising(stub: Any) -> Any:
    """A model whose component gives up at attempt 0."""

    class Raising(stub.StubModel):  # type: ignore[misc]
        def make_block(self, energies: np.ndarray, seed: int, block: int, attempt: int, *rest: Any) -> Any:
            if attempt == 0:
                raise NumericalError("spline of layer 3 gave NaN", component="next-layer")
            return super().make_block(energies, seed, block, attempt, *rest)

    return Raising()


def test_an_error_of_a_component_keeps_its_name_and_gains_the_place(stub: Any) -> None:
    with pytest.raises(NumericalError, match="block 2, seed 7: spline of layer 3") as caught:
        draw_block(raising(stub), request())
    assert caught.value.context["component"] == "next-layer"
    assert "--ids" in caught.value.hint


def test_an_error_of_a_component_can_be_redrawn(stub: Any) -> None:
    drawn = draw_block(raising(stub), request(10))
    np.testing.assert_array_equal(drawn.voxels, stub.StubModel().sample_block(request().energies, 7, 2, 1))
    assert drawn.redraws == Redraws(rows=8, draws=8, attempts=1)


def test_a_model_of_another_shape_is_refused(stub: Any) -> None:
    class Short(stub.StubModel):  # type: ignore[misc]
        def make_block(self, energies: np.ndarray, *request: Any) -> Any:
            return stub.Made(voxels=np.zeros((len(energies), 35), np.float32))

    with pytest.raises(BundleError, match=r"shape \(8, 35\), expected \(8, 36\)"):
        draw_block(Short(), request())


def test_only_the_rows_that_are_bad_are_drawn_again(stub: Any) -> None:
    """Neighbours make one piece."""
    asked: list[tuple[int, int, int]] = []

    class Asked(stub.StubModel):  # type: ignore[misc]
        def piece(self, piece: Any) -> Any:
            asked.append((piece.attempt, piece.start, len(piece.energies)))
            return super().piece(piece)

    draw_block(Asked({(2, 1): 1, (2, 2): 1, (2, 6): 2}), request(10))
    assert asked == [(1, 1, 2), (1, 6, 1), (2, 6, 1)]


def test_too_much_energy_counts_as_invalid(stub: Any) -> None:
    model = stub.StubModel()
    ratio = model.sample_block(request().energies, 7, 2).sum(axis=1, dtype=float) / request().energies
    limit = float(np.sort(ratio)[-2])
    wanted = replace(request(10), max_response=limit)
    drawn = draw_block(model, wanted)
    assert (drawn.attempts > 0).tolist() == (ratio > limit).tolist()
    assert (drawn.voxels.sum(axis=1, dtype=float) <= limit * wanted.energies).all()
    with pytest.raises(NumericalError, match=r"1 with more than 0.* times the incident energy"):
        draw_block(model, replace(wanted, max_attempts=0))


def test_nothing_is_drawn_where_nothing_is_wanted(stub: Any) -> None:
    model = stub.StubModel()
    drawn = draw_block(model, request(keep=[]))
    assert drawn.voxels.shape == (0, 36)
    assert len(drawn.attempts) == 0
    assert model.calls == []
