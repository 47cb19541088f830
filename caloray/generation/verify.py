"""Is a production what it says? Hashes, receipts, and every planned shower exactly once."""

from __future__ import annotations

__all__ = ["Verification", "verify_production"]

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from caloray.atomic import digest_json, is_staged, sha256_file
from caloray.errors import DataError, IntegrityError
from caloray.generation.control import QUALITY
from caloray.generation.energies import FromTable
from caloray.generation.particles import verify_particles
from caloray.generation.plan import GenerationPlan, ShardPlan, read_plan
from caloray.generation.receipts import Receipt, read_receipt, receipt_path
from caloray.io.manifest import MANIFEST, Manifest, Problem, ShardEntry, check_shard
from caloray.io.particle_table import PARTICLES, SKIPPED, read_skipped
from caloray.io.shards import ShardReader

_QUALITY_KEYS = {"reference", "counted", "uncounted", "settings", "report"}


@dataclass(frozen=True)
class Verification:
    """What was found.

    Args:
        plan: What was asked for.
        complete: Whether the manifest is there, so that nothing is missing.
        shards: Finished shards.
        rows: Showers in them.
        skipped: Particles that were left to the full simulation.
        problems: Everything that is wrong; empty when all is well.
    """

    plan: GenerationPlan
    complete: bool
    shards: int
    rows: int
    skipped: int
    problems: tuple[Problem, ...]


def verify_production(directory: Path, progress: Callable[[int], None] | None = None) -> Verification:
    """Hash every shard, read its ids, and hold both against receipt, manifest and plan.

    An unfinished production is looked at as far as it is.

    Args:
        directory: Output of a campaign or of ``caloray generate``.
        progress: Called with the number of showers that were looked at since the last call.

    Raises:
        StorageError: The directory holds no plan.
        IntegrityError: Its plan is damaged, so that nothing can be held against it.
    """
    plan = read_plan(directory)
    manifest, problems = _manifest(directory, plan)
    listed = {} if manifest is None else {entry.path: entry for entry in manifest.shards}
    gaps, more = _skipped(directory, plan, manifest)
    problems += more + _particles(directory, plan) + _strays(directory, plan) + _quality(directory)
    shards = rows = skipped = 0
    for index in range(plan.n_shards):
        receipt, found = _shard(directory, plan, index, listed, manifest is not None, gaps)
        problems += found
        if receipt is not None:
            shards, rows, skipped = shards + 1, rows + receipt.rows, skipped + receipt.skipped
            if progress is not None:
                progress(receipt.rows)
    if manifest is not None and len(listed) != plan.n_shards:
        text = f"{MANIFEST}: lists {len(listed)} shards, the plan has {plan.n_shards}"
        problems.append(Problem(MANIFEST, "manifest", text))
    return Verification(plan, manifest is not None, shards, rows, skipped, tuple(problems))


def _manifest(directory: Path, plan: GenerationPlan) -> tuple[Manifest | None, list[Problem]]:
    if not (directory / MANIFEST).exists():
        return None, []
    try:
        manifest = Manifest.load(directory)
    except IntegrityError as error:
        return None, [Problem(MANIFEST, "manifest", error.message)]
    if manifest.created.get("plan_digest") != plan.digest:
        return manifest, [Problem(MANIFEST, "manifest", f"{MANIFEST}: belongs to another plan")]
    return manifest, []


def _particles(directory: Path, plan: GenerationPlan) -> list[Problem]:
    if not isinstance(plan.energies, FromTable):
        return []
    try:
        verify_particles(plan, directory)
    except (IntegrityError, DataError) as error:
        return [Problem(PARTICLES, "particles", error.message)]
    return []


def _strays(directory: Path, plan: GenerationPlan) -> list[Problem]:
    """Files among the shards and receipts that are not in the plan; half-written ones are none."""
    planned = {ShardPlan(index, (), 0).path for index in range(plan.n_shards)}
    planned |= {receipt_path(Path(), index).as_posix() for index in range(plan.n_shards)}
    found = [path for name in ("shards", "receipts") for path in sorted((directory / name).glob("*"))]
    names = [path.relative_to(directory).as_posix() for path in found if not is_staged(path)]
    return [Problem(name, "stray", f"{name}: is not in the plan") for name in names if name not in planned]


def _quality(directory: Path) -> list[Problem]:
    """Whether the comparison with the reference is what was written; older ones do not tell."""
    path = directory / QUALITY
    if not path.is_file():
        return []
    try:
        value: dict[str, Any] = json.loads(path.read_bytes())
        said = value.pop("digest", None)
        whole = set(value) == _QUALITY_KEYS and said in {None, digest_json(value)}
    except (OSError, ValueError, TypeError, AttributeError):
        whole = False
    return [] if whole else [Problem(QUALITY, "sha256", f"{QUALITY}: altered since it was written")]


def _skipped(
    directory: Path, plan: GenerationPlan, manifest: Manifest | None
) -> tuple[np.ndarray | None, list[Problem]]:
    """Ids (k,) of the particles that were skipped; None where that is not known yet."""
    if plan.production is None or plan.production.domain != "skip":
        return np.zeros(0, dtype=np.int64), []
    if manifest is None:
        return None, []
    path = directory / SKIPPED
    expected = manifest.created.get("skipped", {}).get("sha256")
    found = sha256_file(path) if path.is_file() else "no file"
    if found != expected:
        text = f"{SKIPPED}: sha256 {found}, the manifest says {expected}"
        return None, [Problem(SKIPPED, "sha256", text)]
    ids, _, _ = read_skipped(path)
    return np.asarray(ids), []


def _shard(
    directory: Path,
    plan: GenerationPlan,
    index: int,
    listed: dict[str, ShardEntry],
    complete: bool,
    gaps: np.ndarray | None,
) -> tuple[Receipt | None, list[Problem]]:
    """The receipt of one shard and all that is wrong with the two."""
    path = plan.shard(index).path
    try:
        receipt = read_receipt(directory, plan, index)
    except IntegrityError as error:
        return None, [Problem(path, "receipt", error.message)]
    if receipt is None:
        missing = Problem(path, "receipt", f"{path}: it has no receipt") if complete else None
        return None, [missing] if missing else []
    said = ShardEntry(receipt.path, receipt.rows, receipt.bytes, receipt.sha256, "generated")
    problems = check_shard(directory, said, plan.readout.digest)
    entry = listed.get(path)
    if complete and (entry is None or (entry.sha256, entry.rows) != (receipt.sha256, receipt.rows)):
        problems.append(Problem(path, "manifest", f"{path}: receipt and manifest do not agree"))
    if not problems:
        problems += _ids(directory, plan, receipt, gaps)
    return receipt, problems


def _ids(directory: Path, plan: GenerationPlan, receipt: Receipt, gaps: np.ndarray | None) -> list[Problem]:
    """Whether the shard holds every planned shower exactly once, in order, but for those that are skipped."""
    path = receipt.path
    try:
        with ShardReader(directory / path) as reader:
            ids = reader.ids()
    except (IntegrityError, DataError) as error:
        return [Problem(path, "unreadable", error.message)]
    planned = np.concatenate([plan.kept(block) for block in plan.shard(receipt.index).blocks])
    if gaps is None:
        exact = bool((np.diff(ids) > 0).all() and np.isin(ids, planned).all())
        exact = exact and len(ids) + receipt.skipped == len(planned)
    else:
        exact = np.array_equal(ids, planned[~np.isin(planned, gaps)])
    text = f"{path}: not every planned shower exactly once ({len(ids)} found, {len(planned)} planned)"
    return [] if exact else [Problem(path, "ids", text)]
