"""A frozen layer flow: the same numbers by another way, until its weights may change again."""

from __future__ import annotations

import copy

import pytest
import torch

from caloray.flows.conv.build import ConvFlowConfig, build_conv
from caloray.flows.conv.grid import Grid
from caloray.flows.freeze import freeze
from caloray.flows.inverse import resolve
from caloray.rng import StreamKey

GRID = Grid(6, 8, cyclic=True, transposed=True)


def _flow():
    flow = build_conv(ConvFlowConfig(blocks=2, hidden=4, kernels=((3, 2),)), GRID, 2, 3, StreamKey(1, "", ""))
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    return flow.eval()


def _drawn(flow):
    context = torch.randn(5, 2 * GRID.size + 3, generator=torch.Generator().manual_seed(2))
    noise = torch.randn(5, GRID.size, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        planes = flow._embedding_net(context)
        return planes, flow._transform.inverse(noise, planes)[0]


@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_frozen_flow_draws_the_same(backend):
    flow = _flow()
    plain = _drawn(flow)
    freeze(flow, backend)
    assert flow._transform._sampler is not None
    for found, expected in zip(_drawn(flow), plain, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("change", ["train", "load", "double", "copy"])
def test_weights_that_may_change_end_it(change):
    flow = _flow()
    freeze(flow, "auto")
    match change:
        case "train":
            flow.train()
        case "load":
            flow.load_state_dict(flow.state_dict())
        case "double":
            flow.double()
        case "copy":
            flow = copy.deepcopy(flow)
    assert flow._transform._sampler is None
    assert flow._embedding_net._prepared is None


def test_native_embedding_is_used_where_the_library_is():
    flow = _flow()
    freeze(flow, "auto")
    assert (flow._embedding_net._prepared is not None) == (resolve("auto", "cpu") == "native")
