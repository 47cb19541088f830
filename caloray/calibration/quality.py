"""The frozen reference of quality control: drawn from the model itself, and kept in its bundle."""

from __future__ import annotations

__all__ = ["FILE", "freeze_reference"]

from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from caloray.atomic import sha256_file, staging
from caloray.bundle import Bundle
from caloray.bundle_file import QualityEntry, write_quality_entry
from caloray.calibration.reference import Tell
from caloray.errors import NumericalError, StorageError
from caloray.preprocess.condition_range import columns_of, inside_ranges
from caloray.quality.build import ReferenceBuilder
from caloray.quality.layout import ConditionSpan, Layout
from caloray.rng import StreamKey
from caloray.showers import Showers

FILE = "quality.safetensors"
MOST_INVALID = 0.1


def freeze_reference(path: Path, number: int, seed: int, tell: Tell, *, force: bool = False) -> QualityEntry:
    """Draw showers of a bundle, count them and store the counts in it.

    Incident energies are log-uniform in the trained range, conditions lie inside theirs. The bundle's digest
    stays the same. Killed in between, the bundle has its old reference, none, or the new one.

    Args:
        path: The bundle.
        number: Showers to draw.
        seed: Of the draws.
        tell: Is told about the progress.
        force: Replace the reference that is there.

    Raises:
        StorageError: There is a reference, and it is not to be replaced; or the disk is full.
        NumericalError: More than a tenth of the showers are invalid.
        DataError: Too few showers.
        BundleError: The bundle is damaged.
    """
    bundle = Bundle.load(path)
    if bundle.file.quality is not None and not force:
        raise StorageError(
            f"{path}: has a quality reference of {bundle.file.quality.showers:,} showers, which is frozen",
            hint="productions are held against it; pass --force to replace it all the same",
        )
    layout = Layout(
        energies=bundle.energy_range,
        conditions=tuple(ConditionSpan(name=c.name, low=c.low, high=c.high) for c in bundle.conditions),
        block_size=bundle.block_size,
    )
    builder = ReferenceBuilder(bundle.geometry, layout)
    _draw(bundle, number, seed, builder, tell)
    reference = builder.build()
    file = path / FILE
    if bundle.file.quality is not None:
        write_quality_entry(path, None)
    with staging(file) as temporary:
        save_file(reference.tensors(), temporary)
    entry = QualityEntry(
        path=FILE,
        sha256=sha256_file(file),
        bytes=file.stat().st_size,
        seed=seed,
        showers=reference.counts.showers,
        numerics=bundle.numerics,
        layout=layout,
    )
    write_quality_entry(path, entry)
    return entry


def _draw(bundle: Bundle, number: int, seed: int, builder: ReferenceBuilder, tell: Tell) -> None:
    """Give the valid ones of ``number`` showers to the builder, block after block."""
    size, invalid = bundle.block_size, 0
    for block, first in enumerate(range(0, number, size)):
        count = min(size, number - first)
        energies, table = _particles(bundle, seed, block, count)
        voxels = bundle.sample_block(energies, seed, block, conditions=table)
        valid = (np.isfinite(voxels) & (voxels >= 0)).all(axis=1)
        columns = columns_of(bundle.condition_names, table)
        builder.add(Showers(energies, voxels, np.arange(first, first + count), columns).select(valid))
        invalid += int(np.count_nonzero(~valid))
        tell("reference", count)
    if invalid > MOST_INVALID * number:
        raise NumericalError(
            f"{bundle.path}: {invalid} of {number} showers are invalid", hint="run `caloray model verify`"
        )


def _particles(bundle: Bundle, seed: int, block: int, count: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Incident energies (count,) [MeV] and conditions (count, P) of a block."""
    low, high = bundle.energy_range
    key = StreamKey(seed, "quality", "incident-energy", block)
    uniform = key.generator().random(bundle.block_size)[:count]
    energies = np.clip(np.exp(np.log(low) + uniform * np.log(high / low)), low, high)
    if not bundle.conditions:
        return energies, None
    draws = key.named("quality", "conditions").generator()
    return energies, inside_ranges(bundle.conditions, draws, bundle.block_size)[:count]
