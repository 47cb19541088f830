"""The golden showers of a bundle: drawn when it is made, and again to see that it still gives them."""

from __future__ import annotations

__all__ = ["make_golden", "verify_bundle"]

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from caloray.atomic import sha256_file
from caloray.bundle.model import Bundle
from caloray.bundle_file import GoldenEntry, GoldenReport, load_quality, load_tensors, read_bundle_file
from caloray.errors import BundleError
from caloray.preprocess.conditions import inside_ranges
from caloray.rng import StreamKey

GOLDEN_SHOWERS = 16


def verify_bundle(path: str | Path) -> GoldenReport:
    """Check every hash, sample the golden showers again and compare.

    Raises:
        BundleError: As :meth:`Bundle.load`; or the golden showers are missing or deviate by more than 1e-3.
    """
    file = read_bundle_file(Path(path))
    golden = file.golden
    if golden is None:
        raise BundleError(f"{path}: bundle.json has no golden sample")
    load_quality(Path(path), file)
    bundle = Bundle.load(path, backend=golden.backend())
    table = golden.table(bundle.condition_names)
    found = bundle.sample_block(np.array(golden.energies), golden.seed, 0, conditions=table)
    stored = load_tensors(golden, bundle.path).get("voxels", torch.empty(0)).numpy()
    if stored.shape != found.shape:
        raise BundleError(f"{bundle.path / golden.path}: voxels {stored.shape}, expected {found.shape}")
    total = np.maximum(stored.sum(axis=1), 1e-12)
    report = GoldenReport(
        identical=bool(np.array_equal(stored, found)),
        largest=float(np.abs(found - stored).max()),
        relative=float((np.abs(found.sum(axis=1) - stored.sum(axis=1)) / total).max()),
        same_numerics=golden.numerics == bundle.numerics,
        backend=bundle.numerics["backend"],
        made_with=golden.numerics.get("backend", "torch"),
    )
    if not report.identical and (report.same_numerics or report.relative > 1e-3):
        raise BundleError(
            f"{bundle.path}: golden showers deviate by {report.largest:.3g} MeV in a voxel, "
            f"{report.relative:.3g} in a shower's energy",
            hint="this installation computes something else than the one that made it; run `caloray doctor`",
        )
    return report


def make_golden(directory: Path) -> GoldenEntry:
    """Draw the golden showers of a bundle that is whole but for them, and write them into it."""
    bundle = Bundle.load(directory)
    low, high = bundle.energy_range
    energies = np.exp(np.linspace(np.log(low), np.log(high), min(GOLDEN_SHOWERS, bundle.block_size)))
    energies = energies.clip(low, high)
    table, draws = None, StreamKey(0, "golden", "conditions").generator()
    if bundle.conditions:
        table = inside_ranges(bundle.conditions, draws, len(energies))
    voxels = bundle.sample_block(energies, seed=0, block=0, conditions=table)
    file = directory / "golden.safetensors"
    save_file({"voxels": torch.from_numpy(np.ascontiguousarray(voxels))}, file)
    return GoldenEntry(
        path=file.name,
        sha256=sha256_file(file),
        bytes=file.stat().st_size,
        seed=0,
        energies=tuple(energies.tolist()),
        numerics=bundle.numerics,
        conditions={}
        if table is None
        else {
            name: tuple(column.tolist()) for name, column in zip(bundle.condition_names, table.T, strict=True)
        },
    )
