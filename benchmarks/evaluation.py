"""Seconds and peak memory of an evaluation of many showers, beside a plain loop over the layers.

    python benchmarks/evaluation.py data/electrons_ds2_*.hdf5 --showers 100000 [--shards] [--threads 2]

The showers of the files are repeated until there are ``--showers`` of them, once as reference and once, in
another order, as generated showers. A process of its own then evaluates them stage by stage. The loop does
what the straightforward code does: it reads the showers into one array and goes through the layers one by
one with numpy, as float64. It is timed on ``--loop`` showers and scaled to the same number of showers; it
computes the high-level features and official histograms of both samples and no floors.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from caloray.evaluation.axes import default_threshold
from caloray.evaluation.fpd import fpd
from caloray.evaluation.halves import Halves
from caloray.evaluation.kpd import kpd
from caloray.evaluation.metric import Metric
from caloray.evaluation.passes import InProcess, PassSettings
from caloray.geometry import Geometry
from caloray.io.challenge import write_challenge
from caloray.io.ingest import IngestConfig, ingest
from caloray.io.source import open_source
from caloray.showers import Showers

HALVINGS = 20


@dataclass
class State:
    """What the stages hand on to each other."""

    reference: Path
    generated: Path
    threads: int | None
    made: dict[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> PassSettings:
        """As ``caloray evaluate`` has them."""
        cut = default_threshold(open_source(self.reference).geometry)
        return PassSettings(cut, halves=Halves(0, HALVINGS), threads=self.threads)


def read_reference(state: State) -> None:
    """Counts, sums, halves and rows of the reference."""
    source = open_source(state.reference)
    axes, sample, table = InProcess().reference(source, state.settings)
    state.made |= {"axes": axes, "reference": sample, "reference_table": table}


def read_generated(state: State) -> None:
    """Counts, sums and rows of the generated showers."""
    source = open_source(state.generated)
    sample, table = InProcess().generated(source, state.made["axes"], state.settings)
    state.made |= {"generated": sample, "generated_table": table}


def make_features(state: State) -> None:
    """The official high-level features of both samples."""
    state.made["features"] = [state.made[f"{side}_table"].features() for side in ("reference", "generated")]


def _note(state: State, metrics: list[Metric]) -> None:
    state.made.setdefault("metrics", []).extend(metric.to_dict() for metric in metrics)


STAGES: dict[str, Callable[[State], None]] = {
    "reference: read, observe, count": read_reference,
    "generated: read, observe, count": read_generated,
    "features of both": make_features,
    "FPD with floor": lambda state: _note(state, fpd(*state.made["features"])),
    "KPD with floor": lambda state: _note(state, kpd(*state.made["features"])),
}
"""In this order; a stage finds what the ones before it left in ``state.made``."""


def run_stages(state: State) -> list[dict[str, Any]]:
    """Time and memory of each stage in this process."""
    rows = []
    for name, stage in STAGES.items():
        start, used = time.perf_counter(), time.process_time()
        stage(state)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # KiB on Linux
        rows.append(
            {
                "stage": name,
                "seconds": time.perf_counter() - start,
                "cpu_seconds": time.process_time() - used,
                "peak_gib": peak,
            }
        )
    return rows


def repeated(files: list[Path], showers: int, first: int) -> Iterator[Showers]:
    """``showers`` showers of the files, over and over, from file number ``first`` on."""
    made = 0
    while made < showers:
        for path in files[first:] + files[:first]:
            for chunk in open_source(path).chunks(1000):
                part = chunk.select(slice(0, showers - made))
                made += len(part)
                yield part
                if made == showers:
                    return


def prepare(files: list[Path], showers: int, folder: Path, *, shards: bool) -> tuple[Path, Path]:
    """Two large samples on disk."""
    geometry, places = open_source(files[0]).geometry, []
    for i, name in enumerate(("reference", "generated")):
        path = folder / f"{name}.hdf5"
        write_challenge(path, geometry, repeated(files, showers, i % len(files)))
        if shards:
            config = IngestConfig(files=(path,), geometry=geometry.name, rows_per_shard=10_000)
            ingest(config, folder / name)
            path.unlink()
            path = folder / name
        places.append(path)
    return places[0], places[1]


def plain_loop(path: Path, showers: int) -> float:
    """Seconds of the straightforward code for one sample of ``showers`` showers, reading included."""
    start = time.perf_counter()
    source = open_source(path)
    geometry = source.geometry
    chunk = next(source.chunks(showers))
    voxels = np.where(chunk.voxels < default_threshold(geometry), 0.0, chunk.voxels).astype(np.float64)
    np.histogram(voxels.sum(axis=1) / chunk.incident_energies, np.linspace(0.5, 1.5, 101))
    np.histogram(voxels[voxels > 0], np.geomspace(1e-2, 1e3, 50))
    for i in range(geometry.n_layers):
        loop_layer(voxels[:, geometry.span(i)], geometry, i)
    return time.perf_counter() - start


def loop_layer(voxels: np.ndarray, geometry: Geometry, layer: int) -> None:
    """Energy, sparsity, centres and widths of one layer, and their histograms."""
    energy = voxels.sum(axis=1)
    np.histogram(energy, np.geomspace(1e-2, 1e4, 40))
    np.histogram((voxels == 0).mean(axis=1), np.linspace(0, 1, 21))
    first, second = geometry.centres(layer)
    polar = geometry.kind == "cylindrical"
    places = (second * np.cos(first), second * np.sin(first), second) if polar else (first, second)
    for place in places:
        mean = (voxels * place).sum(axis=1) / (energy + 1e-16)
        square = (voxels * place**2).sum(axis=1) / (energy + 1e-16)
        np.histogram(mean, np.linspace(-30, 30, 101))
        np.histogram(np.sqrt(np.clip(square - mean**2, 0, None)), np.linspace(0, 30, 101))


def show(rows: list[dict[str, Any]], showers: int, loop: float, looped: int, voxels: int) -> None:
    """The table."""
    print(f"{'stage':38}{'seconds':>9}{'CPU s':>9}{'ms/1,000':>10}{'peak GiB':>10}")
    for row in rows:
        per = row["seconds"] / showers * 1e6
        print(
            f"{row['stage']:38}{row['seconds']:9.1f}{row['cpu_seconds']:9.1f}{per:10.0f}{row['peak_gib']:10.2f}"
        )
    total = sum(row["seconds"] for row in rows)
    print(f"{'all':38}{total:9.1f}{'':9}{'':10}{rows[-1]['peak_gib']:10.2f}")
    scaled = 2 * loop / looped * showers
    memory = 8 * showers * voxels / 2**30
    print(
        f"plain loop over layers, both samples: {scaled:.1f} s, scaled from {looped} showers "
        f"({loop / looped * 1e6:.0f} ms per 1,000); one array of float64 alone is {memory:.1f} GiB"
    )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", type=Path, nargs="+", help="CaloChallenge HDF5 files of one geometry")
    parser.add_argument("--showers", type=int, default=100_000, help="showers of each sample")
    parser.add_argument("--shards", action="store_true", help="read shards and not gzip HDF5")
    parser.add_argument("--threads", type=int, help="worker threads (default: as the evaluation chooses)")
    parser.add_argument("--loop", type=int, default=2000, help="showers that the plain loop is timed on")
    parser.add_argument("--made", action="store_true", help="the two files are the large samples themselves")
    parser.add_argument("--scratch", type=Path, help="where the large files go for the time of the run")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    options = parse()
    if options.child:
        print(json.dumps(run_stages(State(options.files[0], options.files[1], options.threads))))
        return 0
    with tempfile.TemporaryDirectory(prefix="evaluation-", dir=options.scratch) as name:
        if options.made:
            places = options.files[0], options.files[1]
        else:
            places = prepare(options.files, options.showers, Path(name), shards=options.shards)
        command = [sys.executable, __file__, "--child", *map(str, places)]
        command += ["--threads", str(options.threads)] if options.threads else []
        rows = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        looped = min(options.loop, options.showers)
        loop = plain_loop(places[0], looped)
        voxels = open_source(places[0]).geometry.n_voxels
    show(rows, options.showers, loop, looped, voxels)
    if options.json:
        facts = {"showers": options.showers, "stages": rows, "loop_seconds": loop, "loop_showers": looped}
        options.json.write_text(json.dumps(facts, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
