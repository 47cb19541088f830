"""A campaign against the bare sampler in a loop that writes nothing, in the same run, with 1 and 2 workers.

    python benchmarks/production.py BUNDLE [BUNDLE ...] [--shards 6] [--rounds 3] [--workers 1 2] [-o FILE]

The bare loops are processes of their own that start together, each with its share of the very blocks that the
campaign makes. Loading a model and starting Ray are in neither number; the second is told apart. On a busy
machine the ratio of CPU seconds is the one to believe: it asks what a shower costs, not who got the CPU.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

ROWS = 2048


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("bundles", nargs="+", type=Path)
    parser.add_argument("--shards", type=int, default=6, help=f"shards of {ROWS} showers per campaign")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--no-quality", action="store_true", help="leave the comparison with a reference out")
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--bare", nargs=4, metavar=("FIRST", "STEP", "BLOCKS", "GO"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.bare:
        first, step, blocks, go = arguments.bare
        print(json.dumps(bare(arguments.bundles[0], int(first), int(step), int(blocks), Path(go))))
        return
    results = [
        measure(bundle, workers, arguments) for bundle in arguments.bundles for workers in arguments.workers
    ]
    if arguments.output:
        arguments.output.write_text(json.dumps(results, indent=1) + "\n")
    table(results)


def bare(path: Path, first: int, step: int, blocks: int, go: Path) -> dict[str, float]:
    """Every ``step``-th block from ``first`` on, drawn and thrown away."""
    import numpy as np

    from caloray.bundle import Bundle

    model = Bundle.load(path)
    low, high = np.log(model.energy_range)
    size = model.block_size

    def draw(block: int) -> None:
        energies = np.exp(np.random.default_rng(block).uniform(low, high, size))
        model.make_block(energies, 1, block, 0, table(model, block))

    def table(model: Bundle, block: int) -> Any:
        from caloray.preprocess.condition_range import inside_ranges

        draws = np.random.default_rng((block, 1))
        return inside_ranges(model.conditions, draws, size) if model.conditions else None

    draw(0)
    go.with_suffix(f".{first}").touch()
    while not go.exists():
        time.sleep(0.002)
    wall, cpu = time.perf_counter(), time.process_time()
    chosen = range(first, blocks, step)
    for block in chosen:
        draw(block)
    rows = size * len(chosen)
    return {"rows": rows, "wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def bare_round(bundle: Path, workers: int, blocks: int, folder: Path) -> dict[str, float]:
    """``workers`` bare loops at the same time."""
    go = folder / "go"
    command = [sys.executable, __file__, str(bundle), "--bare"]
    loops = [
        subprocess.Popen(
            [*command, str(i), str(workers), str(blocks), str(go)], stdout=subprocess.PIPE, text=True
        )
        for i in range(workers)
    ]
    while not all(go.with_suffix(f".{i}").exists() for i in range(workers)):
        time.sleep(0.01)
    go.touch()
    found = [json.loads(loop.communicate()[0]) for loop in loops]
    rows = sum(item["rows"] for item in found)
    wall, cpu = max(item["wall"] for item in found), sum(item["cpu"] for item in found)
    return {"showers_per_s": rows / wall, "cpu_ms": 1e3 * cpu / rows}


def campaign_file(bundle: Path, workers: int, shards: int, folder: Path, *, quality: bool) -> dict[str, Any]:
    from caloray.bundle import Bundle

    model = Bundle.load(bundle)
    conditions = [
        {"kind": "uniform", "name": item.name, "min": item.low, "max": item.high}
        for item in model.conditions
        if not item.name.startswith("direction")
    ]
    if any(item.name.startswith("direction") for item in model.conditions):
        conditions.append({"kind": "angles", "theta": [0, 5]})
    per_shard = max(1, ROWS // model.block_size) * model.block_size
    return {
        "name": "benchmark",
        "bundle": str(bundle),
        "output": str(folder / "campaign"),
        "particles": {"kind": "spectrum", "n": shards * per_shard, "conditions": conditions},
        "domain": "flag",
        "rows_per_shard": per_shard,
        "quality": {"enabled": quality},
        "workers": {"count": workers},
        "tracking": {"enabled": False},
    }


def campaign_round(settings: dict[str, Any]) -> dict[str, float]:
    """One campaign, from the first block of the first worker to the manifest."""
    from caloray.config import Campaign
    from caloray.distributed.produce import open_campaign, produce_campaign
    from caloray.generation.receipts import receipt_path, receipts_of

    began, cpu = time.perf_counter(), time.process_time()
    work = open_campaign(Campaign.model_validate(settings))
    manifest = produce_campaign(work)
    whole, driver = time.perf_counter() - began, time.process_time() - cpu
    receipts = list(receipts_of(work.directory, work.plan))
    ends = [receipt_path(work.directory, r.index).stat().st_mtime for r in receipts]
    start = min(end - receipt.seconds for end, receipt in zip(ends, receipts, strict=True))
    seconds = (work.directory / "manifest.json").stat().st_mtime - start
    rows, timing = manifest.rows(), manifest.created["timing"]
    return {
        "showers_per_s": rows / seconds,
        "cpu_ms": 1e3 * (timing["sample_cpu"] + timing["write_cpu"]) / rows,
        "write_share": timing["write_cpu"] / (timing["sample_cpu"] + timing["write_cpu"]),
        "bytes": sum(shard.bytes for shard in manifest.shards) / rows,
        "start_s": whole - seconds,
        "driver_cpu_s": driver,
        "redrawn": manifest.created["counts"]["redrawn"] / rows,
    }


def measure(bundle: Path, workers: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Bare loops and campaigns in turns."""
    from caloray.bundle import Bundle

    model = Bundle.load(bundle)
    blocks = arguments.shards * max(1, ROWS // model.block_size)
    rounds = []
    for number in range(arguments.rounds):
        with tempfile.TemporaryDirectory(prefix="caloray-") as name:
            loops = bare_round(bundle, workers, blocks, Path(name))
            settings = campaign_file(
                bundle, workers, arguments.shards, Path(name), quality=not arguments.no_quality
            )
            campaign = campaign_round(settings)
        rounds.append({"bare": loops, "campaign": campaign, "load": os.getloadavg()[0]})
        print(f"{bundle}, {workers} workers, round {number + 1}: {rounds[-1]}", file=sys.stderr)
    return {
        "bundle": str(bundle),
        "scheme": model.file.scheme.kind,
        "geometry": model.geometry.name,
        "backend": model.numerics["backend"],
        "workers": workers,
        "showers": blocks * model.block_size,
        "quality": model.quality is not None and not arguments.no_quality,
        "rounds": rounds,
        "wall_ratio": median(r["campaign"]["showers_per_s"] / r["bare"]["showers_per_s"] for r in rounds),
        "cpu_ratio": median(r["bare"]["cpu_ms"] / r["campaign"]["cpu_ms"] for r in rounds),
    }


def table(results: list[dict[str, Any]]) -> None:
    columns = "bundle|workers|bare showers/s|campaign|of bare|of bare, CPU|writing, CPU|bytes/shower|load"
    print("| " + " | ".join(columns.split("|")) + " |")
    print("|---" * 9 + "|")
    for item in results:
        rounds = item["rounds"]

        def mid(kind: str, key: str, rounds: list[dict[str, Any]] = rounds) -> float:
            return median(r[kind][key] for r in rounds)

        cells = (
            item["bundle"],
            item["workers"],
            f"{mid('bare', 'showers_per_s'):.1f}",
            f"{mid('campaign', 'showers_per_s'):.1f}",
            f"{100 * item['wall_ratio']:.1f} %",
            f"{100 * item['cpu_ratio']:.1f} %",
            f"{100 * mid('campaign', 'write_share'):.1f} %",
            f"{mid('campaign', 'bytes'):.0f}",
            f"{median(r['load'] for r in rounds):.1f}",
        )
        print("| " + " | ".join(map(str, cells)) + " |")


if __name__ == "__main__":
    main()
