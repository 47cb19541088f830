"""Layer flows trained side by side: two workers against one, and what the loss of a worker costs.

    python benchmarks/layer_training.py [FILES...] [--layers 8] [--epochs 30] [--json layers.json]
    python benchmarks/layer_training.py --mode kill

FILES are CaloChallenge HDF5 files of dataset 2's geometry (default: the Geant4 sample of the repository).

* ratio: the same layers with the same settings on a Ray of one CPU and on one of two, each layer flow on
  one CPU. The weights must be the same bits. CPU seconds are those of all processes, Ray's too.
* kill: one layer's worker is killed with SIGKILL and not restarted (max_failures 0). The others must end as
  if nothing had been; the same command again trains only the one that is missing.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from process_tree import LOOK_EVERY, Measured, watch

from caloray.training.files import ComponentFolder

SAMPLE = Path(__file__).parents[1] / "data" / "geant4_par04_ds2.hdf5"


def main() -> None:
    options = parse()
    with tempfile.TemporaryDirectory(prefix="layers-") as name:
        scratch = Path(name)
        ingest(options, scratch)
        report: dict[str, Any] = {"settings": {k: str(v) for k, v in vars(options).items()}}
        if options.mode in {"ratio", "both"}:
            report["ratio"] = ratio(options, scratch)
        if options.mode in {"kill", "both"}:
            report["kill"] = kill(options, scratch)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="*", type=Path, default=[SAMPLE])
    parser.add_argument("--mode", choices=("ratio", "kill", "both"), default="both")
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--blocks", type=int, default=2)
    parser.add_argument("--hidden", type=int, default=16)
    parser.add_argument("--workers", type=int, default=2, help="CPUs of the larger Ray")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def write_config(options: argparse.Namespace, scratch: Path, name: str) -> Path:
    """A run of its own in ``scratch/name``, with the shards of the ingest if they are there."""
    value = {
        "name": name,
        "output": str(scratch / name),
        "data": {
            "files": [str(path.absolute()) for path in options.files],
            "geometry": "ds2",
            "split": {"train": 0.8, "validation": 0.1, "test": 0.1},
        },
        "scheme": {
            "kind": "layerwise",
            "flows": {
                "layer": {
                    "blocks": options.blocks,
                    "hidden": options.hidden,
                    "squeeze": [1, 2],
                    "kernels": [[3, 2], [3, 2]],
                }
            },
        },
        "training": {"layer": {"epochs": options.epochs, "batch": 128, "checkpoint_steps": 20}},
        "workers": {"layer": {"cpus": 1, "max_failures": 0}},
        "tracking": {"enabled": False},
        "cluster": {"object_store_gb": 0.3},
    }
    path = scratch / f"{name}.yaml"
    path.write_text(yaml.safe_dump(value))
    shards = scratch / "shards"
    if shards.is_dir():
        shutil.copytree(shards, scratch / name / "shards")
    return path


def ingest(options: argparse.Namespace, scratch: Path) -> None:
    """Shards and statistics once for all runs, so that only training is measured."""
    from caloray.config import load_config
    from caloray.io.ingest import ingest as shard

    config = load_config(write_config(options, scratch, "ingest"))
    shard(config.data, scratch / "shards")


def train(config: Path, layers: int, cpus: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "caloray", "train", str(config), "--layers", f"0-{layers - 1}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([*command, "--set", f"cluster.num_cpus={cpus}"], env=environment)


def ratio(options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    found: dict[int, Measured] = {}
    weights: dict[int, list[str]] = {}
    for cpus in (1, options.workers):
        name = f"cpus{cpus}"
        found[cpus] = watch(train(write_config(options, scratch, name), options.layers, cpus))
        weights[cpus] = [digest(scratch / name, layer) for layer in range(options.layers)]
    print(f"\n{options.layers} layers, {options.epochs} epochs each")
    print(f"{'workers':>8} {'wall s':>8} {'CPU s':>8} {'wall ratio':>11}")
    for cpus, run in found.items():
        print(f"{cpus:>8} {run.wall:8.1f} {run.cpu:8.1f} {found[1].wall / run.wall:11.2f}")
    same = weights[1] == weights[options.workers] and "" not in weights[1]
    print(
        f"weights {'identical' if same else 'DIFFER'}; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    )
    return {
        "runs": {cpus: asdict(run) for cpus, run in found.items()},
        "wall_ratio": found[1].wall / found[options.workers].wall,
        "identical": same,
    }


def kill(options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """The second of four layers loses its worker in the middle of its training."""
    layers, victim = 4, 1
    config = write_config(options, scratch, "killed")
    run = scratch / "killed"
    process = train(config, layers, options.workers)
    while process.poll() is None and step_of(run, victim) < 2 * options.epochs:
        time.sleep(LOOK_EVERY)
    pid = int((folder_of(run, victim) / "worker.pid").read_text())
    os.kill(pid, signal.SIGKILL)
    first = process.wait()
    before = [digest(run, layer) for layer in range(layers)]
    pids = [(folder_of(run, layer) / "worker.pid").read_text() for layer in range(layers)]
    second = train(config, layers, options.workers).wait()
    after = [digest(run, layer) for layer in range(layers)]
    print(f"\nkill -9 of layer {victim}'s worker; exit status {first}, then {second}")
    print(f"{'component':>10} {'first run':>10} {'second run':>11} {'weights kept':>13}")
    rows = []
    for layer in range(layers):
        again = pids[layer] != (folder_of(run, layer) / "worker.pid").read_text()
        kept = "yes" if before[layer] and before[layer] == after[layer] else "-"
        rows.append(
            (f"layer_{layer:02d}", "done" if before[layer] else "lost", "trained" if again else "kept")
        )
        print(f"{rows[-1][0]:>10} {rows[-1][1]:>10} {rows[-1][2]:>11} {kept:>13}")
    return {"status": [first, second], "layers": rows, "before": before, "after": after}


def folder_of(run: Path, layer: int) -> Path:
    return run / "components" / f"layer_{layer:02d}"


def digest(run: Path, layer: int) -> str:
    """Hash of a layer's weights, empty while there are none."""
    result = ComponentFolder(folder_of(run, layer)).result()
    return result.sha256 if result else ""


def step_of(run: Path, layer: int) -> int:
    try:
        return int(json.loads((folder_of(run, layer) / "progress.json").read_text())["step"])
    except (OSError, ValueError, KeyError):
        return 0


if __name__ == "__main__":
    main()
