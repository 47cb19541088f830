"""N showers in one campaign that is killed three times at random points, driver and workers alike.

    python benchmarks/million.py BUNDLE -n 1000000 --directory DIR [--kills 3] [--workers 2] [--prefix 20480]

Checked at the end: exactly N showers, each id once, every hash; and the first blocks have the same digests as
those of an undisturbed campaign of ``--prefix`` showers in one process. Told: when it was killed, what that
cost, and the largest resident memory of every kind of process. Run it again to go on where it ended itself.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import yaml

os.environ.setdefault("OMP_NUM_THREADS", "1")
POLL = 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("-n", type=int, default=1_000_000)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument(
        "--kill-seed", type=int, default=None, help="of the random points; new ones if left out"
    )
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--prefix", type=int, default=20_480)
    parser.add_argument("--rows-per-shard", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.kill_seed is None:
        arguments.kill_seed = int.from_bytes(os.urandom(4), "little")
    arguments.directory.mkdir(parents=True, exist_ok=True)
    facts = disturbed(arguments)
    facts |= checked(arguments)
    print(json.dumps(facts, indent=1))
    (arguments.directory / "million.json").write_text(json.dumps(facts, indent=1) + "\n")
    sys.exit(0 if facts["verdict"] == "exact" else 1)


def write_campaign(arguments: argparse.Namespace, name: str, n: int, workers: int) -> Path:
    """The campaign file, beside its output."""
    value = {
        "name": name,
        "bundle": str(arguments.bundle),
        "output": str(arguments.directory / name),
        "seed": arguments.seed,
        "particles": {"kind": "spectrum", "n": n},
        "rows_per_shard": arguments.rows_per_shard,
        "workers": {"count": workers},
        "tracking": {"enabled": False},
    }
    path = arguments.directory / f"{name}.yaml"
    path.write_text(yaml.safe_dump(value))
    return path


class Memory:
    """The largest resident memory of every kind of process below one."""

    def __init__(self) -> None:
        self.peaks: dict[str, float] = {}

    def look(self, pid: int, workers: set[int]) -> None:
        """Take the high-water marks of a process tree."""
        try:
            tree = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        except psutil.Error:
            return
        for process in tree:
            kind = "driver" if process.pid == pid else "worker" if process.pid in workers else _kind(process)
            peak = _high_water(process.pid)
            self.peaks[kind] = max(self.peaks.get(kind, 0.0), peak)


def _kind(process: psutil.Process) -> str:
    try:
        name = process.name()
    except psutil.Error:
        return "other"
    return f"Ray's {name.split('::', maxsplit=1)[0]}" if name else "other"


def _high_water(pid: int) -> float:
    """VmHWM of a process in MB."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)


def disturbed(arguments: argparse.Namespace) -> dict[str, Any]:
    """Carry the campaign out, killing it on the way."""
    path = write_campaign(arguments, "campaign", arguments.n, arguments.workers)
    out = arguments.directory / "campaign"
    draws = np.random.default_rng(arguments.kill_seed)
    shards = -(-arguments.n // arguments.rows_per_shard)
    points = sorted(draws.uniform(0.03, 0.97) * shards for _ in range(arguments.kills))
    memory, kills, began = Memory(), [], time.monotonic()
    while True:
        log = (arguments.directory / "campaign.log").open("a")
        command = [sys.executable, "-m", "caloray", "produce", str(path)]
        driver = subprocess.Popen(command, stdout=log, stderr=log)
        point = points[len(kills)] if len(kills) < len(points) else float("inf")
        killed = watch(driver, out, point, draws, memory)
        log.close()
        if killed is None:
            break
        kills.append(killed | {"after_s": round(time.monotonic() - began, 1)})
        print(f"killed: {kills[-1]}", file=sys.stderr)
    return {
        "bundle": str(arguments.bundle),
        "asked": arguments.n,
        "kill_seed": arguments.kill_seed,
        "kills": kills,
        "status": driver.returncode,
        "seconds": round(time.monotonic() - began, 1),
        "peak_mb": {kind: round(peak) for kind, peak in sorted(memory.peaks.items())},
    }


def watch(
    driver: subprocess.Popen[bytes], out: Path, point: float, draws: np.random.Generator, memory: Memory
) -> dict[str, Any] | None:
    """Wait for the end, or for the point where driver and workers are killed; None after an end."""
    from caloray.io.worker_notes import notes_of

    pause = draws.uniform(0, 10)
    while driver.poll() is None:
        workers = {note.pid for note in notes_of(out) if note.name != "driver"}
        memory.look(driver.pid, workers)
        done = len(list((out / "receipts").glob("*.json"))) if out.is_dir() else 0
        if done >= point and workers:
            time.sleep(pause)  # in the midst of a shard
            memory.look(driver.pid, workers)
            workers = {note.pid for note in notes_of(out) if note.name != "driver" and note.alive}
            if driver.poll() is not None:
                return None
            for pid in (driver.pid, *workers):
                os.kill(pid, signal.SIGKILL)
            driver.wait()
            return {"at_shards": done, "workers": len(workers)}
        time.sleep(POLL)
    return None


def checked(arguments: argparse.Namespace) -> dict[str, Any]:
    """Every promise, looked at afterwards."""
    from caloray.generation.plan import read_plan
    from caloray.generation.receipts import receipts_of
    from caloray.generation.verify import verify_production
    from caloray.io.manifest import Manifest

    out, twin = arguments.directory / "campaign", arguments.directory / "prefix"
    path = write_campaign(arguments, "prefix", arguments.prefix, 0)
    subprocess.run([sys.executable, "-m", "caloray", "-q", "produce", str(path)], check=True)
    found = verify_production(out)
    manifest = Manifest.load(out)
    digests = [
        [digest for receipt in receipts_of(folder, read_plan(folder)) for digest in receipt.blocks]
        for folder in (twin, out)
    ]
    whole = arguments.prefix // found.plan.block_size
    same = digests[0][:whole] == digests[1][:whole] and whole > 0
    exact = not found.problems and found.complete and manifest.rows() == arguments.n and same
    return {
        "showers": manifest.rows(),
        "each_id_once": not any(problem.kind == "ids" for problem in found.problems),
        "problems": [problem.message for problem in found.problems],
        "prefix_blocks_compared": whole,
        "prefix_is_the_same": same,
        "content_digest": manifest.created["content_digest"],
        "bytes_per_shower": round(sum(s.bytes for s in manifest.shards) / max(manifest.rows(), 1), 1),
        "timing": manifest.created["timing"],
        "counts": manifest.created["counts"],
        "verdict": "exact" if exact else "WRONG",
    }


if __name__ == "__main__":
    main()
