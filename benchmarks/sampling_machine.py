"""The machine of the sampling benchmark: what it is, and what its core can do at best."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from sampling_clock import Candidate, alternate, clock
from sampling_models import SPLINE, Block, Size, nflows_inverse

from caloray.flows.spline import spline_inverse

FLAGS = ("avx2", "fma", "avx512f", "avx512_bf16", "amx_tile", "amx_bf16", "asimd", "bf16")
GEMM = 2048
BUFFERS_MB = (1, 16, 256)
ONE_UNIT = Size("one hidden unit", 1024, 1, 1, 1)


def describe() -> dict[str, object]:
    """Processor, versions, commit, load."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    info = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    flags = (info.get("flags") or info.get("Features") or "").split()
    return {
        "cpu": info.get("model name") or platform.processor() or platform.machine(),
        "flags": [flag for flag in FLAGS if flag in flags],
        "cpus": os.cpu_count(),
        "load": os.getloadavg(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "commit": _git("rev-parse", "--short", "HEAD"),
        "changed": bool(_git("status", "--porcelain", "--untracked-files=no")),
    }


def _git(*words: str) -> str:
    command = ["git", "-C", str(Path(__file__).parent), *words]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip()


def roofline(rounds: int) -> dict[str, float]:
    """GFLOP/s of torch's matrix products and GB/s of reading."""
    result = {}
    for name, dtype in (("f32", torch.float32), ("bf16", torch.bfloat16)):
        a, b = (torch.randn(GEMM, GEMM).to(dtype) for _ in range(2))
        seconds = min(clock(partial(torch.mm, a, b))[0] for _ in range(rounds + 1))
        result[f"GEMM {name} [GFLOP/s]"] = 2 * GEMM**3 / seconds / 1e9
    for megabytes in BUFFERS_MB:
        buffer = torch.ones(megabytes * 2**18)
        count = max(1, 256 // megabytes)
        seconds = min(clock(buffer.sum, count)[0] for _ in range(rounds + 1))
        result[f"reading {megabytes} MB [GB/s]"] = buffer.nbytes / seconds / 1e9
    return result


def splines(names: list[str], rounds: int, batch: int) -> dict[str, float]:
    """Nanoseconds of CPU time per inverse spline.

    caloray's back-ends invert a MADE with a single hidden unit, so its products are included; nflows and
    torch alone get their parameters ready-made.
    """
    block = Block.build(ONE_UNIT, [name for name in names if name != "jacobi"])
    noise, context = block.draw(batch)
    raw = block.ours.raw_parameters(noise, context)
    flat = raw.transpose(1, 2).reshape(batch, -1)
    candidates = [Candidate(name, partial(run, noise, context)) for name, run in block.inverters.items()]
    candidates += [
        Candidate("torch, spline alone", partial(spline_inverse, noise, raw, SPLINE)),
        Candidate("nflows f32, spline alone", partial(block.nflows._elementwise_inverse, noise, flat)),
        nflows_inverse("nflows f32, one pass", block.nflows, noise, context, 0.0),
    ]
    with torch.no_grad():
        found = alternate(candidates, rounds, 20.0)
    elements = batch * ONE_UNIT.features
    each = {name: 1e9 * timing.cpu.median / elements for name, timing in found.items()}
    each["nflows f32, one pass"] /= ONE_UNIT.features
    return each


def on_two_cores(size: str, backend: str, batch: int, seconds: float) -> dict[str, float]:
    """Samples per wall second of one thread, of two threads, and of two processes of one thread each."""
    words = (size, backend, batch, seconds)
    (alone,), (threads,), both = _rates(1, 1, *words), _rates(1, 2, *words), _rates(2, 1, *words)
    return {
        "one thread": alone,
        "two threads": threads,
        "their gain": threads / alone,
        "two processes": sum(both),
        "gain of processes": sum(both) / alone,
    }


def _rates(processes: int, *words: object) -> list[float]:
    command = [sys.executable, __file__, *map(str, words)]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
    return [float(json.loads(process.communicate()[0])) for process in started]


def _rate(run: Callable[[], object], batch: int, seconds: float) -> float:
    """Samples per second of wall time after a warm-up."""
    until = time.perf_counter() + seconds / 4
    while time.perf_counter() < until:
        run()
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        run()
        done += batch
    return done / (time.perf_counter() - began)


def main() -> None:
    from sampling_models import SIZES

    threads, size, backend, batch, seconds = sys.argv[1:]
    torch.set_num_threads(int(threads))
    block = Block.build(SIZES[size], [backend])
    noise, context = block.draw(int(batch))
    with torch.no_grad():
        print(_rate(partial(block.inverters[backend], noise, context), int(batch), float(seconds)))


if __name__ == "__main__":
    main()
