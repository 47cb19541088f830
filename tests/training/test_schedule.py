"""Schedules against the published numbers."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from caloray.config import load_config
from caloray.training.schedule import Constant, Cyclic, Exponential, MultiStep, OneCycle, build_schedule

CONFIGS = Path(__file__).parents[2] / "configs"


def run(config, epochs: int, steps_per_epoch: int, lr: float = 1e-3) -> tuple[list[float], list[float]]:
    """Learning rate and beta1 of every step, as the training loop uses them."""
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    schedule, per_step = build_schedule(config, optimizer, epochs, steps_per_epoch)
    rates, betas = [], []
    total = getattr(schedule, "total_steps", math.inf)
    for _ in range(epochs):
        for _ in range(steps_per_epoch):
            rates.append(optimizer.param_groups[0]["lr"])
            betas.append(optimizer.param_groups[0]["betas"][0])
            optimizer.step()
            if per_step and schedule.last_epoch < total - 1:
                schedule.step()
        if not per_step:
            schedule.step()
    return rates, betas


@pytest.mark.parametrize(
    ("component", "rows", "total", "first", "peak"),
    [
        ("layer_energies", 70_000, 35_000, 1e-5, 1e-4),
        ("first_layer", 70_000, 14_000, 2e-5, 1e-3),
        ("next_layer", 44 * 70_000, 184_800, 2e-5, 1e-3),
    ],
)
def test_published_one_cycles_of_dataset_2(component, rows, total, first, peak):
    """Steps and ends of the published training (arXiv:2305.11934), from the shipped config."""
    training = load_config(CONFIGS / "icaloflow_ds2.yaml").training_of(component)
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=training.learning_rate)
    schedule, per_step = build_schedule(training.schedule, optimizer, training.epochs, rows // training.batch)
    assert per_step
    assert schedule.total_steps == total
    group = optimizer.param_groups[0]
    assert group["initial_lr"] == pytest.approx(first)
    assert group["max_lr"] == pytest.approx(peak)
    assert group["min_lr"] == pytest.approx(first / 10)
    assert (group["base_momentum"], group["max_momentum"]) == (0.85, 0.95)
    assert (training.optimizer, training.weight_decay, training.clip, training.dtype) == (
        "adam",
        0,
        None,
        "float64",
    )
    phases = [phase["end_step"] for phase in schedule._schedule_phases]
    assert phases == pytest.approx([0.4 * total - 1, 0.8 * total - 2, total - 1])


def test_one_cycle_rises_falls_and_anneals():
    config = OneCycle(max_lr=1e-3, pct_start=0.4, div=50, final_div=10, three_phase=True)
    rates, betas = run(config, 10, 20)
    assert len(rates) == 200
    assert rates[0] == pytest.approx(2e-5)
    assert max(rates) == pytest.approx(1e-3)
    assert rates.index(max(rates)) == 79
    assert rates[158] == pytest.approx(2e-5, rel=1e-3)
    assert rates[-1] == pytest.approx(2e-6)
    # Halfway up a cosine is the mean of both ends.
    assert rates[39:41] == pytest.approx([5.1e-4, 5.1e-4], rel=0.05)
    assert (betas[0], min(betas), betas[-1]) == pytest.approx((0.95, 0.85, 0.95))
    assert betas.index(min(betas)) == 79


@pytest.mark.parametrize("three_phase", [False, True])
@pytest.mark.parametrize("pct_start", [0.1, 0.2, 0.25, 0.4, 0.5])
def test_one_cycle_of_any_length(three_phase, pct_start):
    """Where pct_start * steps is 1, torch alone divides by zero."""
    for steps in range(1, 41):
        rates, _ = run(OneCycle(pct_start=pct_start, three_phase=three_phase), 1, steps)
        assert all(0 < rate <= 1e-3 * (1 + 1e-9) for rate in rates)


def test_cyclic_triangles_halve():
    """The published CaloFlow teacher (arXiv:2210.14245): up in 850 steps, down in 850, amplitude halved."""
    rates, betas = run(Cyclic(kind="cyclic"), 1, 5101)
    assert rates[0] == pytest.approx(5e-5)
    assert rates[850] == pytest.approx(2e-3)
    assert rates[1700] == pytest.approx(5e-5)
    assert rates[2550] == pytest.approx(5e-5 + 1.95e-3 / 2)
    assert rates[4250] == pytest.approx(5e-5 + 1.95e-3 / 4)
    assert rates[425] == pytest.approx((5e-5 + 2e-3) / 2)
    assert set(betas) == {0.9}


def test_multistep_per_epoch():
    config = MultiStep(kind="multistep", milestones=(4, 5), gamma=0.5)
    rates, _ = run(config, 7, 3, lr=1e-4)
    assert rates == pytest.approx([1e-4] * 12 + [5e-5] * 3 + [2.5e-5] * 6)


def test_dataset_3_teachers_halve_in_epochs_400_and_500():
    training = load_config(CONFIGS / "icaloflow_ds3.yaml").training_of("first_layer")
    assert training.epochs == 750
    rates, _ = run(training.schedule, 750, 1, lr=training.learning_rate)
    assert (rates[399], rates[400], rates[499], rates[500], rates[749]) == pytest.approx(
        (1e-4, 5e-5, 5e-5, 2.5e-5, 2.5e-5)
    )


def test_exponential_reaches_its_total():
    rates, _ = run(Exponential(kind="exponential", total=1e-2), 20, 2)
    assert rates[0] == rates[1] == 1e-3
    ratios = [rates[2 * i + 2] / rates[2 * i] for i in range(19)]
    assert ratios == pytest.approx([1e-2 ** (1 / 20)] * 19)
    assert rates[-1] * ratios[0] == pytest.approx(1e-5)


def test_constant_is_constant():
    assert set(run(Constant(kind="constant"), 5, 4)[0]) == {1e-3}
