"""Peak memory of every process while 40,500-voxel showers are ingested, fed to a training and generated.

    python benchmarks/memory.py FILES... [--showers 20000] [--train-seconds 120] [--json memory.json]

FILES are CaloChallenge HDF5 files of dataset 3; they are repeated up to ``--showers``. Three commands run
one after the other, as a user would type them: ``caloray data ingest --ray``, ``caloray train`` (stopped
after ``--train-seconds``; the flow is tiny, its data are not) and ``caloray generate --workers 2`` from an
untrained bundle of the same geometry. Five times a second the memory of all their processes is read: RSS
(shared memory counted in every process that touched it) and USS (what would be free without the process).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import yaml

from caloray.bundle import save_bundle
from caloray.flows.maf import MAFConfig
from caloray.geometry import load_geometry
from caloray.io.challenge import ChallengeFile, write_challenge
from caloray.preprocess.statistics import TrainingStatistics
from caloray.schemes.build import build_scheme
from caloray.schemes.inductive_config import InductiveConfig, InductiveFlows
from caloray.showers import Showers

TINY = MAFConfig(blocks=1, hidden=16, hidden_layers=2, degrees="nflows")
FLOWS = InductiveFlows(layer_energies=TINY, first_layer=TINY, next_layer=TINY)


def main() -> None:
    options = parse()
    with tempfile.TemporaryDirectory(prefix="memory-") as name:
        scratch = Path(name)
        source = repeat(options.files, options.showers, scratch / "showers.hdf5")
        config = write_config(scratch, source)
        bundle = write_bundle(scratch / "bundle")
        caloray = [sys.executable, "-m", "caloray"]
        stages = {
            "ingest": ([*caloray, "data", "ingest", str(source), "-o", f"{scratch}/shards", "--ray"], None),
            "train": ([*caloray, "train", str(config)], options.train_seconds),
            "generate": (
                [
                    *caloray,
                    *("generate", str(bundle), "-n", str(options.showers)),
                    *("-o", f"{scratch}/out", "--workers", "2"),
                ],
                None,
            ),
        }
        report = {}
        for stage in options.stages.split(","):
            report[stage] = watch(*stages[stage])
            show(stage, report[stage])
    if options.json:
        options.json.write_text(json.dumps(report, indent=1))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--showers", type=int, default=20_000)
    parser.add_argument("--train-seconds", type=float, default=120.0)
    parser.add_argument("--stages", default="ingest,train,generate")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def repeat(files: list[Path], count: int, target: Path) -> Path:
    """One file of ``count`` showers, the given ones again and again."""

    def chunks() -> Iterator[Showers]:
        left = count
        while left:
            for path in files:
                with ChallengeFile.open(path) as file:
                    for part in file.chunks(500, stop=min(left, file.n_showers)):
                        yield part
                        left -= len(part)

    write_challenge(target, load_geometry("ds3"), chunks())
    return target


def write_config(scratch: Path, source: Path) -> Path:
    """A training of a tiny flow on all rows of all layers."""
    training = {"epochs": 1, "batch": 256, "validation_rows": 1000, "checkpoint_steps": 100}
    components = ("layer_energies", "first_layer", "next_layer")
    value = {
        "name": "memory",
        "output": str(scratch / "run"),
        "data": {"files": [str(source)], "geometry": "ds3"},
        "scheme": {"kind": "inductive", "flows": FLOWS.model_dump(mode="json")},
        "training": dict.fromkeys(components, training),
    }
    path = scratch / "memory.yaml"
    path.write_text(yaml.safe_dump(value))
    return path


def write_bundle(directory: Path) -> Path:
    """Untrained flows: sampling costs the same memory as with trained ones."""
    config, geometry = InductiveConfig(flows=FLOWS), load_geometry("ds3")
    statistics = TrainingStatistics(1, 1.4, 5000.0, 1000.0, 50_000.0)
    scheme = build_scheme(config, geometry, statistics, 1)
    weights = {name: scheme.component(name).build().state_dict() for name in scheme.components}
    save_bundle(directory, config=config, geometry=geometry, statistics=statistics, seed=1, weights=weights)
    return directory


def watch(command: list[str], seconds: float | None) -> dict[str, object]:
    """Run a command and keep the largest memory of every process below it."""
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"})
    peaks: dict[int, dict[str, object]] = {}
    stopped = False
    while process.poll() is None:
        with contextlib.suppress(psutil.NoSuchProcess):
            parent = psutil.Process(process.pid)
            for one in [parent, *parent.children(recursive=True)]:
                record(one, peaks)
        if seconds is not None and not stopped and time.monotonic() - began > seconds:
            process.send_signal(signal.SIGTERM)
            stopped = True
        time.sleep(0.2)
    largest = sorted(peaks.values(), key=lambda p: -int(str(p["rss_mb"])))[:8]
    return {
        "exit": process.returncode,
        "seconds": round(time.monotonic() - began, 1),
        "stopped": stopped,
        "processes": largest,
    }


def record(process: psutil.Process, peaks: dict[int, dict[str, object]]) -> None:
    """Note the memory of one process if it is the largest so far."""
    with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
        info = process.memory_full_info()
        name = " ".join(process.cmdline())[:60] or process.name()
        old = peaks.get(process.pid, {"rss_mb": 0, "uss_mb": 0})
        peaks[process.pid] = {
            "name": name,
            "rss_mb": max(info.rss >> 20, int(str(old["rss_mb"]))),
            "uss_mb": max(info.uss >> 20, int(str(old["uss_mb"]))),
        }


def show(stage: str, found: dict[str, object]) -> None:
    ending = "stopped as planned" if found["stopped"] else f"exit {found['exit']}"
    print(f"{stage}: {found['seconds']} s, {ending}")
    processes = found["processes"]
    for one in processes if isinstance(processes, list) else []:
        print(f"  RSS {one['rss_mb']:6d} MB   USS {one['uss_mb']:6d} MB   {one['name']}")


if __name__ == "__main__":
    main()
