"""CUDA graphs of whole flows; what needs no GPU is in test_stepper.py."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch

from caloray.errors import ConfigError
from caloray.flows.cuda_graph import cuda_graph_stepper
from caloray.flows.incremental import IncrementalInverter
from caloray.flows.jacobi import JacobiInverter
from caloray.flows.maf import MAFConfig, build_maf
from caloray.flows.triton_spline import available, triton_spline_inverse
from caloray.rng import StreamKey

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
CONFIG = MAFConfig(blocks=3, hidden=20, hidden_layers=3, autoregressive_step=2, context_output="all")
MAKERS = [IncrementalInverter, JacobiInverter, partial(JacobiInverter, panel=3)]
if available():
    MAKERS.append(partial(JacobiInverter, solve=triton_spline_inverse))


def test_a_flow_on_the_cpu_is_refused() -> None:
    model = build_maf(CONFIG, 12, 4, StreamKey(3, "test", "initialise"))
    with pytest.raises(ConfigError, match="cpu"):
        cuda_graph_stepper(model._transform, 8, context=4)


@needs_gpu
@pytest.mark.parametrize("sweeps", [1, 3, 20])
@pytest.mark.parametrize("make", MAKERS)
def test_replaying_gives_the_walk_on_the_cpu(make: Callable[..., object], sweeps: int) -> None:
    model = build_maf(CONFIG, 12, 4, StreamKey(3, "test", "initialise")).double().eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(2)
    noise, context = 7 * torch.randn(50, 12, dtype=torch.float64), torch.randn(50, 4, dtype=torch.float64)
    with torch.no_grad():
        expected, expected_log = model._transform.inverse(noise, context)
    model.cuda()
    stepper = cuda_graph_stepper(model._transform, 16, context=4, make=make, sweeps=sweeps)
    for _ in range(2):
        found, log_det = stepper(noise.cuda(), context.cuda())
        torch.testing.assert_close(found.cpu(), expected, rtol=0, atol=1e-9)
        torch.testing.assert_close(log_det.cpu(), expected_log, rtol=0, atol=1e-7)
