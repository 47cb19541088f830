"""The training loop of one component."""

from __future__ import annotations

__all__ = ["TrainRequest", "finished_result", "identity_of", "train_component"]

import math
import resource
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from caloray.atomic import write_json
from caloray.errors import NumericalError
from caloray.flows.conv.actnorm import ActNorm, initialise_flow
from caloray.interrupt import StopRequest
from caloray.io.store import LayerStore
from caloray.rng import StreamKey
from caloray.schemes.component import Component
from caloray.training.config import TrainingConfig
from caloray.training.continuing import continuable, restore
from caloray.training.files import ComponentFolder, ComponentResult
from caloray.training.parallel import SINGLE, Parallel
from caloray.training.rows import RowPlan
from caloray.training.schedule import build_schedule
from caloray.training.warm import WarmStart, start_from

FREE = frozenset({"training.patience", "training.checkpoint_steps", "training.device", "training.warm_start"})
"""Settings that may change between a stop and its continuation without changing what has been done; of a
warm start the hash of the weights counts, not where they lie."""


@dataclass(frozen=True)
class TrainRequest:
    """One component to be trained.

    Args:
        component: The component.
        config: Its training settings.
        directory: ``<run>/components/<name>``.
        seed: The run's seed.
        identity: What else determines the result (scheme, data digest), for the check on resuming.
        warm: Weights to start from.
    """

    component: Component
    config: TrainingConfig
    directory: Path
    seed: int
    identity: dict[str, Any] = field(default_factory=dict)
    warm: WarmStart | None = None


def train_component(
    request: TrainRequest,
    training: LayerStore,
    validation: LayerStore,
    parallel: Parallel = SINGLE,
    stop: StopRequest | None = None,
) -> ComponentResult:
    """Train one component, or go on where an earlier call was stopped.

    Progress, history, checkpoints and the result appear in ``request.directory``. A resumed training takes
    the same next batch with the same noise, so that its result equals an undisturbed one's.

    Args:
        request: What to train.
        training: Rows to train on.
        validation: Rows of the validation loss.
        parallel: Place among data-parallel workers.
        stop: Looked at after every step.

    Raises:
        NumericalError: The loss or a gradient is not finite; the weights were not updated with it.
        CheckpointError: The folder belongs to another config, or no checkpoint verifies.
        InterruptedRunError: A stop was requested; a checkpoint was written first.
    """
    finished = finished_result(request)
    if finished is not None:
        return finished
    if parallel.leader:
        folder = ComponentFolder(request.directory)
        open_ended = continuable(request.config)
        folder.claim(identity_of(request), free=FREE | {"training.epochs"} if open_ended else FREE)
        folder.write_pid()
    return _Loop(request, training, validation, parallel, stop or StopRequest()).run()


def finished_result(request: TrainRequest) -> ComponentResult | None:
    """What an earlier training of exactly this request left, or None.

    Raises:
        CheckpointError: The folder holds the result of another config, or the weights were altered.
    """
    folder = ComponentFolder(request.directory)
    finished = folder.result()
    if finished is not None:
        folder.claim(identity_of(request), free=FREE)
    return finished


def identity_of(request: TrainRequest) -> dict[str, Any]:
    """What determines the result of a training."""
    warm = {} if request.warm is None else {"warm_start": {"sha256": request.warm.sha256}}
    return {"training": request.config.model_dump(mode="json"), **request.identity, **warm}


class _Loss(nn.Module):
    """Mean negative log-likelihood; a module, because data-parallel wrappers hook ``forward``."""

    def __init__(self, flow: nn.Module) -> None:
        super().__init__()
        self.flow = flow

    def forward(self, target: Tensor, context: Tensor) -> Tensor:
        """Nats per row."""
        loss: Tensor = -self.flow.log_prob(target, context).mean()  # type: ignore[operator]
        return loss


