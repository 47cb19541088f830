"""The Triton spline: in Triton's interpreter where there is no GPU, on the GPU where there is one."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch

from caloray.errors import ConfigError
from caloray.flows import triton_spline
from caloray.flows.spline import SplineConfig, spline_inverse

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
needs_gpu = pytest.mark.skipif(not triton_spline.available(), reason=triton_spline.why_not() or "there")

CHECK = """
import sys
import torch
from caloray.flows.spline import SplineConfig, spline_inverse
from caloray.flows.triton_spline import triton_spline_inverse

def compare(device):
    coarse = SplineConfig(bins=5, tail_bound=3.0, min_width=1e-3, min_height=1e-3, min_derivative=1e-3)
    for config in (SplineConfig(), coarse, SplineConfig(bins=2)):
        for rows, features, scale in ((40, 37, 1.0), (1, 300, 5.0), (300, 1, 20.0), (0, 4, 1.0)):
            y = (torch.rand(rows, features, dtype=torch.float64) * 2.4 - 1.2) * config.tail_bound
            raw = scale * torch.randn(rows, config.n_raw, features, dtype=torch.float64)
            if rows > 1:
                y[0, 0], raw[1, 1, 0], y[1, 0] = float("nan"), float("nan"), 0.0
                raw[2, config.bins, 0], y[2, 0] = float("nan"), 0.0
                y[3, 0], y[4, 0], y[5, 0] = config.tail_bound, -config.tail_bound, float("inf")
            for dtype, atol in ((torch.float64, 1e-10), (torch.float32, 1e-6)):
                found = triton_spline_inverse(y.to(device, dtype), raw.to(device, dtype), config)
                expected = spline_inverse(y.to(dtype), raw.to(dtype), config)
                for one, other in zip(found, expected, strict=True):
                    assert one.dtype == dtype
                    close = dict(rtol=1e-6 if dtype == torch.float32 else 0, atol=atol, equal_nan=True)
                    torch.testing.assert_close(one.cpu(), other, **close)

torch.manual_seed(0)
compare(sys.argv[1])
"""


def run(device: str, environment: dict[str, str]) -> None:
    command = [sys.executable, "-c", CHECK, device]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_it_says_what_is_missing() -> None:
    assert triton_spline.available() == (triton_spline.why_not() == "")
    if find_spec("triton") is None:
        assert triton_spline.why_not() == "Triton is not installed"
    elif not torch.cuda.is_available():
        assert triton_spline.why_not() == "no CUDA device"


@pytest.mark.skipif(find_spec("triton") is not None, reason="Triton is installed")
def test_without_triton_it_names_the_alternative() -> None:
    config = SplineConfig()
    with pytest.raises(ConfigError, match="Triton") as caught:
        triton_spline.triton_spline_inverse(torch.zeros(1, 2), torch.zeros(1, config.n_raw, 2), config)
    assert spline_inverse.__name__ in caught.value.hint


def test_importing_it_loads_no_triton() -> None:
    code = (
        "import sys, torch; already = 'triton' in sys.modules; "
        "import caloray.flows.triton_spline; sys.exit('triton' in sys.modules and not already)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@needs_triton
def test_the_interpreter_gives_the_same() -> None:
    run("cpu", {"TRITON_INTERPRET": "1"})


@needs_gpu
def test_the_gpu_gives_the_same() -> None:
    run("cuda", {})
