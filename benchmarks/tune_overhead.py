"""CPU seconds of a campaign of trivial trials per trial, against Ray Tune's bare function trial.

    python benchmarks/tune_overhead.py [--trials 24] [--concurrent 2] [--rounds 1] [--json FILE]

Each side runs twice, with few and with many trials; the difference over the difference of trials is what
one more trial costs, without Ray's start, the ingest and the report. CPU seconds are those of all processes
of the command, Ray's among them. A trial of the campaign is one epoch of a tiny flow on 160 showers, measured
and recorded, with its files; a bare trial reports one number, in a process of its own (Ray Tune's default)
or in one that serves trial after trial, as the campaign has it. What a campaign's trial says that it spent
itself (training, measuring) stands beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import yaml
from process_tree import Measured, watch

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "data" / "geant4_par04_ds2.hdf5"
FEW, SHOWERS = 2, 200
SIDES = ("bare", "bare, processes reused", "campaign")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=24, help=f"of the larger run; the smaller has {FEW}")
    parser.add_argument("--concurrent", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", type=Path)
    parser.add_argument(
        "--bare", nargs=3, type=int, metavar=("TRIALS", "CONCURRENT", "REUSE"), help=argparse.SUPPRESS
    )
    return parser.parse_args()


def bare(trials: int, concurrent: int, reuse: int) -> None:
    """As many function trials that report one number, each in its own process or not."""
    from ray import tune

    from caloray.config import ClusterConfig
    from caloray.distributed.session import connect

    def trivial(config: dict[str, Any]) -> None:
        tune.report({"value": config["x"] ** 2})

    cluster = ClusterConfig(num_cpus=concurrent, object_store_gb=0.3)
    with tempfile.TemporaryDirectory(prefix="bare-") as folder, connect(cluster):
        tuner = tune.Tuner(
            tune.with_resources(trivial, {"cpu": 1}),
            param_space={"x": tune.uniform(0, 1)},
            tune_config=tune.TuneConfig(
                num_samples=trials, max_concurrent_trials=concurrent, reuse_actors=bool(reuse)
            ),
            run_config=tune.RunConfig(storage_path=folder, verbose=0),
        )
        results = tuner.fit()
    if len(results) != trials or results.errors:
        raise SystemExit("bare trials failed")


def prepare(scratch: Path) -> None:
    """A few showers and a run config that trains on them in no time."""
    from caloray.io.challenge import write_challenge
    from caloray.io.source import FileSource

    source = FileSource(SAMPLE, 0, SHOWERS)
    write_challenge(scratch / "few.hdf5", source.geometry, source.chunks())
    run = {
        "name": "trivial",
        "output": str(scratch / "run"),
        "data": {
            "files": [str(scratch / "few.hdf5")],
            "split": {"train": 0.8, "validation": 0.1, "test": 0.1},
        },
        "scheme": {"flows": {"layer_energies": {"blocks": 1, "hidden": 4, "hidden_layers": 1}}},
        "training": {"layer_energies": {"epochs": 1, "batch": 160, "validation_rows": 20}},
    }
    (scratch / "run.yaml").write_text(yaml.safe_dump(run))


def campaign(scratch: Path, trials: int, concurrent: int) -> Path:
    """A campaign file, and nothing in its output."""
    shutil.rmtree(scratch / "tune", ignore_errors=True)
    value = {
        "name": "trivial",
        "config": str(scratch / "run.yaml"),
        "output": str(scratch / "tune"),
        "components": ["layer_energies"],
        "space": {"training.layer_energies.schedule.max_lr": {"log_uniform": [1e-4, 1e-2]}},
        "search": {"kind": "random"},
        "budget": {"trials": trials},
        "trial": {"cpus": 1, "concurrent": concurrent},
        "objective": {"kind": "nll", "rows": 20},
        "baseline": False,
        "confirm": None,
        "tracking": {"enabled": False},
        "cluster": {"num_cpus": concurrent, "object_store_gb": 0.3},
    }
    path = scratch / "tune.yaml"
    path.write_text(yaml.safe_dump(value))
    return path


def command(side: str, scratch: Path, trials: int, concurrent: int) -> list[str]:
    if side != "campaign":
        reuse = str(int(side != "bare"))
        return [sys.executable, __file__, "--bare", str(trials), str(concurrent), reuse]
    return [sys.executable, "-m", "caloray", "tune", str(campaign(scratch, trials, concurrent))]


def carry_out(arguments: list[str], log: Path) -> Measured:
    """Run a command to its end; a failed one ends the benchmark."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    with log.open("w") as file:
        run = watch(subprocess.Popen(arguments, env=environment, stdout=file, stderr=subprocess.STDOUT))
    if run.status:
        raise SystemExit(f"{' '.join(arguments)}: exit status {run.status}\n{log.read_text()[-2000:]}")
    return run


def own_seconds(output: Path) -> float:
    """Median CPU seconds that the campaign's trials say they spent."""
    from caloray.tuning.ledger import Ledger

    results = Ledger(output).results().values()
    if not all(result.complete for result in results):
        raise SystemExit("trials of the campaign failed")
    return median(result.cpu_seconds for result in results)


def measure(scratch: Path, trials: int, concurrent: int) -> dict[str, Any]:
    found: dict[str, Any] = {"load": os.getloadavg()[0]}
    for side in SIDES:
        runs = {
            count: carry_out(command(side, scratch, count, concurrent), scratch / f"{side}.log")
            for count in (FEW, trials)
        }
        less, more = runs[FEW], runs[trials]
        found[side] = {
            "runs": {count: asdict(run) for count, run in runs.items()},
            "cpu_per_trial": (more.cpu - less.cpu) / (trials - FEW),
            "wall_per_trial": (more.wall - less.wall) / (trials - FEW),
        }
    found["campaign"]["own_cpu"] = own_seconds(scratch / "tune")
    found["ratios"] = {
        side: found["campaign"]["cpu_per_trial"] / found[side]["cpu_per_trial"] for side in SIDES[:-1]
    }
    return found


def table(rounds: list[dict[str, Any]]) -> None:
    print(
        "| trials | CPU s per trial | of it the trial's own | wall s per trial | CPU s of the smaller run |"
    )
    print("|---|---|---|---|---|")
    for side in SIDES:
        cpu, wall = (median(r[side][key] for r in rounds) for key in ("cpu_per_trial", "wall_per_trial"))
        start = median(next(iter(r[side]["runs"].values()))["cpu"] for r in rounds)
        own = f"{median(r[side]['own_cpu'] for r in rounds):.2f}" if side == "campaign" else ""
        print(f"| {side} | {cpu:.2f} | {own} | {wall:.2f} | {start:.1f} |")
    for side in SIDES[:-1]:
        print(f"\ncampaign over {side}: {median(r['ratios'][side] for r in rounds):.2f}", end="")
    print(f", load {median(r['load'] for r in rounds):.1f}")


def main() -> None:
    options = parse()
    if options.bare:
        bare(*options.bare)
        return
    with tempfile.TemporaryDirectory(prefix="caloray-") as name:
        prepare(Path(name))
        rounds = [measure(Path(name), options.trials, options.concurrent) for _ in range(options.rounds)]
    result = {"trials": options.trials, "concurrent": options.concurrent, "rounds": rounds}
    print(json.dumps(result, indent=1))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    table(rounds)


if __name__ == "__main__":
    main()
