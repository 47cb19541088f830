"""Checkpoints that are complete or absent.

A checkpoint is a folder ``step-00001234`` with ``state.pt`` (tensors and plain values only) and
``checkpoint.json`` with the hash of the former. It is written under a temporary name, fsynced and renamed;
an older one is removed only after the newer has been read back and verified. What does not verify is
passed over with a warning.
"""

from __future__ import annotations

__all__ = ["CheckpointStore"]

import json
import logging
import pickle
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from caloray.atomic import TEMPORARY, sha256_file, staging_directory, sweep
from caloray.errors import CheckpointError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CheckpointStore:
    """The checkpoints of one component.

    Args:
        directory: Folder that holds them.
        keep: How many verified ones are kept.
    """

    directory: Path
    keep: int = 2

    def save(self, step: int, state: dict[str, Any]) -> Path:
        """Write a checkpoint, then remove all but the newest ``keep`` verified ones.

        Raises:
            StorageError: The disk is full or not writable; the checkpoints before it are still there.
        """
        final = self.directory / f"step-{step:08d}"
        if final.exists():
            if _problem(final) is None:
                return final
            shutil.rmtree(final)
        with staging_directory(final) as temporary:
            with (temporary / "state.pt").open("wb") as file:  # a full disk is an OSError only this way
                torch.save(state, file)
            record = {"step": step, "sha256": sha256_file(temporary / "state.pt")}
            (temporary / "checkpoint.json").write_text(json.dumps(record))
        self._remove_old()
        return final

    def damaged(self) -> list[str]:
        """One line for each checkpoint that would be passed over, newest first."""
        problems = ((folder, _problem(folder)) for folder in self._folders())
        return [_passed_over(folder, problem) for folder, problem in problems if problem is not None]

    def load_newest(self) -> dict[str, Any] | None:
        """State of the newest checkpoint that verifies, or None when there never was one.

        Raises:
            CheckpointError: There are checkpoints, but none of them verifies.
        """
        sweep(self.directory)
        folders = self._folders()
        for folder in folders:
            problem = _problem(folder)
            if problem is None:
                return _load(folder / "state.pt")
            logger.warning("%s", _passed_over(folder, problem))
        if folders:
            raise CheckpointError(
                f"{self.directory}: none of {len(folders)} checkpoints verifies",
                hint="restore the folder from a copy, or start again with --fresh",
            )
        return None

    def _folders(self) -> list[Path]:
        return sorted(
            (p for p in self.directory.glob("step-*") if not p.name.endswith(TEMPORARY)), reverse=True
        )

    def _remove_old(self) -> None:
        verified = [folder for folder in self._folders() if _problem(folder) is None]
        for folder in verified[self.keep :]:
            shutil.rmtree(folder, ignore_errors=True)


def _passed_over(folder: Path, problem: str) -> str:
    return f"{folder}: {problem}; falling back to the checkpoint before it"


def _load(file: Path) -> dict[str, Any]:
    try:
        state: dict[str, Any] = torch.load(file, weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{file}: holds more than tensors and plain values, and was not read",
            hint="this is no checkpoint of caloray; start again with --fresh",
        ) from error
    return state


def _problem(folder: Path) -> str | None:
    """Why a checkpoint cannot be used, or None."""
    try:
        expected = json.loads((folder / "checkpoint.json").read_text())["sha256"]
        found = sha256_file(folder / "state.pt")
    except (OSError, ValueError, KeyError, TypeError, pickle.UnpicklingError) as error:
        return f"unreadable ({error})"
    return None if found == expected else f"state.pt has sha256 {found[:12]}, recorded {str(expected)[:12]}"
