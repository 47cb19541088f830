"""Optimizer and schedule from a checkpoint, with the settings of whoever goes on with it.

A resumed training finds its own settings and takes everything as it was. A tuning campaign may go on from the
checkpoint of another training with another learning rate, weight decay or schedule; those then count from
here on, while the moments of the optimizer and the place in the schedule stay.
"""

from __future__ import annotations

__all__ = ["continuable", "restore"]

from typing import Any

from torch.optim import Optimizer, lr_scheduler

from caloray.training.config import TrainingConfig
from caloray.training.schedule import Constant, Cyclic, MultiStep

_SETTINGS = ("base_lrs", "max_lrs", "total_size", "step_ratio", "gamma", "milestones")


def continuable(config: TrainingConfig) -> bool:
    """Whether the learning rate of a step does not depend on the number of epochs in all."""
    return isinstance(config.schedule, Constant | MultiStep | Cyclic)


def restore(
    config: TrainingConfig, optimizer: Optimizer, schedule: lr_scheduler.LRScheduler, state: dict[str, Any]
) -> None:
    """Bring ``optimizer`` and ``schedule``, freshly built from ``config``, to the checkpoint's state.

    Where the checkpoint was written with other settings, ``config`` has the last word.

    Args:
        config: Settings of the training that goes on.
        optimizer: Takes the checkpoint's moments.
        schedule: Takes the checkpoint's place.
        state: The checkpoint.
    """
    own = {name: getattr(schedule, name) for name in _SETTINGS if hasattr(schedule, name)}
    optimizer.load_state_dict(state["optimizer"])
    schedule.load_state_dict(state["schedule"])
    if not continuable(config):
        return
    for group in optimizer.param_groups:
        group["weight_decay"] = config.weight_decay
    if all(getattr(schedule, name) == value for name, value in own.items()):
        return
    for name, value in own.items():
        setattr(schedule, name, value)
    _set_rates(optimizer, schedule)


def _set_rates(optimizer: Optimizer, schedule: lr_scheduler.LRScheduler) -> None:
    """The learning rate that the schedule's settings give at its place."""
    if isinstance(schedule, lr_scheduler.CyclicLR):
        schedule.last_epoch -= 1
        schedule.step()
        return
    rates = schedule._get_closed_form_lr()  # type: ignore[attr-defined]
    for group, rate, base in zip(optimizer.param_groups, rates, schedule.base_lrs, strict=True):
        group["lr"], group["initial_lr"] = rate, base
    schedule._last_lr = list(rates)
