"""Showers that came in any pieces make the same file, complete or not at all."""

from __future__ import annotations

import hashlib
import math
from itertools import pairwise

import h5py
import numpy as np
import pytest

from caloray.errors import ConfigError, IntegrityError
from caloray.generation.receiving import receive
from caloray.generation.shard import content_digest
from caloray.geometry import Geometry, Layer
from caloray.io.shards import ShardReader
from caloray.io.shower_stream import StreamHeader
from caloray.io.sparse import SparseShowers
from caloray.showers import Showers

ALPHA = tuple(2 * math.pi * i / 4 for i in range(5))
TOY = Geometry("toy", "cylindrical", tuple(Layer(i, ALPHA, (0.0, 1.0, 2.0, 3.0)) for i in range(3)))


@pytest.fixture
def showers():
    rng = np.random.default_rng(1)
    voxels = np.where(rng.random((30, 36)) > 0.7, rng.random((30, 36)), 0).astype(np.float32)
    return Showers(rng.uniform(1e3, 5e4, 30), voxels, np.arange(30), {"tilt": rng.random(30)})


def incoming(showers, cuts, bundle="d" * 64):
    attempts = (showers.ids % 4 == 3).astype(np.uint8)
    sparse = SparseShowers.of(showers, {"attempts": attempts})
    header = StreamHeader(bundle, TOY, 3, len(showers), int(showers.ids[0]), ("tilt",))
    bounds = [0, *cuts, len(showers)]
    return [(header, sparse.select(slice(a, b))) for a, b in pairwise(bounds)]


def blockwise(showers, size=8, first=0):
    whole = range(first, first + len(showers), size)
    digests = [content_digest(showers.select(slice(i - first, i - first + size))) for i in whole]
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def test_a_sparse_shard(showers, tmp_path):
    path = tmp_path / "out.parquet"
    received = receive(path, incoming(showers, [5, 8, 21]), 8, {"tilt": "rad"})
    assert (received.rows, received.bundle, received.redrawn) == (30, "d" * 64, 7)
    assert received.content_digest == blockwise(showers)
    with ShardReader(path, TOY) as reader:
        assert (reader.layout, reader.conditions) == ("sparse", {"tilt": "rad"})
        assert reader.extra["bundle"] == "d" * 64
        np.testing.assert_array_equal(reader.showers().voxels, showers.voxels)
        np.testing.assert_array_equal(reader.read_extras()["attempts"] > 0, showers.ids % 4 == 3)


@pytest.mark.parametrize("name", ["out.parquet", "out.hdf5", "out.h5"])
def test_the_pieces_do_not_matter(showers, tmp_path, name):
    first = receive(tmp_path / "a" / name, incoming(showers, []), 8, {})
    other = receive(tmp_path / "b" / name, incoming(showers, [1, 2, 17]), 8, {})
    assert first == other
    assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_challenge_file(showers, tmp_path):
    receive(tmp_path / "out.hdf5", incoming(showers, [9]), 8, {"tilt": "rad"})
    with h5py.File(tmp_path / "out.hdf5") as file:
        np.testing.assert_array_equal(file["showers"][:], showers.voxels)
        np.testing.assert_array_equal(file["incident_tilt"][:].ravel(), showers.conditions["tilt"])
        assert file.attrs["bundle_digest"] == "d" * 64


def test_showers_from_the_middle_of_a_block(showers, tmp_path):
    later = Showers(showers.incident_energies, showers.voxels, showers.ids + 5, showers.conditions)
    received = receive(tmp_path / "out.parquet", incoming(later, [9]), 8, {})
    digests = [
        content_digest(later.select(slice(a, b))) for a, b in ((0, 3), (3, 11), (11, 19), (19, 27), (27, 30))
    ]
    assert received.blocks == digests


def test_an_error_in_the_middle_leaves_nothing(showers, tmp_path):
    def broken():
        yield from incoming(showers, [9])[:1]
        raise IntegrityError("cut")

    for name in ("out.parquet", "out.hdf5"):
        with pytest.raises(IntegrityError, match="cut"):
            receive(tmp_path / name, broken(), 8, {})
    assert list(tmp_path.iterdir()) == []


def test_two_bundles_do_not_mix(showers, tmp_path):
    parts = [*incoming(showers, [9])[:1], *incoming(showers, [9], "e" * 64)[1:]]
    with pytest.raises(IntegrityError, match="bundle dddd"):
        receive(tmp_path / "out.parquet", parts, 8, {})
    assert list(tmp_path.iterdir()) == []


def test_no_showers(tmp_path):
    with pytest.raises(IntegrityError, match="no showers"):
        receive(tmp_path / "out.parquet", [], 8, {})


def test_names_that_tell_no_format(showers, tmp_path):
    with pytest.raises(ConfigError, match="tells no format"):
        receive(tmp_path / "out.csv", incoming(showers, []), 8, {})
