"""Receipts: one JSON per finished shard, written after it, that says what the shard must be.

A shard without a receipt does not count. A receipt carries a digest of itself, so that neither a changed
shard nor a changed receipt is taken over by a resumed run.
"""

from __future__ import annotations

__all__ = [
    "Receipt",
    "read_receipt",
    "receipt_path",
    "receipts_of",
    "verified_receipt",
    "worked_seconds",
    "write_receipt",
]

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from caloray.atomic import digest_json, sha256_file, write_json
from caloray.errors import IntegrityError
from caloray.generation.blocks import Redraws
from caloray.generation.plan import GenerationPlan

logger = logging.getLogger(__name__)
MAX_BYTES = 16 << 20


@dataclass(frozen=True)
class Receipt:
    """What one finished shard holds.

    Args:
        plan: Digest of the plan.
        index: Number of the shard.
        path: The shard, relative to the output directory.
        rows: Showers in it.
        first_id: Lowest event id.
        last_id: Highest event id.
        bytes: Size of the file.
        sha256: Hash of the file.
        blocks: Content digest of every block, in order.
        layer_energies: Energy of each layer, summed over the showers in float64 [MeV].
        redraws: Invalid and vetoed draws that were replaced.
        numerics: Versions and hardware that decide the last bits.
        seconds: Wall time of sampling and writing.
        skipped: Particles outside the trained ranges that were left to the full simulation.
        flagged: Showers of such particles that were made all the same.
        quality: What was counted for the comparison with the frozen reference, as JSON.
        timing: The parts of ``seconds`` that went into "sample" and "write" (which is also counting and
            hashing), and the same of the CPUs, "sample_cpu" and "write_cpu".
        empty: Showers without any energy; None: nobody counted.
    """

    plan: str
    index: int
    path: str
    rows: int
    first_id: int
    last_id: int
    bytes: int
    sha256: str
    blocks: tuple[str, ...]
    layer_energies: tuple[float, ...]
    redraws: Redraws
    numerics: dict[str, str]
    seconds: float
    skipped: int = 0
    flagged: int = 0
    quality: Mapping[str, Any] | None = None
    timing: Mapping[str, float] = field(default_factory=dict)
    empty: int | None = None

    @property
    def planned(self) -> int:
        """Particles of the plan that are done with: made or skipped."""
        return self.rows + self.skipped


def receipt_path(directory: Path, index: int) -> Path:
    """Where the receipt of shard ``index`` is."""
    return directory / "receipts" / f"shard-{index:05d}.json"


def write_receipt(directory: Path, receipt: Receipt) -> None:
    """Write a receipt atomically."""
    body = json.loads(json.dumps(asdict(receipt)))
    write_json(receipt_path(directory, receipt.index), {"digest": digest_json(body), "receipt": body})


def read_receipt(directory: Path, plan: GenerationPlan, index: int) -> Receipt | None:
    """The receipt of one shard, or None if there is none yet.

    Raises:
        IntegrityError: It is unreadable, altered or belongs to another plan or shard.
    """
    path = receipt_path(directory, index)
    if not path.exists():
        return None
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError("too large")
        value = json.loads(path.read_bytes())
        body: dict[str, Any] = value["receipt"]
        if digest_json(body) != value["digest"]:
            raise ValueError("its digest does not fit its content")
        receipt = _build(body)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise IntegrityError(f"{path}: receipt cannot be trusted ({error})", hint="generate again") from error
    expected = plan.shard(index)
    if (receipt.plan, receipt.index, receipt.path) != (plan.digest, index, expected.path):
        raise IntegrityError(
            f"{path}: receipt of plan {receipt.plan[:12]}, expected {plan.digest[:12]}", hint="generate again"
        )
    return receipt


def verified_receipt(directory: Path, plan: GenerationPlan, index: int) -> Receipt | None:
    """The receipt of one shard if the shard is exactly what it says, else None, with a warning."""
    try:
        receipt = read_receipt(directory, plan, index)
    except IntegrityError as error:
        logger.warning("%s; shard %d is made again", error.message, index)
        return None
    if receipt is None:
        return None
    shard = directory / receipt.path
    found = sha256_file(shard) if shard.is_file() else "no file"
    if found != receipt.sha256:
        said = receipt.sha256[:12]
        logger.warning("%s: sha256 %s, receipt says %s; the shard is made again", shard, found[:12], said)
        return None
    return receipt


def _build(body: dict[str, Any]) -> Receipt:
    fields = dict(body)
    fields["redraws"] = Redraws(**fields["redraws"])
    fields["blocks"] = tuple(fields["blocks"])
    fields["layer_energies"] = tuple(fields["layer_energies"])
    return Receipt(**fields)


def receipts_of(directory: Path, plan: GenerationPlan) -> Iterator[Receipt]:
    """The receipts that are there, in the order of their shards, one at a time.

    Raises:
        IntegrityError: One is unreadable, altered or belongs to another plan.
    """
    for index in range(plan.n_shards):
        receipt = read_receipt(directory, plan, index)
        if receipt is not None:
            yield receipt


def worked_seconds(directory: Path, plan: GenerationPlan) -> float:
    """Wall time of one worker that the shards of ``plan`` took together, over all runs."""
    return sum(receipt.seconds for receipt in receipts_of(directory, plan))
