"""A trial that continues another one: the component folder that it begins with."""

from __future__ import annotations

__all__ = ["adopt", "continued_from"]

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from caloray.atomic import staging_directory, sweep
from caloray.errors import CheckpointError
from caloray.training.files import ComponentFolder
from caloray.training.run import TrainRequest, identity_of

IDENTITY, CONTINUES = "identity.json", "continues"


def adopt(request: TrainRequest, parent: Path) -> None:
    """Begin ``request.directory`` with the parent's work, unless it has been begun.

    With the same settings and as many epochs there is nothing left to be trained: the parent's result is
    taken as it is. Otherwise its checkpoints and history are, and the training goes on with its own settings.
    Where more than the number of epochs differs, the folder's identity names the weights that it goes on
    from: they are not what the settings alone would have given.

    Args:
        request: The training that continues.
        parent: The same component's folder in the other trial.

    Raises:
        CheckpointError: The parent has not ended, or its checkpoints are gone.
    """
    folder = request.directory
    if folder.exists():
        return
    result = ComponentFolder(parent).result()
    if result is None:
        raise CheckpointError(
            f"{parent}: has no result to continue from", hint="the same command trains it first"
        )
    recorded = _identity(parent)
    wanted = json.loads(json.dumps(identity_of(request)))
    recorded_settings, wanted_settings = _without_epochs(recorded), _without_epochs(wanted)
    same = recorded_settings == wanted_settings
    finished = same and recorded["training"]["epochs"] == wanted["training"]["epochs"]
    if not finished and not (parent / "checkpoints").is_dir():
        raise CheckpointError(
            f"{parent}: its checkpoints are gone, so it cannot be continued",
            hint="begin the campaign in another output directory",
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    sweep(folder.parent)
    with staging_directory(folder) as temporary:
        for name in ("result",) if finished else ("checkpoints",):
            shutil.copytree(parent / name, temporary / name)
        shutil.copy2(parent / "history.jsonl", temporary / "history.jsonl")
        if CONTINUES in recorded:
            wanted[CONTINUES] = recorded[CONTINUES]
        if not same:
            wanted[CONTINUES] = result.sha256
        (temporary / IDENTITY).write_text(json.dumps(wanted, indent=1, sort_keys=True))


def continued_from(request: TrainRequest) -> TrainRequest:
    """The request with the mark of the weights that its folder goes on from, if there is one."""
    if not (request.directory / IDENTITY).is_file():
        return request
    mark = _identity(request.directory).get(CONTINUES)
    return request if mark is None else replace(request, identity=request.identity | {CONTINUES: mark})


def _identity(folder: Path) -> dict[str, Any]:
    try:
        value = json.loads((folder / IDENTITY).read_text())
        if isinstance(value["training"]["epochs"], int):
            return dict(value)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{folder / IDENTITY}: unreadable ({error})", hint="begin in another output directory"
        ) from error
    raise CheckpointError(f"{folder / IDENTITY}: no number of epochs", hint="begin in another directory")


def _without_epochs(identity: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in identity.items() if key != CONTINUES}
    return kept | {"training": {k: v for k, v in identity["training"].items() if k != "epochs"}}
