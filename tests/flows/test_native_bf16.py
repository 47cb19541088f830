"""The native inverse with products in bfloat16: close to the exact one, and as independent of the batch."""

from __future__ import annotations

import multiprocessing

import pytest
import torch

from caloray.errors import ConfigError
from caloray.flows import inverse, native_inverse
from caloray.flows.masked import MaskedSpline
from caloray.flows.native_inverse import NativeInverter
from caloray.flows.spline import SplineConfig
from caloray.native import library

has_bf16 = pytest.mark.skipif(bool(library.why_not_bf16()), reason=library.why_not_bf16())

NETWORKS = {
    "published": {"features": 60, "hidden": 100, "context": 30, "hidden_layers": 3},
    "one-layer": {"features": 33, "hidden": 17, "context": 5, "hidden_layers": 1},
    "groups": {"features": 64, "hidden": 96, "context": 9, "hidden_layers": 2, "autoregressive_step": 16},
    "context-all": {"features": 20, "hidden": 70, "context": 9, "hidden_layers": 2, "context_output": "all"},
    "residual": {"features": 40, "hidden": 60, "context": 6, "hidden_layers": 3, "network": "residual"},
    "wide-step": {"features": 90, "hidden": 10, "context": 4, "hidden_layers": 2, "degrees": "nflows"},
}


def model(name: str) -> MaskedSpline:
    torch.manual_seed(0)
    network = MaskedSpline(**NETWORKS[name], spline=SplineConfig()).eval()
    with torch.no_grad():
        network.autoregressive_net.final_layer.bias.normal_(0, 0.5)
        if name == "residual":
            for layer in network.autoregressive_net.blocks:
                layer.linear_layers[1].weight.mul_(0.1)
    return network


def inverters(network: MaskedSpline) -> tuple[NativeInverter, NativeInverter]:
    schedule = network.schedule()
    return NativeInverter(schedule, network.spline), NativeInverter(schedule, network.spline, bf16=True)


def draws(network: MaskedSpline, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(batch, network.features), torch.rand(batch, network.schedule().context_features)


@has_bf16
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("batch", [1, 40, 100])
def test_close_to_the_exact_inverse(name, batch):
    network = model(name)
    exact, fast = inverters(network)
    noise, context = draws(network, batch)
    (x, log_det), (near, near_log_det) = exact(noise, context), fast(noise, context)
    deviation = (x - near).square().mean().sqrt()
    steep = 5.0 if name == "residual" else 1.0
    assert 0 < deviation < 0.02 * steep
    assert (log_det - near_log_det).abs().max() < steep
    if name != "context-all":
        assert torch.allclose(near[:, 0], x[:, 0], atol=1e-5), "the first dimension reads no hidden unit"


@has_bf16
def test_a_sample_does_not_depend_on_its_batch_place_or_threads():
    network = model("published")
    _, fast = inverters(network)
    noise, context = draws(network, 2000)  # enough for several threads
    whole = fast(noise, context)
    for part in (slice(0, 1), slice(3, 20), slice(17, 150)):
        alone = fast(noise[part].contiguous(), context[part].contiguous())
        assert torch.equal(alone[0], whole[0][part])
        assert torch.equal(alone[1], whole[1][part])
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        again = fast(noise, context)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(again[0], whole[0])


@has_bf16
def test_a_bad_sample_disturbs_no_other():
    network = model("published")
    _, fast = inverters(network)
    noise, context = draws(network, 40)
    good, _ = fast(noise, context)
    noise[11, 4] = float("nan")
    context[30, 1] = float("inf")
    bad, _ = fast(noise, context)
    others = [i for i in range(40) if i not in {11, 30}]
    assert torch.equal(bad[others], good[others])
    assert bad[11].isnan().any()
    assert not bad[30].isfinite().all()


@has_bf16
def test_a_forked_process_may_use_it():
    network = model("one-layer")
    _, fast = inverters(network)
    noise, context = draws(network, 20)
    expected, _ = fast(noise, context)
    queue = multiprocessing.get_context("fork").SimpleQueue()
    child = multiprocessing.get_context("fork").Process(
        target=lambda: queue.put(fast(noise, context)[0].tolist())
    )
    child.start()
    child.join()
    assert child.exitcode == 0
    assert queue.get() == expected.tolist()


@has_bf16
def test_it_takes_floats_only():
    network = model("one-layer")
    assert isinstance(inverse.prepare(network.schedule(), network.spline, "native-bf16"), NativeInverter)
    schedule = network.double().schedule()
    with pytest.raises(ConfigError, match=r"float32 weights, not torch\.float64"):
        NativeInverter(schedule, network.spline, bf16=True)


@pytest.mark.parametrize("code", [1, 2, 3])
def test_where_it_cannot_be_had(monkeypatch, code):
    monkeypatch.setattr(library, "why_not_bf16", lambda: library._BF16[code])
    monkeypatch.setattr(library, "load", object)
    assert native_inverse.unavailable(bf16=True) == library._BF16[code] != ""
    with pytest.raises(ConfigError, match="native-bf16 is not available: "):
        inverse.resolve("native-bf16", "cpu")
