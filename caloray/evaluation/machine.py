"""The machine behind a timing: processor, GPU, versions, memory."""

from __future__ import annotations

__all__ = ["describe_machine", "gpu_name", "peak_memory_mb"]

import os
import platform
import resource
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

CPUINFO = Path("/proc/cpuinfo")


def describe_machine() -> dict[str, Any]:
    """Processor, number of CPUs, GPU, load when asked, versions of Python, numpy and torch."""
    return {
        "cpu": _cpu_name(),
        "cpus": os.cpu_count(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "load": [round(value, 2) for value in os.getloadavg()],
        "gpu": gpu_name() if torch.cuda.is_available() else None,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": str(torch.__version__),
    }


def gpu_name(device: str = "cuda") -> str:
    """Name of a GPU that torch sees."""
    return str(torch.cuda.get_device_name(device))


def peak_memory_mb() -> float:
    """Largest resident memory of this process so far [MB, 10^6 bytes]."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def _cpu_name() -> str:
    if CPUINFO.is_file():
        for line in CPUINFO.read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name" and value.strip():
                return value.strip()
    return platform.processor() or platform.machine()
