"""Going on from a checkpoint: everything as it was, or with the settings of whoever goes on."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from torch import nn

from caloray.training.config import TrainingConfig
from caloray.training.continuing import continuable, restore
from caloray.training.schedule import build_schedule

EPOCHS, STEPS = 6, 5


def config(schedule: dict[str, Any], **changes: Any) -> TrainingConfig:
    return TrainingConfig.model_validate({"epochs": EPOCHS, "schedule": schedule, **changes})


def build(settings: TrainingConfig) -> tuple[Any, Any, bool]:
    weight = nn.Parameter(torch.ones(3))
    kind = torch.optim.AdamW if settings.optimizer == "adamw" else torch.optim.Adam
    optimizer = kind([weight], lr=settings.learning_rate, weight_decay=settings.weight_decay)
    return optimizer, *build_schedule(settings.schedule, optimizer, settings.epochs, STEPS)


def train(optimizer: Any, schedule: Any, per_step: bool, epochs: int) -> list[float]:
    """Learning rate of every step."""
    rates = []
    for _ in range(epochs):
        for _ in range(STEPS):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.param_groups[0]["params"][0].grad = torch.ones(3)
            optimizer.step()
            if per_step:
                schedule.step()
        if not per_step:
            schedule.step()
    return rates


def checkpoint(optimizer: Any, schedule: Any) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save({"optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


SCHEDULES = {
    "constant": {"kind": "constant"},
    "multistep": {"kind": "multistep", "milestones": [1, 3], "gamma": 0.3},
    "cyclic": {"kind": "cyclic", "base_lr": 1e-4, "max_lr": 1e-3, "step_up": 4},
    "onecycle": {"kind": "onecycle"},
    "exponential": {"kind": "exponential"},
}


@pytest.mark.parametrize("kind", SCHEDULES)
def test_with_the_same_settings_nothing_changes(kind: str) -> None:
    settings = config(SCHEDULES[kind], weight_decay=0.01)
    whole = train(*build(settings), EPOCHS - 1)
    optimizer, schedule, per_step = build(settings)
    first = train(optimizer, schedule, per_step, 2)
    state = checkpoint(optimizer, schedule)
    optimizer, schedule, per_step = build(settings)
    restore(settings, optimizer, schedule, state)
    assert checkpoint(optimizer, schedule)["optimizer"]["param_groups"] == state["optimizer"]["param_groups"]
    assert first + train(optimizer, schedule, per_step, EPOCHS - 3) == whole


@pytest.mark.parametrize("kind", ["constant", "multistep", "cyclic"])
def test_other_settings_count_from_here_on(kind: str) -> None:
    """The rates are those of a training that had the new settings all along; the moments stay."""
    old = config(SCHEDULES[kind], learning_rate=1e-3)
    changed = {"base_lr": 2e-4, "max_lr": 4e-3} if kind == "cyclic" else {}
    new = config({**SCHEDULES[kind], **changed}, learning_rate=5e-3, weight_decay=0.1, epochs=9)
    optimizer, schedule, per_step = build(old)
    train(optimizer, schedule, per_step, 2)
    state = checkpoint(optimizer, schedule)
    optimizer, schedule, per_step = build(new)
    restore(new, optimizer, schedule, state)
    assert optimizer.param_groups[0]["weight_decay"] == 0.1
    assert torch.equal(
        next(iter(optimizer.state.values()))["exp_avg"], state["optimizer"]["state"][0]["exp_avg"]
    )
    continued = train(optimizer, schedule, per_step, 3)
    assert continued == pytest.approx(train(*build(new), 5)[2 * STEPS :], rel=1e-12)


def test_which_schedules_know_no_end() -> None:
    assert {kind: continuable(config(SCHEDULES[kind])) for kind in SCHEDULES} == {
        "constant": True, "multistep": True, "cyclic": True, "onecycle": False, "exponential": False,
    }  # fmt: skip
