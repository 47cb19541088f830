"""The native embedding of the context against the module in torch."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor

from caloray.errors import ConfigError
from caloray.flows.conv import sampler
from caloray.flows.conv.embedding import ContextEmbedding
from caloray.flows.conv.grid import Grid
from caloray.flows.conv.native_embedding import NativeEmbedding
from caloray.native import library

pytestmark = pytest.mark.skipif(library.load() is None, reason=library.why_not())

# grid, previous layers, scalars, channels, squeeze
CASES = {
    "ild": (Grid(30, 30), 5, 2, 8, (2, 2)),
    "ds3": (Grid(18, 50, True, True), 3, 2, 8, (2, 2)),
    "ds2": (Grid(9, 16, True, True), 1, 2, 8, (3, 1)),
    "many": (Grid(6, 4, True, False), 20, 5, 24, (1, 2)),
    "no-scalars": (Grid(4, 9), 1, 0, 3, (2, 3)),
}


def build(name: str) -> tuple[ContextEmbedding, Tensor]:
    """An embedding and the context of a few showers."""
    grid, previous, scalars, channels, squeeze = CASES[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        embedding = ContextEmbedding(grid, previous, scalars, channels, squeeze).eval()
        return embedding, torch.randn(19, previous * grid.size + scalars)


@pytest.mark.parametrize("isa", library.isas())
@pytest.mark.parametrize("name", CASES)
def test_the_same_planes(name, isa, monkeypatch):
    monkeypatch.setenv("CALORAY_NATIVE_ISA", isa)
    embedding, context = build(name)
    planes = NativeEmbedding(embedding)(context)
    with torch.no_grad():
        expected = embedding.double()(context.double())
    assert planes.dtype == torch.float32
    assert expected.std() > 0.01
    torch.testing.assert_close(planes.double(), expected, rtol=0, atol=1e-6)


def test_planes_do_not_depend_on_the_batch():
    embedding, context = build("ds2")
    embed = NativeEmbedding(embedding)
    whole = embed(context)
    for part in (slice(0, 1), slice(4, 7), slice(18, 19), slice(0, 0)):
        assert torch.equal(embed(context[part]), whole[part])


def test_wrong_context_is_refused():
    embedding, context = build("ds2")
    embed = NativeEmbedding(embedding)
    for wrong in (context[:, 1:], context.double(), context[0]):
        with pytest.raises(ConfigError, match="expected"):
            embed(wrong)
    with pytest.raises(TypeError, match="prepare it again"):
        pickle.dumps(embed)


def test_where_the_module_does_it_itself(monkeypatch):
    embedding, _ = build("ds2")
    assert isinstance(sampler.prepare_embedding(embedding, "auto"), NativeEmbedding)
    assert sampler.prepare_embedding(embedding, "torch") is None
    assert sampler.prepare_embedding(copy.deepcopy(embedding).double(), "auto") is None
    assert sampler.prepare_embedding(ContextEmbedding(Grid(4, 4), 0, 2, 8, (2, 2)), "auto") is None
    monkeypatch.setattr(library, "load", lambda: None)
    monkeypatch.setattr(library, "why_not", lambda: "it was not built")
    assert sampler.prepare_embedding(embedding, "auto") is None
    with pytest.raises(ConfigError, match="native embedding"):
        NativeEmbedding(embedding)
