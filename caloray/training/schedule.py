"""Learning-rate schedules of the published models, as torch schedulers."""

from __future__ import annotations

__all__ = ["Constant", "Cyclic", "Exponential", "MultiStep", "OneCycle", "Schedule", "build_schedule"]

from typing import Annotated, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch.optim import Optimizer, lr_scheduler


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class OneCycle(_Frozen):
    """One warm-up and anneal over the whole training, stepped per batch (Smith & Topin, arXiv:1708.07120).

    Args:
        kind: "onecycle".
        max_lr: Peak learning rate.
        pct_start: Share of the steps spent rising.
        div: Peak over initial learning rate.
        final_div: Initial over final learning rate.
        three_phase: Fall back to the initial rate symmetrically before annealing, as CaloFlow does.
        base_momentum: Adam's beta1 at the peak.
        max_momentum: Adam's beta1 at both ends.
    """

    kind: Literal["onecycle"] = "onecycle"
    max_lr: float = Field(1e-3, gt=0)
    pct_start: float = Field(0.4, gt=0, lt=1)
    div: float = Field(25.0, ge=1)
    final_div: float = Field(1e4, ge=1)
    three_phase: bool = False
    base_momentum: float = Field(0.85, ge=0, lt=1)
    max_momentum: float = Field(0.95, ge=0, lt=1)


class MultiStep(_Frozen):
    """Multiply the learning rate by ``gamma`` at each milestone (epochs)."""

    kind: Literal["multistep"]
    milestones: tuple[int, ...]
    gamma: float = Field(0.5, gt=0, le=1)


class Exponential(_Frozen):
    """Fall by the same factor each epoch, by ``total`` over the whole training."""

    kind: Literal["exponential"]
    total: float = Field(3e-3, gt=0, le=1)


class Cyclic(_Frozen):
    """Triangles between two rates, the amplitude halved after each, stepped per batch (triangular2)."""

    kind: Literal["cyclic"]
    base_lr: float = Field(5e-5, gt=0)
    max_lr: float = Field(2e-3, gt=0)
    step_up: int = Field(850, ge=1)


class Constant(_Frozen):
    """The optimizer's learning rate throughout."""

    kind: Literal["constant"]


Schedule = Annotated[OneCycle | MultiStep | Exponential | Cyclic | Constant, Field(discriminator="kind")]


def build_schedule(
    config: Schedule, optimizer: Optimizer, epochs: int, steps_per_epoch: int
) -> tuple[lr_scheduler.LRScheduler, bool]:
    """The torch scheduler and whether it is stepped per batch (else per epoch)."""
    match config:
        case OneCycle():
            total = max(2, epochs * steps_per_epoch)
            rising = max(config.pct_start, 1.5 / total)  # torch divides by zero where one step would rise
            return lr_scheduler.OneCycleLR(
                optimizer,
                max_lr=config.max_lr,
                total_steps=total,
                pct_start=rising,
                div_factor=config.div,
                final_div_factor=config.final_div,
                three_phase=config.three_phase,
                base_momentum=config.base_momentum,
                max_momentum=config.max_momentum,
            ), True
        case Cyclic():
            return lr_scheduler.CyclicLR(
                optimizer,
                base_lr=config.base_lr,
                max_lr=config.max_lr,
                step_size_up=config.step_up,
                mode="triangular2",
                cycle_momentum=False,
            ), True
        case MultiStep():
            return lr_scheduler.MultiStepLR(optimizer, list(config.milestones), config.gamma), False
        case Exponential():
            return lr_scheduler.ExponentialLR(optimizer, config.total ** (1 / epochs)), False
        case Constant():
            return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0), False
