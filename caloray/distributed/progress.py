"""How far the components are, read from the files that their workers leave."""

from __future__ import annotations

__all__ = ["ComponentProgress", "ComponentState", "ProgressReader", "State"]

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

State = Literal["waiting", "running", "done", "failed"]


@dataclass(frozen=True)
class ComponentProgress:
    """One component's place in its training.

    Args:
        component: Its name.
        step: Steps done.
        total: Steps in all.
        epoch: Epochs done.
        loss: Mean training loss of the current epoch, nats per row.
        rate: Steps per second since the last look; 0 when unknown.
        val_loss: Validation loss of the last epoch, if there was one.
        epochs: Epochs in all; 0 when unknown.
        memory: Largest resident memory of the worker so far [bytes]; 0 when unknown.
    """

    component: str
    step: int
    total: int
    epoch: int
    loss: float
    rate: float
    val_loss: float | None
    epochs: int = 0
    memory: int = 0

    @property
    def seconds_left(self) -> float | None:
        """Until the last step at the present speed; None when that is not known."""
        return (self.total - self.step) / self.rate if self.rate > 0 else None


@dataclass(frozen=True)
class ComponentState:
    """One component among all of a training.

    Args:
        component: Its name.
        state: "waiting", "running", "done" or "failed".
        now: How far it is, if it ever began.
        note: Why it waits or failed, in one line.
    """

    component: str
    state: State
    now: ComponentProgress | None = None
    note: str = ""


class ProgressReader:
    """Reads ``progress.json`` of one component and keeps the speed between two looks.

    Args:
        component: Name of the component.
        directory: Its directory.
    """

    def __init__(self, component: str, directory: Path) -> None:
        self._component = component
        self._path = directory / "progress.json"
        self._seen: tuple[int, float] | None = None
        self._rate = 0.0

    def read(self) -> ComponentProgress | None:
        """The present state, None before the first step."""
        try:
            value = json.loads(self._path.read_text())
            step, total = int(value["step"]), int(value["total_steps"])
            loss = float(value["loss"])
            validation = value.get("val_loss")
        except (OSError, ValueError, KeyError, TypeError):
            return None
        self._clock(step)
        return ComponentProgress(
            component=self._component,
            step=step,
            total=total,
            epoch=int(value.get("epoch", 0)),
            loss=loss,
            rate=self._rate,
            val_loss=None if validation is None else float(validation),
            epochs=int(value.get("epochs", 0)),
            memory=int(value.get("memory", 0)),
        )

    def _clock(self, step: int) -> None:
        now = time.monotonic()
        if self._seen is None:
            self._seen = step, now
        elif step > self._seen[0] and now > self._seen[1]:
            self._rate = (step - self._seen[0]) / (now - self._seen[1])
            self._seen = step, now
        elif step < self._seen[0]:
            self._seen, self._rate = (step, now), 0.0
