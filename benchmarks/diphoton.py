"""The di-photon test on real showers of a grid: against themselves, and against broader copies of them.

    python benchmarks/diphoton.py geant4_00.hdf5 geant4_01.hdf5 ... -o runs/diphoton [--stretch 1.0 1.05 1.15]

For every stretch factor, the showers' sub-cells are moved away from the axis by that factor and the stretched
showers play the generated sample (1.0 leaves them as they are). Prints the metrics with
their floors, the seconds per pair and the peak memory; writes record and figure of each factor.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from caloray.atomic import digest_json, write_json
from caloray.evaluation.diphoton import PairSettings, compare_diphotons
from caloray.evaluation.diphoton.bank import choose_candidates, gather
from caloray.evaluation.diphoton.curve import trace
from caloray.evaluation.diphoton.readout import Readout
from caloray.geometry import Geometry
from caloray.io.source import open_source
from caloray.report.diphoton import draw_diphoton
from caloray.report.style import save
from caloray.rng import StreamKey
from caloray.showers import Showers


class Files:
    """Several files as one source, stretched if so wished."""

    def __init__(self, paths: list[Path], stretch: float | None = None) -> None:
        self.sources = [open_source(path) for path in paths]
        self.geometry = self.sources[0].geometry
        self.n_showers = sum(source.n_showers for source in self.sources)
        self.stretch = stretch

    @property
    def digest(self) -> str:
        """Of all files and the factor."""
        return digest_json([[source.digest for source in self.sources], self.stretch])

    def chunks(self, rows: int = 1000) -> Iterator[Showers]:
        """All showers, file by file."""
        block = 0
        for source in self.sources:
            for showers in source.chunks(rows):
                yield (
                    showers
                    if self.stretch is None
                    else stretched(showers, self.geometry, self.stretch, block)
                )
                block += 1


def stretched(showers: Showers, geometry: Geometry, factor: float, block: int) -> Showers:
    """Every hit at a random place in its sub-cell, moved away from the axis by ``factor``."""
    nx, ny = geometry.layers[0].shape
    rows, flat = np.nonzero(showers.voxels)
    layer, x, y = np.unravel_index(flat, (geometry.n_layers, nx, ny))
    inside = StreamKey(0, "stretch", "place", block).generator().random((2, len(rows)))
    x, y = (
        np.floor((place + shift - n / 2) * factor + n / 2).astype(np.int64)
        for place, shift, n in zip((x, y), inside, (nx, ny), strict=True)
    )
    kept = (x >= 0) & (x < nx) & (y >= 0) & (y < ny)
    target = np.ravel_multi_index((rows, layer, x, y), (len(showers), geometry.n_layers, nx, ny), mode="clip")
    voxels = np.bincount(
        target[kept], showers.voxels[rows, flat][kept], minlength=showers.voxels.size
    ).reshape(showers.voxels.shape)
    return Showers(showers.incident_energies, voxels, showers.ids)


def time_pairs(source: Files, settings: PairSettings) -> None:
    started = time.perf_counter()
    bank = gather(source, settings.energies)
    read = time.perf_counter() - started
    (chosen,), windows, _ = choose_candidates([bank], ["reference"], settings.energies, settings.window)
    started, spent = time.perf_counter(), time.process_time()
    curve = trace(
        "clock", bank, [(chosen.first, chosen.second)], Readout.of(source.geometry, settings), settings
    )
    pairs = curve.pairs * len(curve.distances)
    print(
        f"read {source.n_showers:,} showers of {source.geometry.n_voxels:,} voxels: {read:.1f} s; kept "
        f"{len(bank):,} in {(bank.voxels.nbytes + bank.energies.nbytes) / 1e6:.1f} MB; windows {windows}"
    )
    print(
        f"{pairs:,} pairs: {1e3 * (time.perf_counter() - started) / pairs:.3f} ms per pair, "
        f"{1e3 * (time.process_time() - spent) / pairs:.3f} ms of CPU"
    )


def show(factor: float, record: dict[str, Any], seconds: float) -> None:
    print(f"\nstretch {factor:g}: {seconds:.0f} s")
    for curve in record["curves"]:
        fit = curve["fit"]
        shape = {
            key: f"{fit[key]['value']:.3f} ± {fit[key]['error']:.3f}" for key in ("d50", "width", "plateau")
        }
        print(f"  {curve['name']:22s}", shape)
        print("  P    ", " ".join(f"{value:6.3f}" for value in curve["probability"]))
        print("  error", " ".join(f"{value:6.3f}" for value in curve["error"]))
    for metric in record["metrics"]:
        sigma = metric["significance"]
        print(
            f"  {metric['name']:24s} {metric['value']:.4f} ± {metric['error'] or 0:.4f}  floor "
            f"{metric['floor']:.4f} ± {metric['spread']:.4f}  matched {metric['matched']:.4f}  "
            f"significance {'-' if sigma is None else f'{sigma:+.1f}'}"
        )
    for warning in record["warnings"]:
        print(f"  warning: {warning}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--stretch", nargs="*", type=float, default=[1.0, 1.05, 1.15])
    parser.add_argument("--energies", nargs=2, type=float, default=[20_000.0, 5_000.0])
    parser.add_argument("--pairs", type=int, default=2000)
    arguments = parser.parse_args()
    settings = PairSettings.of(energies=tuple(arguments.energies), pairs=arguments.pairs)
    reference = Files(arguments.files)
    time_pairs(reference, settings)
    for factor in arguments.stretch:
        started = time.perf_counter()
        generated = Files(arguments.files, factor)
        record = compare_diphotons(reference, generated, settings, names=("Geant4", f"stretched {factor:g}"))
        show(factor, record, time.perf_counter() - started)
        name = f"stretch_{factor:g}"
        write_json(arguments.output / f"{name}.json", record)
        save(draw_diphoton(record, ("Geant4", f"stretched {factor:g}")), arguments.output / name)
    print(f"\npeak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB")


if __name__ == "__main__":
    main()
