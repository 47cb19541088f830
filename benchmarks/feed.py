"""How many showers per second reach torch from the shards, for two layers of dataset 3.

    python benchmarks/feed.py FILES... [--repeat 20000] [--layers 10,11] [--json feed.json]
    python benchmarks/feed.py runs/mine/shards

FILES are CaloChallenge HDF5 files (sharded into a temporary folder first, repeated up to ``--repeat``
showers) or one directory of shards. Rows of the table:

* materialised: the projected columns are in Ray's object store, one process takes torch batches out of them;
* streamed: the same from the Parquet files at every pass;
* sparse feed: what a training does once at its start, from the object store to a LayerStore;
* one process: LayerStore.from_shards, without Ray;
* store batches: random batches of one layer and the one before it out of the LayerStore (every pass).
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from caloray.geometry import Geometry
from caloray.io.challenge import ChallengeFile
from caloray.io.shards import ShardReader, ShardWriter
from caloray.io.store import LayerStore
from caloray.showers import Showers

ROWS_PER_SHARD = 2000
Result = TypeVar("Result")


@dataclass(frozen=True)
class LocalRay:
    """Cluster settings of the benchmark."""

    address: str = "local"
    num_cpus: int | None = 2
    object_store_gb: float = 1.5
    allow_unauthenticated: bool = False


def main() -> None:
    options = parse()
    with tempfile.TemporaryDirectory(prefix="feed-") as scratch:
        began = time.perf_counter()
        paths, geometry = shards_of(options.inputs, options.repeat, Path(scratch))
        made = time.perf_counter() - began
        layers = tuple(int(word) for word in options.layers.split(","))
        rows = sum(ShardReader(path).n_rows for path in paths)
        print(f"{rows} showers of {geometry.name} in {len(paths)} shards ({made:.1f} s), layers {layers}")
        results = measure(paths, geometry, layers, rows, options)
    report(results, rows, options.json)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("inputs", nargs="+", type=Path)
    parser.add_argument("--repeat", type=int, default=0, help="repeat showers up to this number")
    parser.add_argument("--layers", default="10,11")
    parser.add_argument("--batch-size", type=int, default=1000)
    parser.add_argument("--passes", type=int, default=5)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def shards_of(inputs: list[Path], repeat: int, scratch: Path) -> tuple[list[Path], Geometry]:
    """Paths of shards: those of a directory, or new ones of HDF5 files."""
    if inputs[0].is_dir():
        from caloray.io.source import open_source

        return sorted(inputs[0].rglob("*.parquet")), open_source(inputs[0]).geometry
    with ChallengeFile.open(inputs[0]) as file:
        geometry = file.geometry
    paths: list[Path] = []
    rows = 0
    for piece in repeated(inputs, repeat):
        showers = Showers(piece.incident_energies, piece.voxels, np.arange(rows, rows + len(piece)))
        paths.append(scratch / f"part-{len(paths):05d}.parquet")
        with ShardWriter(paths[-1], geometry) as writer:
            writer.append(showers)
        rows += len(piece)
    return paths, geometry


def repeated(inputs: list[Path], wanted: int) -> Iterable[Showers]:
    """Pieces of the files, from the start again until ``wanted`` showers have come."""
    rows = 0
    while True:
        for path in inputs:
            with ChallengeFile.open(path) as file:
                for piece in file.chunks(rows=ROWS_PER_SHARD):
                    yield piece
                    rows += len(piece)
                    if wanted and rows >= wanted:
                        return
        if rows >= wanted:
            return


def measure(
    paths: list[Path], geometry: Geometry, layers: tuple[int, ...], rows: int, options: argparse.Namespace
) -> dict[str, float]:
    from caloray.distributed.datasource import read_shards, take_store
    from caloray.distributed.session import connect

    results: dict[str, float] = {}
    with connect(LocalRay()):
        read_shards(paths[:1], layers).materialize()  # starts the workers
        rate, dense = clocked(lambda: read_shards(paths, layers).materialize(), rows)
        results["materialise, dense"] = rate
        results["materialised"] = best(partial(drain, dense, options.batch_size), rows, options.passes)
        streamed = read_shards(paths, layers)
        results["streamed"] = best(
            partial(drain, streamed, options.batch_size), rows, max(1, options.passes // 2)
        )
        rate, sparse = clocked(lambda: read_shards(paths, layers, "sparse").materialize(), rows)
        results["materialise, sparse"] = rate
        results["sparse feed"], _ = clocked(lambda: take_store(sparse, geometry, layers), rows)
    results["one process"], store = clocked(lambda: LayerStore.from_shards(paths, geometry, layers), rows)
    results["store batches"] = best(partial(batches, store, options.batch_size), rows, options.passes)
    return results


def drain(dataset: object, batch_size: int) -> int:
    """One pass over torch batches; every tensor is touched."""
    seen = 0
    for batch in dataset.iter_torch_batches(batch_size=batch_size):  # type: ignore[attr-defined]
        for name, tensor in batch.items():
            if name.startswith("layer_"):
                seen += len(tensor)
                tensor[:, 0].sum()
    return seen


def batches(store: LayerStore, batch_size: int) -> None:
    import torch

    order = np.random.default_rng(0).permutation(len(store))
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        for column in range(len(store.layers)):
            torch.from_numpy(store.dense(rows, np.full(len(rows), column))).sum()


def clocked(work: Callable[[], Result], rows: int) -> tuple[float, Result]:
    began = time.perf_counter()
    result = work()
    return rows / (time.perf_counter() - began), result


def best(work: Callable[[], object], rows: int, passes: int) -> float:
    return max(clocked(work, rows)[0] for _ in range(passes))


def report(results: dict[str, float], rows: int, path: Path | None) -> None:
    for name, rate in results.items():
        print(f"{name:24s} {rate:12,.0f} showers/s")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"peak memory of this process {peak:.2f} GB")
    if path is not None:
        machine = f"{platform.machine()}, Python {platform.python_version()}"
        path.write_text(
            json.dumps(
                {"rows": rows, "showers_per_s": results, "peak_gb": peak, "machine": machine}, indent=1
            )
        )


if __name__ == "__main__":
    sys.exit(main())
