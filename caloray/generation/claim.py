"""Whose directory is it? An output directory belongs to one plan; what others left in it is not touched."""

from __future__ import annotations

__all__ = ["CONFIG", "refuse_other", "refuse_strangers"]

import json
from contextlib import suppress
from pathlib import Path

from caloray.atomic import is_staged, nearest, storage_error
from caloray.errors import CaloRayError, StorageError
from caloray.generation.plan import PLAN, GenerationPlan, read_plan
from caloray.io.manifest import MANIFEST
from caloray.io.particle_table import PARTICLES, ParticleTable

CONFIG = "campaign.json"
"""The campaign file with every default filled in; a note for people."""
_CONFIG_KEYS = {"name", "bundle", "output", "seed", "particles", "rows_per_shard", "workers", "tracking"}
_TRACKING = {
    "tracking.json",
    "mlflow.db",
    "mlflow.db-journal",
    "mlflow.db-wal",
    "mlflow.db-shm",
    "mlartifacts",
}
_SHARDS = {MANIFEST, "shards", "receipts"}
_NAMED = 5


def refuse_strangers(directory: Path) -> None:
    """Refuse what is no directory, or has no plan and holds more than an early end of ours leaves there.

    Such are the lock, the campaign's file and list, tracking, and half-written files. Nothing is touched.

    Raises:
        StorageError: Naming what is there.
    """
    place = nearest(directory)
    there = place == directory.absolute()
    if not place.is_dir():
        what = f"{directory}: is a file" if there else f"{directory}: {place} is a file"
        raise StorageError(f"{what}, not a directory", hint="choose another output directory")
    if not there or (directory / PLAN).exists():
        return
    try:
        strange = sorted(path.name for path in directory.iterdir() if not _ours(path))
    except OSError as error:
        raise storage_error(error, directory) from error
    if strange:
        shards = bool(_SHARDS & set(strange))
        named = ", ".join(strange[:_NAMED]) + (", ..." if len(strange) > _NAMED else "")
        raise StorageError(
            f"{directory}: holds other {'shards' if shards else 'files'} but no {PLAN} ({named})",
            hint=(f"put its {PLAN} back, or " if shards else "") + "choose another output directory",
            found=strange[:100],
        )


def refuse_other(plan: GenerationPlan, directory: Path) -> None:
    """Refuse a directory with another plan, or with what no plan of ours made; touch nothing.

    Raises:
        StorageError: Naming both plans.
        IntegrityError: The plan that is there is damaged.
    """
    refuse_strangers(directory)
    if not (directory / PLAN).exists():
        return
    found = read_plan(directory).digest
    if found != plan.digest:
        raise StorageError(
            f"{directory}: belongs to plan {found}, this request is plan {plan.digest}",
            hint="choose another output directory, or repeat the request that it was made with",
            found=found,
            expected=plan.digest,
        )


def _ours(path: Path) -> bool:
    """Whether a file or folder is one that a start which came to nothing leaves behind."""
    if path.name.startswith(".") or path.name in _TRACKING:
        return True
    if path.name == PARTICLES:
        with suppress(CaloRayError, OSError), ParticleTable(path):
            return True
        return False
    if path.name == CONFIG:
        with suppress(OSError, ValueError, TypeError):
            return set(json.loads(path.read_bytes())) >= _CONFIG_KEYS
        return False
    return is_staged(path) and path.is_file()