class _Loop:
    """State of one training: what a checkpoint holds, and the steps that change it."""

    def __init__(
        self,
        request: TrainRequest,
        training: LayerStore,
        validation: LayerStore,
        parallel: Parallel,
        stop: StopRequest,
    ) -> None:
        config, component = request.config, request.component
        self.request, self.parallel, self.stop = request, parallel, stop
        self.folder = ComponentFolder(request.directory)
        self.device = _device(config.device)
        self.dtype = getattr(torch, config.dtype)
        self.flow = component.build().to(self.device, self.dtype)
        self.plan = RowPlan(
            component,
            training,
            config.batch,
            request.seed,
            parallel.rank,
            parallel.world,
            dtype=self.dtype,
        )
        self.held_out = RowPlan(component, validation, config.batch, request.seed, dtype=self.dtype)
        state = self.folder.checkpoints.load_newest()
        self.warm: dict[str, str | int] | None = None
        if state is None:
            self._begin()
        self.loss = parallel.wrap(_Loss(self.flow))
        self.optimizer = _optimizer(config, self.flow)
        self.schedule, self.per_step = build_schedule(
            config.schedule, self.optimizer, config.epochs, self.plan.steps_per_epoch
        )
        self.epoch = self.step = 0
        self.loss_sum = 0.0
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, Any] = {"epoch": -1, "loss": math.inf, "weights": {}}
        self.started = time.monotonic()
        self.epoch_started = self.started
        self.reported = 0.0
        if state is not None:
            self._restore(state)

    def _begin(self) -> None:
        """The flow before its first step: a warm start, then what is to be set from data, on rank 0 alone.

        Comes before the wrapper, which gives rank 0's parameters and buffers to the other workers. The data
        are the whole first batch as a single worker would see it, however many share it.
        """
        if self.request.warm is not None:
            self.warm = start_from(self.flow, self.request.warm)
        unset = any(isinstance(part, ActNorm) and not part.initialized for part in self.flow.modules())
        if not (unset and self.parallel.leader):
            return
        key = StreamKey(self.request.seed, self.request.component.name, "initialise-from-data")
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(key.seed64())
            whole = replace(self.plan, rank=0, world=1)
            initialise_flow(self.flow, *(self._to(part) for part in whole.training_batch(0, 0)))

    def run(self) -> ComponentResult:
        """Train to the end."""
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            while self.epoch < self.request.config.epochs and not self._out_of_patience():
                self._run_epoch()
        return self._finish()

    def _run_epoch(self) -> None:
        self.loss.train()
        self.epoch_started, first = time.monotonic(), self.step
        every = self.request.config.checkpoint_steps
        while self.step < self.plan.steps_per_epoch:
            self._train_step()
            if self.stop.requested:
                self._save()
                self.stop.check(f"training of {self.request.component.name}")
            if every and self.step % every == 0 and self.step < self.plan.steps_per_epoch:
                self._save()
            self._report()
        self._end_epoch(self.step - first)

    def _train_step(self) -> None:
        target, context = self.plan.training_batch(self.epoch, self.step)
        torch.manual_seed(self.plan.dropout_seed(self.epoch, self.step))
        loss = self.loss(self._to(target), self._to(context))
        value = float(loss.detach())
        self.optimizer.zero_grad(set_to_none=True)
        if not math.isfinite(value):
            raise self._not_finite("loss", value)
        loss.backward()
        limit = self.request.config.clip or math.inf
        norm = float(nn.utils.clip_grad_norm_(self.flow.parameters(), limit))
        if not math.isfinite(norm):
            raise self._not_finite("gradient norm", norm)
        self.optimizer.step()
        if self.per_step and self.schedule.last_epoch < getattr(self.schedule, "total_steps", math.inf) - 1:
            self.schedule.step()
        self.loss_sum += value
        self.step += 1

    def _end_epoch(self, steps_here: int) -> None:
        validation = self._validate()
        if not self.per_step:
            self.schedule.step()
        seconds = time.monotonic() - self.epoch_started
        self.history.append(
            {
                "epoch": self.epoch,
                "step": (self.epoch + 1) * self.plan.steps_per_epoch,
                "train_loss": self.loss_sum / self.plan.steps_per_epoch,
                "val_loss": validation,
                "val_loss_per_dim": validation / self.request.component.features,
                "lr": self.optimizer.param_groups[0]["lr"],
                "seconds": seconds,
                "rows_per_second": steps_here * self.plan.batch_rows / max(seconds, 1e-9),
            }
        )
        if validation < self.best["loss"]:
            self.best = {"epoch": self.epoch, "loss": validation, "weights": _copy(self.flow)}
        self.epoch, self.step, self.loss_sum = self.epoch + 1, 0, 0.0
        self._save()
        if self.parallel.leader:
            self.folder.write_history(self.history)
        self._report(force=True)

    @torch.no_grad()
    def _validate(self) -> float:
        self.loss.eval()
        total = rows = 0.0
        for piece, key in self.held_out.fixed_batches(self.request.config.validation_rows):
            target, context = self.held_out.fixed_batch(piece, key)
            log_prob = self.flow.log_prob(self._to(target), self._to(context))
            total -= float(log_prob.double().sum())
            rows += len(piece)
        total = self.parallel.agree(total)
        if not math.isfinite(total):
            raise self._not_finite("validation loss", total)
        return total / rows

    def _finish(self) -> ComponentResult:
        if self.parallel.leader:
            self.folder.write_history(self.history)
            keep_last = self.request.config.select == "last" or not self.best["weights"]
            last = self.history[-1]
            self.folder.write_result(
                _copy(self.flow) if keep_last else self.best["weights"],
                component=self.request.component.name,
                parameters=self.request.component.parameters,
                epochs=self.epoch,
                selected_epoch=self.epoch - 1 if keep_last else self.best["epoch"],
                validation_loss=last["val_loss"] if keep_last else self.best["loss"],
                seconds=time.monotonic() - self.started,
                warm_start=self.warm,
                memory=_peak_memory(),
            )
        self.parallel.barrier()
        result = self.folder.result()
        if result is None:
            raise NumericalError(f"component {self.request.component.name}: no result was written by rank 0")
        return result

    def _out_of_patience(self) -> bool:
        patience = self.request.config.patience
        return patience is not None and self.epoch - 1 - self.best["epoch"] >= patience and self.epoch > 0

    def _save(self) -> None:
        if not self.parallel.leader:
            return
        state = {
            "epoch": self.epoch,
            "step": self.step,
            "loss_sum": self.loss_sum,
            "flow": self.flow.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "history": self.history,
            "best": self.best,
            "warm": self.warm,
        }
        self.folder.checkpoints.save(self.epoch * self.plan.steps_per_epoch + self.step, state)

    def _restore(self, state: dict[str, Any]) -> None:
        self.flow.load_state_dict(state["flow"])
        restore(self.request.config, self.optimizer, self.schedule, state)
        self.epoch, self.step, self.loss_sum = state["epoch"], state["step"], state["loss_sum"]
        self.history, self.best = state["history"], state["best"]
        self.warm = state.get("warm")

    def _report(self, *, force: bool = False) -> None:
        now = time.monotonic()
        if not self.parallel.leader or not (force or now - self.reported > 1.0):
            return
        self.reported = now
        steps = self.plan.steps_per_epoch
        progress = {
            "component": self.request.component.name,
            "epoch": self.epoch,
            "epochs": self.request.config.epochs,
            "memory": _peak_memory(),
            "step": self.epoch * steps + self.step,
            "total_steps": self.request.config.epochs * steps,
            "loss": self.loss_sum / self.step if self.step else self.history[-1]["train_loss"],
            "val_loss": self.history[-1]["val_loss"] if self.history else None,
        }
        write_json(self.folder.progress_file, progress)

    def _not_finite(self, what: str, value: float) -> NumericalError:
        rows = self.plan.select(self.epoch, min(self.step, self.plan.steps_per_epoch - 1))
        ids = self.plan.store.event_ids[rows[:5, 0]].tolist()
        return NumericalError(
            f"component {self.request.component.name}: {what} is {value} in epoch {self.epoch}, "
            f"step {self.step} (events {ids} ...); the weights were not updated",
            hint="lower the learning rate or set training clip; the last checkpoint is kept",
            component=self.request.component.name,
            epoch=self.epoch,
            step=self.step,
        )

    def _to(self, batch: Tensor) -> Tensor:
        return batch.to(self.device, self.dtype, non_blocking=True)


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)


def _peak_memory() -> int:
    """Largest resident memory of this process so far [bytes]."""
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _optimizer(config: TrainingConfig, flow: nn.Module) -> torch.optim.Optimizer:
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return kind(flow.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)


def _copy(flow: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in flow.state_dict().items()}
