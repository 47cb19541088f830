"""Which back-ends there are, and why not."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from caloray.errors import ConfigError
from caloray.flows import masked
from caloray.flows.backends import backends, main, summary
from caloray.flows.incremental import IncrementalInverter
from caloray.flows.names import Backend
from caloray.native import library

needs_library = pytest.mark.skipif(library.load() is None, reason=library.why_not() or "there")


def test_every_name_is_listed_once():
    assert {"auto", *(status.name for status in backends())} == set(get_args(Backend))
    assert len(backends()) == len(get_args(Backend)) - 1


def test_torch_is_always_there(monkeypatch):
    monkeypatch.setenv("CALORAY_NATIVE", "0")
    available = {status.name: status.available for status in backends()}
    assert available == {"torch": True, "jacobi": True, "native": False, "native-bf16": False}


@needs_library
def test_native_tells_its_instruction_set(monkeypatch):
    monkeypatch.setenv("CALORAY_NATIVE_ISA", "baseline")
    (native,) = (status for status in backends() if status.name == "native")
    assert native.available
    assert "baseline" in native.detail
    assert "native (baseline)" in summary()


def test_a_back_end_that_fails_says_why(monkeypatch):
    def prepare(schedule, spline, backend):
        if backend != "torch":
            raise ConfigError("out of order", hint="wait")
        return IncrementalInverter(schedule, spline)

    monkeypatch.setattr(masked, "prepare", prepare)
    (jacobi,) = (status for status in backends() if status.name == "jacobi")
    assert not jacobi.available
    assert jacobi.detail == "out of order; wait"


def test_the_summary_says_why_nothing_faster_is_used(capsys, monkeypatch):
    monkeypatch.setenv("CALORAY_NATIVE", "0")
    assert main() == 0
    text = capsys.readouterr().out
    assert text == "flows are sampled by torch, trained by torch; CALORAY_NATIVE=0 is set\n"


def test_trying_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    backends()
    assert torch.equal(torch.rand(3), expected)
