"""Exactness and speed of sampling on a GPU; run by ``gpu.sh``.

    python benchmarks/gpu.py [--out DIRECTORY] [--budget SECONDS] [--batches 1,100,10000] [--steps 1,16]

Methods: "walk" solves one group of dimensions after the other, "jacobi" iterates over all of them, "graph"
replays CUDA graphs. Weights are random: the number of Jacobi iterations of trained flows may differ, and with
it the time; the tables give the iterations that were needed. Times are of the flows alone (no preprocessing,
no random numbers, nothing copied to the host), measured with CUDA events after a warm-up. TF32 is off. What
does not fit into the time budget or into memory is listed with the reason instead of a time.

Exit status: 0 also where there is no GPU (one line says so), 1 if a result was not exact, 69 if a package is
missing. ``--smoke`` runs everything on tiny flows on the CPU, graphs step by step, to test this program.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Installed packages come first; this folder (made by `gpu.sh prepare`) has what is missing.
sys.path += [str(Path(__file__).parents[1]), os.environ.get("GPU_SITE", "build/gpu_site")]
EXACT64, EXACT32, SLOW_MS = 1e-9, 5e-4, 5e3


def main() -> int:
    options = parse()
    try:
        import gpu_cases as cases
        import torch
    except ModuleNotFoundError as error:
        print(f"gpu.py: {error.name} is missing; run `benchmarks/gpu.sh prepare` where there is a network")
        return 69
    if not options.smoke and not torch.cuda.is_available():
        print("gpu.py: no CUDA device here, nothing measured")
        return 0
    torch.backends.cuda.matmul.allow_tf32 = False
    bench = Bench(options, torch, cases)
    for part in options.parts.split(","):
        getattr(bench, part)()
    return 0 if all(row["exact"] for row in bench.report["exactness"] if "exact" in row) else 1


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--out", type=Path, default=Path("build/gpu"))
    parser.add_argument("--budget", type=float, default=480.0, help="seconds, after which no row is started")
    parser.add_argument("--batches", default="1,100,10000")
    parser.add_argument("--steps", default="1,16", help="sizes of the autoregressive groups")
    parser.add_argument("--sweeps", type=int, default=5, help="Jacobi iterations recorded per panel")
    parser.add_argument("--datasets", default="DS2,DS3")
    parser.add_argument("--parts", default="exactness,mades,showers")
    parser.add_argument("--smoke", action="store_true")
    return parser.parse_args()


class Bench:
    """Runs the cases until the budget is spent and keeps what came out."""

    def __init__(self, options: argparse.Namespace, torch: Any, cases: Any) -> None:
        self.options, self.torch, self.cases = options, torch, cases
        self.device = torch.device("cpu" if options.smoke else "cuda")
        self.deadline = time.monotonic() + options.budget
        self.batches = [3, 20] if options.smoke else [int(b) for b in options.batches.split(",")]
        self.steps = [1, 2] if options.smoke else [int(p) for p in options.steps.split(",")]
        chosen = options.datasets.split(",")
        known = cases.DATASETS.items()
        self.methods = cases.methods()
        self.datasets = cases.SMOKE if options.smoke else {k: v for k, v in known if k in chosen}
        self.report: dict[str, Any] = {
            "machine": self.machine(),
            "options": {key: str(value) for key, value in vars(options).items()},
            "exactness": [],
            "mades": [],
            "showers": [],
        }

    def machine(self) -> dict[str, object]:
        """What the numbers belong to."""
        torch, device = self.torch, "CPU (smoke test: no measurement)"
        if not self.options.smoke:
            device = torch.cuda.get_device_name()
        try:
            import triton

            version = triton.__version__
        except ModuleNotFoundError:
            version = None
        return {
            "device": device,
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
            "triton": version,
            "python": platform.python_version(),
        }

    def cases_of(self) -> Iterator[tuple[str, Any, int]]:
        """Name, flows and group size p of every model."""
        for name, data in self.datasets.items():
            for step in self.steps:
                yield name, data, step

    def exactness(self) -> None:
        """Every method in float64 and float32, two MADEs, against the walk in float64 on the CPU."""
        for name, data, step in self.cases_of():
            shape, double = data.following, self.torch.float64
            flow = self.cases.build(shape, blocks=2, step=step, name=name).to(double)
            inputs = self.cases.draw(shape, 32, self.torch.zeros((), dtype=double))
            with self.torch.no_grad():
                expected = self.cases.prepare("walk", flow, 32, shape.context, 0)(*inputs)
            for method, dtype in ((m, d) for m in self.methods for d in (double, self.torch.float32)):
                row = {"flow": name, "p": step, "method": method, "dtype": str(dtype)[6:]}
                with self.row("exactness", row):
                    row |= self.deviation(method, flow.to(self.device, dtype), inputs, expected)

    def deviation(self, method: str, flow: Any, inputs: Any, expected: Any) -> dict[str, object]:
        """Largest differences to the expected data and log-determinant."""
        like = next(flow.parameters())
        noise, context = (part.to(like) for part in inputs)
        solve = self.cases.prepare(method, flow, len(noise), context.shape[1], self.options.sweeps)
        dx, dlog = (
            (one.cpu().double() - other).abs().max().item()
            for one, other in zip(solve(noise, context), expected, strict=True)
        )
        limit = EXACT64 if like.dtype == self.torch.float64 else EXACT32
        return {"max_dx": dx, "max_dlog": dlog, "exact": dx <= limit}

    def mades(self) -> None:
        """One MADE of the flow of the following layers, float32."""
        for batch in self.batches:
            for name, data, step in self.cases_of():
                shape = data.following
                flow = self.cases.build(shape, blocks=1, step=step, name=name).to(self.device)
                inputs = self.cases.draw(shape, batch, next(flow.parameters()))
                sweeps = self.cases.sweeps_of(flow, *inputs)
                for method in self.methods:
                    row = {"flow": name, "p": step, "batch": batch, "method": method, "sweeps": sweeps}
                    with self.row("mades", row):
                        row |= self.one_made(method, flow, inputs)

    def one_made(self, method: str, flow: Any, inputs: Any) -> dict[str, object]:
        """Time of one method."""
        noise, context = inputs
        solve = self.cases.prepare(method, flow, len(noise), context.shape[1], self.options.sweeps)
        return self.timed(lambda: solve(noise, context), len(noise))

    def showers(self) -> None:
        """All flows of whole showers, float32; the slow ways come last."""
        slow = [method for method in self.methods if method.startswith("walk")]
        fast = [method for method in self.methods if method not in slow]
        for batch, methods in ((b, m) for m in (fast, slow) for b in self.batches):
            for name, data, step in self.cases_of():
                for method in methods:
                    row = {"dataset": name, "p": step, "batch": batch, "method": method}
                    with self.row("showers", row):
                        row |= self.one_dataset(name, data, step, batch, method)

    def one_dataset(self, name: str, data: Any, step: int, batch: int, method: str) -> dict[str, object]:
        """Time of one method; how many sweeps more than recorded a batch took, all layers together."""
        solves = []
        for shape in (data.energies, data.first, data.following):
            flow = self.cases.build(shape, blocks=8, step=min(step, shape.features // 2), name=name)
            flow.to(self.device)
            solves.append(self.cases.prepare(method, flow, batch, shape.context, self.options.sweeps))
        shower = self.cases.Shower(data, solves, batch, self.torch.zeros((), device=self.device))
        found = self.timed(shower, batch)
        extra = [getattr(solve, "extra_sweeps", 0) for solve in solves]
        return {**found, "extra_sweeps": round(sum(extra) / (found["runs"] + found["warm_up"]), 2)}

    @contextlib.contextmanager
    def row(self, part: str, row: dict[str, Any]) -> Iterator[None]:
        """Run one row if there is time, and keep it with the reason if there is no result."""
        rows = self.report[part]
        rows.append(row)
        try:
            if time.monotonic() > self.deadline:
                raise _SkippedError("time budget spent")
            with self.torch.no_grad():
                yield
        except (_SkippedError, self.torch.OutOfMemoryError) as error:
            row["skipped"] = str(error).split(".", maxsplit=1)[0]
        self.release()
        self.write()
        print(f"{part}: {' '.join(f'{k}={v}' for k, v in row.items())}", flush=True)

    def release(self) -> None:
        """Give graphs and buffers of the last row back, so that the next one's peak is its own."""
        gc.collect()
        if not self.options.smoke:
            self.torch.cuda.synchronize()
            self.torch.cuda.empty_cache()
            self.torch.cuda.reset_peak_memory_stats()

    def timed(self, work: Callable[[], object], batch: int) -> dict[str, Any]:
        """Milliseconds of 3 to 20 runs (about two seconds of them) after two to warm up.

        A run of more than five seconds is not repeated: its only time is that of the first run.
        """
        times, warm_up = [self.once(work)], 0
        if times[0] < SLOW_MS:
            first, warm_up = self.once(work), 2
            times = [self.once(work) for _ in range(max(3, min(20, int(2e3 / max(first, 1e-3)))))]
        median = statistics.median(times)
        found = {
            "ms": round(median, 4),
            "ms_min": round(min(times), 4),
            "ms_max": round(max(times), 4),
            "runs": len(times),
            "warm_up": warm_up,
            "us_per_row": round(1e3 * median / batch, 4),
        }
        if not self.options.smoke:
            found["peak_mb"] = self.torch.cuda.max_memory_allocated() >> 20
        return found

    def once(self, work: Callable[[], object]) -> float:
        """Milliseconds of one run."""
        if self.options.smoke:
            began = time.perf_counter()
            work()
            return 1e3 * (time.perf_counter() - began)
        start, stop = (self.torch.cuda.Event(enable_timing=True) for _ in range(2))
        self.torch.cuda.synchronize()
        start.record()
        work()
        stop.record()
        stop.synchronize()
        elapsed: float = start.elapsed_time(stop)
        return elapsed

    def write(self) -> None:
        """``gpu.json`` with everything, ``gpu.md`` with the tables."""
        out = self.options.out
        out.mkdir(parents=True, exist_ok=True)
        (out / "gpu.json").write_text(json.dumps(self.report, indent=1))
        lines = [", ".join(f"{key} {value}" for key, value in self.report["machine"].items())]
        for part in ("exactness", "mades", "showers"):
            lines += ["", f"## {part}", "", *table(self.report[part])]
        (out / "gpu.md").write_text("\n".join(lines) + "\n")


class _SkippedError(Exception):
    """Why a row has no result."""


def table(rows: list[dict[str, object]]) -> list[str]:
    """Markdown; columns are the union of the rows' keys."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    head = [f"| {' | '.join(columns)} |", "|" + " --- |" * len(columns)]
    return [*head, *(f"| {' | '.join(cell(row.get(column)) for column in columns)} |" for row in rows)]


def cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value)


if __name__ == "__main__":
    sys.exit(main())
