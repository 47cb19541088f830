"""The GPU benchmark where there is no GPU, and what it must not need."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]


def gpu(*options: str, out: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHON": sys.executable, "OUT": str(out), "OMP_NUM_THREADS": "1"}
    command = [str(ROOT / "benchmarks" / "gpu.sh"), *options]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_and_measures_nothing(tmp_path: Path) -> None:
    done = gpu(out=tmp_path)
    assert (done.returncode, done.stdout) == (0, "gpu.py: no CUDA device here, nothing measured\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_smoke(tmp_path: Path) -> None:
    done = gpu("--smoke", out=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "gpu.json").read_text())
    assert "no measurement" in report["machine"]["device"]
    assert {row["method"] for row in report["showers"]} >= {"walk", "jacobi", "jacobi, graph"}
    assert all(row["exact"] for row in report["exactness"])
    assert "## showers" in (tmp_path / "gpu.md").read_text()


def test_flows_need_no_cluster_and_no_tracking() -> None:
    """The machine with the GPU has torch, numpy and h5py; nflows and pydantic are brought along."""
    code = (
        "import sys, caloray.flows.cuda_graph, caloray.flows.triton_spline, caloray.flows.maf; "
        "print([m for m in ('ray', 'mlflow', 'pyarrow', 'typer', 'psutil', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr
