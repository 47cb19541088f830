"""Random numbers of a batch: a row has those of its place in its block, with whomever it is drawn."""

from __future__ import annotations

import numpy as np
import pytest

from caloray.rng import StreamKey
from caloray.schemes.streams import BlockStreams, PieceStreams

SIZE = 24
KEYS = (StreamKey(3, "", "", 5), StreamKey(2**64 - 1, "", "", 0), StreamKey(3, "", "", 5, attempt=1))


def test_a_whole_block_has_the_numbers_of_its_named_streams():
    streams = BlockStreams(KEYS[0])
    assert streams.block == KEYS[0]
    normal = KEYS[0].named("layer/7", "latent").generator().standard_normal((SIZE, 5))
    uniform = KEYS[0].named("layer/7", "fill").generator().random((2, SIZE, 5), np.float32)
    assert np.array_equal(streams.normal("layer/7", "latent", (SIZE, 5)), normal)
    assert np.array_equal(streams.uniform("layer/7", "fill", (2, SIZE, 5)), uniform)
    assert uniform.dtype == np.float32


@pytest.mark.parametrize("columns", [1, 3, 144])
def test_rows_of_pieces_have_the_numbers_of_their_blocks(columns):
    draws = np.random.default_rng(1)
    whole = [BlockStreams(key) for key in KEYS]
    for count in (1, 2, SIZE, 3 * SIZE):
        owners, rows = draws.integers(3, size=count), draws.integers(SIZE, size=count)
        streams = PieceStreams(KEYS, owners, rows, SIZE)
        assert streams.block is None
        normal = np.stack([block.normal("a", "b", (SIZE, columns)) for block in whole])
        found = streams.normal("a", "b", (count, columns))
        assert found.dtype == np.float64
        assert np.array_equal(found, normal[owners, rows])
        for sets in ((), (1,), (2,)):
            uniform = np.stack([block.uniform("a", "c", (*sets, SIZE, columns)) for block in whole])
            found = streams.uniform("a", "c", (*sets, count, columns))
            assert found.dtype == np.float32
            assert found.shape == (*sets, count, columns)
            assert found.flags.c_contiguous
            assert np.array_equal(found, np.moveaxis(uniform, -2, 1)[owners, rows].swapaxes(0, -2))


def test_streams_of_other_names_and_blocks_are_others():
    streams = PieceStreams(KEYS, np.arange(3), np.zeros(3, dtype=np.int64), SIZE)
    drawn = [streams.normal(*names, (3, 4)) for names in (("a", "b"), ("a", "c"), ("d", "b"))]
    assert len(np.unique(drawn)) == 3 * 3 * 4


def test_no_more_is_drawn_than_is_needed(monkeypatch):
    counts = []

    class Generator:
        def standard_normal(self, shape):
            counts.append(shape[0] * shape[1])
            return np.zeros(shape)

        def random(self, count, dtype):
            counts.append(count)
            return np.zeros(count, dtype)

    monkeypatch.setattr(StreamKey, "generator", lambda _: Generator())
    monkeypatch.setattr(StreamKey, "rewind", lambda *_: None)
    streams = PieceStreams(KEYS[:2], np.array([0, 1, 0]), np.array([2, 6, 1]), SIZE)
    streams.normal("a", "b", (3, 4))
    streams.uniform("a", "b", (2, 3, 4))
    assert counts[:2] == [3 * 4, 7 * 4]
    assert counts[2:] == [4 + 2 * 4, 4 + 2 * 4, 4, 4]
