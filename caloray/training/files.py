"""The folder of one component's training: identity, progress, history, result."""

from __future__ import annotations

__all__ = ["ComponentFolder", "ComponentResult"]

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save
from torch import Tensor

from caloray.atomic import sha256_bytes, sha256_file, staging_directory, write_bytes, write_json
from caloray.errors import CheckpointError
from caloray.training.checkpoint import CheckpointStore


@dataclass(frozen=True)
class ComponentResult:
    """A trained component.

    Args:
        component: Its name.
        sha256: Hash of the weights file.
        parameters: Trainable parameters.
        epochs: Epochs trained.
        selected_epoch: Epoch whose weights were kept.
        validation_loss: Their validation loss, nats per row.
        seconds: Training time of the process that finished it, since its start.
        warm_start: What it started from: "source", "sha256", and how many "tensors" of "of" agreed; None if
            it started afresh.
        memory: Largest resident memory of that process [bytes]; 0 where it is not known.
    """

    component: str
    sha256: str
    parameters: int
    epochs: int
    selected_epoch: int
    validation_loss: float
    seconds: float
    warm_start: dict[str, str | int] | None = None
    memory: int = 0


@dataclass(frozen=True)
class ComponentFolder:
    """Paths and files of ``<run>/components/<name>``."""

    path: Path

    @property
    def checkpoints(self) -> CheckpointStore:
        """Its checkpoints."""
        return CheckpointStore(self.path / "checkpoints")

    @property
    def history_file(self) -> Path:
        """One JSON object per epoch and line."""
        return self.path / "history.jsonl"

    @property
    def progress_file(self) -> Path:
        """Where the training is now, rewritten about once a second."""
        return self.path / "progress.json"

    @property
    def weights_file(self) -> Path:
        """Weights of the result."""
        return self.path / "result" / "weights.safetensors"

    def claim(self, identity: dict[str, Any], free: frozenset[str] = frozenset()) -> None:
        """Record what is trained here, if nothing else is on record; see :meth:`require`."""
        self.require(identity, free)
        write_json(self.path / "identity.json", identity)

    def require(self, identity: dict[str, Any], free: frozenset[str] = frozenset()) -> None:
        """Refuse a training other than the one on record here.

        Args:
            identity: Nested plain values that determine the result.
            free: Dotted names of fields that may change.

        Raises:
            CheckpointError: The folder belongs to another config; the fields that differ are named.
        """
        file = self.path / "identity.json"
        if file.exists():
            recorded = _flat(_read(file, "use another output directory, or --fresh to discard what is there"))
            wanted = _flat(json.loads(json.dumps(identity)))
            changed = [
                f"{name}: {recorded.get(name)!r} -> {wanted.get(name)!r}"
                for name in sorted(recorded.keys() | wanted.keys())
                if recorded.get(name) != wanted.get(name) and name not in free
            ]
            if changed:
                raise CheckpointError(
                    f"{self.path}: was trained with another config ({'; '.join(changed[:5])})",
                    hint="use another output directory, or --fresh to discard what is there",
                )

    def started_from(self) -> str | None:
        """Hash of the weights that an earlier call started from, None if there are none on record."""
        try:
            found = json.loads((self.path / "identity.json").read_text())["warm_start"]["sha256"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return str(found)

    def write_pid(self) -> None:
        """Leave the worker's process id for those who watch it."""
        write_bytes(self.path / "worker.pid", f"{os.getpid()}\n".encode())

    def write_history(self, history: list[dict[str, Any]]) -> None:
        """Replace the history file."""
        write_bytes(self.history_file, "".join(json.dumps(row) + "\n" for row in history).encode())

    def result(self) -> ComponentResult | None:
        """The finished component, or None.

        Raises:
            CheckpointError: The weights are not those that were recorded.
        """
        record = self.path / "result" / "component.json"
        if not record.exists():
            return None
        hint = "remove the folder 'result'; the same command rebuilds it from the last checkpoint"
        try:
            result = ComponentResult(**_read(record, hint))
        except TypeError as error:
            raise CheckpointError(f"{record}: not a record of a training ({error})", hint=hint) from error
        if not self.weights_file.is_file() or sha256_file(self.weights_file) != result.sha256:
            raise CheckpointError(
                f"{self.weights_file}: differs from the sha256 recorded when training ended", hint=hint
            )
        return result

    def write_result(self, weights: dict[str, Tensor], **facts: Any) -> ComponentResult:
        """Commit the final weights with their record, both or neither."""
        data = save({k: v.contiguous() for k, v in weights.items()})
        result = ComponentResult(sha256=sha256_bytes(data), **facts)
        with staging_directory(self.path / "result") as temporary:
            (temporary / "weights.safetensors").write_bytes(data)
            (temporary / "component.json").write_text(json.dumps(asdict(result), indent=1, sort_keys=True))
        return result

    def weights(self) -> dict[str, Tensor]:
        """Weights of the result."""
        return load_file(self.weights_file)


def _read(file: Path, hint: str) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file}: unreadable ({error})", hint=hint) from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{file}: expected an object, found {type(value).__name__}", hint=hint)
    return value


def _flat(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, item in value.items():
        if isinstance(item, dict):
            out |= _flat(item, f"{prefix}{name}.")
        else:
            out[prefix + name] = item
    return out
