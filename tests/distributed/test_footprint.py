"""Memory of a worker against the measured peak of a training step in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from caloray.config import WorkerConfig
from caloray.distributed.footprint import activations, worker_memory
from caloray.distributed.jobs import shared_batches
from caloray.geometry import Geometry, load_geometry
from caloray.preprocess.statistics import TrainingStatistics
from caloray.schemes.build import build_scheme
from caloray.schemes.component import Component
from caloray.schemes.inductive_config import InductiveConfig
from caloray.schemes.layerwise_config import LayerwiseConfig
from caloray.training.config import TrainingConfig

MEASURE = """
import ctypes, gc, re, sys, torch
from caloray.flows.conv.actnorm import initialise_flow
from test_footprint import part_of
torch.set_num_threads(1)
part, batch = part_of(sys.argv[1]), int(sys.argv[2])
flow = part.build()
target, context = torch.randn(batch, part.features), torch.randn(batch, part.context_features)
initialise_flow(flow, target[:16], context[:16])
flow.train()
# Not getrusage: its peak begins at the size of the parent process.
size = lambda name: 1024 * int(re.search(name + r":\\s+(\\d+)", open("/proc/self/status").read())[1])
gc.collect()
ctypes.CDLL("libc.so.6").malloc_trim(0)  # what imports left free would hide a part of the step
before = size("VmRSS")
(-flow.log_prob(target, context).mean()).backward()
print(size("VmHWM") - before)
"""
SMALL = {"blocks": 2, "hidden": 8, "squeeze": [1, 2], "kernels": [[3, 2]]}


def part_of(kind: str) -> Component:
    """The components that are measured; those of ILD have the published sizes."""
    ild, ds2 = load_geometry("ild_30x30x30"), load_geometry("ds2")
    if kind == "maf":
        return _component(InductiveConfig(kind="inductive"), ds2, "next_layer")
    if kind == "small":
        return _component(LayerwiseConfig(kind="layerwise", flows={"layer": SMALL}), ds2, "layer_03")
    return _component(LayerwiseConfig(kind="layerwise"), ild, "layer_10")


def _component(config: Any, geometry: Geometry, name: str) -> Component:
    return build_scheme(config, geometry, TrainingStatistics.unfitted(()), 1).component(name)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(("kind", "batch"), [("small", 512), ("published", 128)])
def test_activations_are_those_of_a_measured_step(kind: str, batch: int) -> None:
    found = subprocess.run(
        [sys.executable, "-c", MEASURE, kind, str(batch)],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=True,
    )
    part = part_of(kind)
    stated = activations(part, batch) + 4 * part.parameters  # the step also makes the gradients
    assert stated == pytest.approx(int(found.stdout), rel=0.3)


def test_what_a_worker_takes_at_published_settings() -> None:
    """A batch of 1024 took 4.6 GB above the process in a measured step; on a GPU it lies there."""
    part, geometry = part_of("published"), load_geometry("ild_30x30x30")
    training = TrainingConfig(batch=1024)

    def memory(training: TrainingConfig = training, **workers: Any) -> float:
        return worker_memory(part, training, geometry, {"train": 1000}, WorkerConfig(**workers)) / 1e9

    alone = memory()
    assert 4.6 < alone < 7.5
    assert 0.4 * alone < memory(workers=2) < 0.7 * alone
    assert memory(gpus=0.5) < 0.9
    assert memory(TrainingConfig(batch=1024, device="cpu"), gpus=0.5) == alone
    assert memory(TrainingConfig(batch=1024, dtype="float64")) > 1.7 * alone


def test_every_kind_of_flow_is_known() -> None:
    geometry, unfitted = load_geometry("ds2"), TrainingStatistics.unfitted(())
    shared = LayerwiseConfig(kind="layerwise", network="shared", flows={"layer": SMALL})
    for config in (
        InductiveConfig(kind="inductive"),
        LayerwiseConfig(kind="layerwise", flows={"layer": SMALL}),
        shared,
    ):
        scheme = build_scheme(config, geometry, unfitted, 1)
        sizes = [activations(scheme.component(name), 64) for name in scheme.components]
        assert all(sizes)
    stranger: Any = SimpleNamespace()
    assert activations(stranger, 64) == 0


def test_the_number_of_workers_determines_what_batch_norm_learns() -> None:
    two = WorkerConfig(workers=2)
    assert shared_batches(part_of("small"), two) == {"workers": 2}
    assert shared_batches(part_of("small"), WorkerConfig()) == {}
    assert shared_batches(part_of("maf"), two) == {}
