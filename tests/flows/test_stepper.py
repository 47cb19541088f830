"""The stepper's buffers, padding and decisions, run piece by piece on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from nflows.flows.base import Flow
from nflows.transforms.base import CompositeTransform
from nflows.transforms.standard import IdentityTransform
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from caloray.errors import ConfigError
from caloray.flows.incremental import IncrementalInverter
from caloray.flows.jacobi import JacobiInverter
from caloray.flows.maf import MAFConfig, build_maf
from caloray.flows.stepper import Stepper, Work
from caloray.rng import StreamKey

FEATURES, CONTEXT = 12, 4
KEY = StreamKey(3, "test", "initialise")


def flow(scale: float = 2.0, **choice: object) -> Flow:
    config = MAFConfig(blocks=3, hidden=20, hidden_layers=3, **choice)
    built = build_maf(config, FEATURES, CONTEXT, KEY).double().eval()
    with torch.no_grad():
        for weight in built.parameters():
            weight.mul_(scale)
    return built


def draw(rows: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(6)
    noise = 7 * torch.randn(rows, FEATURES, dtype=torch.float64, generator=generator)
    return noise, torch.randn(rows, CONTEXT, dtype=torch.float64, generator=generator)


def assert_inverts(stepper: Stepper, model: Flow, noise: Tensor, context: Tensor | None) -> None:
    found, found_log = stepper(noise, context)
    with torch.no_grad():
        expected, expected_log = model._transform.inverse(noise, context)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)
    torch.testing.assert_close(found_log, expected_log, rtol=0, atol=1e-7)


@pytest.mark.parametrize("permutations", ["reverse-random", "random"])
@pytest.mark.parametrize(
    "make",
    [IncrementalInverter, JacobiInverter, partial(JacobiInverter, panel=5), partial(JacobiInverter, panel=1)],
)
@pytest.mark.parametrize("rows", [1, 7, 8, 20])
def test_it_is_the_flow_s_inverse(make: Callable[..., object], permutations: str, rows: int) -> None:
    model = flow(permutations=permutations)
    assert_inverts(Stepper(model._transform, 8, context=CONTEXT, make=make), model, *draw(rows))


@pytest.mark.parametrize("sweeps", [1, 2, 3, 100])
@pytest.mark.parametrize("panel", [None, 5])
def test_any_number_of_recorded_sweeps_gives_the_same(sweeps: int, panel: int | None) -> None:
    model = flow(scale=1.5, network="residual", context_output="all")
    make = partial(JacobiInverter, panel=panel)
    stepper = Stepper(model._transform, 16, context=CONTEXT, make=make, sweeps=sweeps)
    assert_inverts(stepper, model, *draw(16))
    assert (stepper.extra_sweeps == 0) == (sweeps == 100)


def test_batches_do_not_leave_traces() -> None:
    """The second call gives what a fresh stepper gives, NaN and a larger batch in between or not."""
    model = flow()
    stepper = Stepper(model._transform, 8, context=CONTEXT, sweeps=2)
    noise, context = draw(5)
    first = stepper(noise, context)
    stepper(noise * float("nan"), context)
    stepper(*draw(30))
    again = stepper(noise, context)
    fresh = Stepper(model._transform, 8, context=CONTEXT, sweeps=2)(noise, context)
    for one, other, third in zip(first, again, fresh, strict=True):
        assert torch.equal(one, other)
        assert torch.equal(one, third)


def test_padding_does_not_change_a_row() -> None:
    model = flow()
    stepper = Stepper(model._transform, 8, context=CONTEXT)
    noise, context = draw(8)
    whole, _ = stepper(noise, context)
    part, _ = stepper(noise[:3], context[:3])
    assert torch.equal(part, whole[:3])


def test_rows_of_an_earlier_call_cost_no_sweeps() -> None:
    stepper = Stepper(flow()._transform, 8, context=CONTEXT, sweeps=2)
    noise, context = draw(8)
    stepper(noise, context)
    before = stepper.extra_sweeps
    stepper(torch.full_like(noise[:1], 100.0), context[:1])
    assert before > 0
    assert stepper.extra_sweeps == before


def test_nan_stays_in_its_row() -> None:
    model = flow()
    stepper = Stepper(model._transform, 8, context=CONTEXT, sweeps=2)
    noise, context = draw(8)
    expected, _ = stepper(noise, context)
    noise[5, 0] = float("nan")
    found, _ = stepper(noise, context)
    others = torch.arange(8) != 5
    assert found[5].isnan().any()
    assert torch.equal(found[others], expected[others])


def test_nothing_gives_nothing() -> None:
    data, log_det = Stepper(flow()._transform, 8, context=CONTEXT)(*draw(0))
    assert data.shape == (0, FEATURES)
    assert log_det.shape == (0,)


def test_without_context_and_of_a_single_made() -> None:
    model = flow()
    made = model._transform._transforms[0]
    noise, _ = draw(9)
    found, _ = Stepper(made, 4, context=0)(noise, None)
    torch.testing.assert_close(found, made.inverse(noise, None)[0], rtol=0, atol=1e-9)


def test_it_stands_in_for_a_transform() -> None:
    model = flow()
    noise, context = draw(4)
    stepper = Stepper(model._transform, 4, context=CONTEXT)
    for one, other in zip(stepper.inverse(noise, context), stepper(noise, context), strict=True):
        assert torch.equal(one, other)


def test_results_are_not_overwritten_by_the_next_call() -> None:
    stepper = Stepper(flow()._transform, 8, context=CONTEXT)
    noise, context = draw(8)
    first, _ = stepper(noise, context)
    kept = first.clone()
    stepper(noise + 1, context)
    assert torch.equal(first, kept)


class Tape:
    """Stands in for the graph recorder: runs each piece as often as recording does, and counts launches."""

    def __init__(self) -> None:
        self.launches = 0

    def __call__(self, work: Work) -> Work:
        for _ in range(3):
            work()

        def launch() -> None:
            self.launches += 1
            work()

        return launch


@pytest.mark.parametrize(("panel", "pieces"), [(None, 3), (6, 6), (1, 36)])
def test_a_good_guess_costs_one_launch_per_piece(panel: int | None, pieces: int) -> None:
    tape = Tape()
    make = partial(JacobiInverter, panel=panel)
    model = flow()
    stepper = Stepper(model._transform, 8, context=CONTEXT, make=make, sweeps=12, record=tape)
    assert_inverts(stepper, model, *draw(8))
    assert tape.launches == pieces + 1


def test_what_had_not_settled_is_continued_and_what_follows_repeated() -> None:
    tape, model = Tape(), flow()
    stepper = Stepper(model._transform, 8, context=CONTEXT, sweeps=2, record=tape)
    assert_inverts(stepper, model, *draw(8))
    assert stepper.extra_sweeps > 0
    assert tape.launches == (3 + 2 + 1) + stepper.extra_sweeps + 1


class Blind(TorchDispatchMode):
    """Operations on the device only: reading a number on the host is an error, as it is while recording."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        if name in {"_local_scalar_dense", "nonzero", "masked_select", "unique2", "lift_fresh"}:
            raise AssertionError(f"{name} needs the host")
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("make", [IncrementalInverter, JacobiInverter, partial(JacobiInverter, panel=5)])
def test_no_piece_of_work_looks_at_a_number(make: Callable[..., object]) -> None:
    def record(work: Work) -> Work:
        def launch() -> None:
            with Blind():
                work()

        return launch

    with pytest.raises(AssertionError, match="host"):
        record(lambda: bool(torch.ones(2).all()))()
    model = flow()
    stepper = Stepper(model._transform, 8, context=CONTEXT, make=make, sweeps=2, record=record)
    assert_inverts(stepper, model, *draw(8))


def test_other_transforms_are_refused() -> None:
    made = flow()._transform._transforms[0]
    mixed = CompositeTransform([made, IdentityTransform()])
    with pytest.raises(ConfigError, match="IdentityTransform"):
        Stepper(mixed, 8, context=CONTEXT)


def test_it_refuses_what_its_buffers_were_not_made_for() -> None:
    stepper = Stepper(flow()._transform, 8, context=CONTEXT)
    noise, context = draw(5)
    for wrong in ((noise, None), (noise, context[:1]), (noise, context.float()), (noise[:, :5], context)):
        with pytest.raises(ConfigError, match="expected"):
            stepper(*wrong)
