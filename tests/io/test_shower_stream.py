"""Streams of showers: written, cut anywhere, read, damaged."""

from __future__ import annotations

import io
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caloray.errors import IntegrityError
from caloray.geometry import Geometry, Layer
from caloray.io.shower_stream import END, StreamHeader, encode_head, encode_part
from caloray.io.sparse import SparseShowers
from caloray.io.stream_decoder import StreamDecoder, decode
from caloray.showers import Showers

GEOMETRY = Geometry("grid", "cartesian", tuple(Layer(i, (0.0, 1.0, 2.0), (0.0, 1.0, 3.0)) for i in range(3)))
HEADER = StreamHeader("b" * 64, GEOMETRY, 2**64 - 1, 10, 5, ("direction_x", "angle"))


def showers(start, stop, seed=0):
    rng = np.random.default_rng(seed)
    n = stop - start
    voxels = np.where(rng.random((n, 12)) < 0.4, rng.random((n, 12)), 0).astype(np.float32)
    conditions = {"direction_x": rng.random(n), "angle": rng.random(n)}
    return SparseShowers.of(
        Showers(rng.uniform(1, 9, n), voxels, np.arange(start, stop), conditions),
        {"attempts": np.arange(n, dtype=np.uint8)},
    )


PARTS = (showers(5, 9), showers(9, 14, 1), showers(14, 15, 2))


def stream(parts=PARTS, header=HEADER, end=END):
    return encode_head(header) + b"".join(encode_part(part, header.conditions) for part in parts) + end


def same(found, expected):
    for name in ("incident_energies", "ids", "starts", "voxels", "energies"):
        assert np.array_equal(getattr(found, name), getattr(expected, name)), name
    for name in ("direction_x", "angle"):
        assert np.array_equal(found.conditions[name], expected.conditions[name])
    assert np.array_equal(found.extras["attempts"], expected.extras["attempts"])


def test_round_trip():
    header, found = decode(stream())
    assert header == HEADER
    same(found, SparseShowers.concatenate(PARTS))


def test_any_arrow_library_reads_it():
    table = pa.ipc.open_stream(io.BytesIO(stream())).read_all()
    assert table.column_names == [
        "event_id",
        "incident_energy",
        "condition_direction_x",
        "condition_angle",
        "attempts",
        "voxel",
        "energy",
    ]
    assert table.num_rows == 10
    assert table.schema.metadata[b"caloray.seed"] == str(2**64 - 1).encode()


def test_same_showers_same_bytes():
    assert stream() == stream()


@settings(max_examples=30)
@given(cuts=st.lists(st.integers(0, len(stream())), max_size=12))
def test_bytes_in_pieces_of_any_size(cuts):
    data, decoder = stream(), StreamDecoder()
    bounds = [0, *sorted(cuts), len(data)]
    batches = [b for a, z in pairwise(bounds) for b in decoder.feed(data[a:z])]
    decoder.finish()
    assert [len(batch.showers) for batch in batches] == [4, 5, 1]
    assert [batch.record.num_rows for batch in batches] == [4, 5, 1]
    assert decoder.rows == 10


def test_one_byte_at_a_time():
    decoder = StreamDecoder()
    for byte in stream():
        decoder.feed(bytes([byte]))
    decoder.finish()


@pytest.mark.parametrize("length", [0, 3, 100, len(stream()) - 9, len(stream()) - 1])
def test_broken_off(length):
    decoder = StreamDecoder("http://somewhere")
    decoder.feed(stream()[:length])
    with pytest.raises(IntegrityError, match="http://somewhere: broken off"):
        decoder.finish()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"<!DOCTYPE html><html>", "no Arrow message"),
        (b'{"error": {}}....', "no Arrow message"),
        (stream() + b"x", "bytes after its end"),
        (stream(PARTS[:2]), "9 showers of 10"),
        (stream((*PARTS, showers(15, 16))), "more showers"),
        (stream((PARTS[1], PARTS[0], PARTS[2])), "do not follow on"),
        (END, "0 showers"),
        (b"\xff\xff\xff\xff\xff\xff\xff\x7f" + b"x" * 50, "no Arrow message"),
    ],
)
def test_what_is_no_such_stream(data, words):
    decoder = StreamDecoder()

    def read():
        decoder.feed(data)
        decoder.finish()

    with pytest.raises(IntegrityError, match=words):
        read()


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("voxels", [-1]),
        ("voxels", [12]),
        ("energies", [np.nan]),
        ("energies", [-1.0]),
        ("incident_energies", [0.0]),
        ("incident_energies", [np.inf]),
    ],
)
def test_numbers_that_cannot_be(field, values):
    part = PARTS[0]
    array = getattr(part, field).copy()
    array[0] = values[0]
    with pytest.raises(IntegrityError):
        decode(stream((replace(part, **{field: array}), *PARTS[1:])))


def test_other_columns_and_formats():
    head = encode_head(HEADER)
    other = encode_head(StreamHeader("b", GEOMETRY, 1, 10, 5, ("angle",)))
    with pytest.raises(IntegrityError):
        decode(other + stream()[len(head) :])
    schema = HEADER.schema()
    for key, value in {"format": b"2", "rows": b"-1", "geometry": b"[" * 9000, "conditions": b"7"}.items():
        changed = schema.with_metadata({**schema.metadata, f"caloray.{key}".encode(): value})
        with pytest.raises(IntegrityError, match="not those of a stream"):
            StreamDecoder().feed(bytes(changed.serialize()))


@settings(max_examples=300)
@given(st.integers(0, len(stream()) - 1), st.integers(1, 255))
def test_flipped_bytes_are_noticed_or_harmless(place, change):
    """A flipped byte gives an IntegrityError, or other numbers that could be; never anything else."""
    data = bytearray(stream())
    data[place] ^= change
    try:
        _, found = decode(bytes(data))
    except IntegrityError:
        return
    assert len(found) == 10
    found.check(GEOMETRY.n_voxels)
