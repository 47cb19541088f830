"""Settings of one component's training."""

from __future__ import annotations

__all__ = ["TrainingConfig"]

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from caloray.training.schedule import OneCycle, Schedule


class TrainingConfig(BaseModel):
    """How one component is trained.

    Args:
        epochs: Passes over the training rows.
        batch: Rows per step, over all data-parallel workers together.
        optimizer: "adam" or "adamw".
        learning_rate: Used where the schedule does not set its own.
        weight_decay: Of the optimizer.
        clip: Largest gradient norm, or None.
        schedule: Learning-rate schedule.
        dtype: Precision of weights and batches; the inverse spline is always float64.
        validation_rows: Size of the fixed validation subsample.
        select: Weights that become the result: the best validation loss, or the last epoch's.
        patience: Stop after so many epochs without a better validation loss; None trains all epochs.
        checkpoint_steps: Steps between checkpoints, besides one per epoch; None writes only those.
        device: "auto" takes a GPU where there is one.
        warm_start: Weights to start from, where names and shapes agree. "previous": those of the layer before
            in the same run, which is trained first; a component's name: those of that component of the same
            run, for all but itself; a path: those of the same component of a bundle or of another run. None
            starts afresh.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int = Field(100, ge=1)
    batch: int = Field(1000, ge=1)
    optimizer: Literal["adam", "adamw"] = "adam"
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    clip: float | None = Field(None, gt=0)
    schedule: Schedule = OneCycle()
    dtype: Literal["float32", "float64"] = "float32"
    validation_rows: int = Field(20_000, ge=1)
    select: Literal["best", "last"] = "best"
    patience: int | None = Field(None, ge=1)
    checkpoint_steps: int | None = Field(500, ge=1)
    device: str = "auto"
    warm_start: str | None = Field(None, min_length=1)
