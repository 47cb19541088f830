"""A reply is a pure function of its request, and the showers are those of ``caloray generate``."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from caloray.errors import NumericalError
from caloray.generation.energies import Listed
from caloray.generation.plan import make_plan
from caloray.generation.run import generate
from caloray.geometry import Geometry
from caloray.io.shards import ShardReader
from caloray.io.stream_decoder import StreamDecoder, decode
from caloray.schemes.component import Sampled


def energies(count, seed=0):
    return np.exp(np.random.default_rng(seed).uniform(np.log(1500), np.log(4e4), count)).tolist()


def test_the_showers_of_generate(bundle, client, tmp_path):
    listed = energies(70)
    plan = make_plan(bundle, None, 7, energies=Listed(values=tuple(listed)), bundle=str(bundle.path))
    generate(bundle, plan, tmp_path / "made")
    readers = [ShardReader(path) for path in sorted((tmp_path / "made").rglob("*.parquet"))]
    shards = [reader.showers() for reader in readers]
    written = np.concatenate([part.voxels for part in shards])
    reply = client.post({"energies": listed, "seed": 7})
    found = reply.showers().dense(bundle.geometry.n_voxels)
    assert np.array_equal(found.voxels, written)
    assert np.array_equal(found.ids, np.arange(70))
    assert np.array_equal(found.incident_energies, listed)


def test_any_stretch_of_the_request(bundle, client):
    listed = energies(60)
    whole = client.post({"energies": listed, "seed": 3}).showers().dense(bundle.geometry.n_voxels)
    for first, stop in [(0, 1), (7, 9), (21, 60), (59, 60)]:
        reply = client.post({"energies": listed[first:stop], "seed": 3, "first": first})
        part = reply.showers().dense(bundle.geometry.n_voxels)
        assert np.array_equal(part.voxels, whole.voxels[first:stop])
        assert np.array_equal(part.ids, whole.ids[first:stop])


def test_far_ids(client):
    reply = client.post({"energies": [2000.0, 2000.0], "first": 2**53 - 3, "seed": 2**64 - 1})
    assert reply.showers().ids.tolist() == [2**53 - 3, 2**53 - 2]


def test_header_and_batches(bundle, client):
    size, start, stop = bundle.block_size, 20, 50
    reply = client.post({"energies": energies(stop - start), "seed": 5, "first": start})
    decoder = StreamDecoder()
    batches = decoder.feed(reply.body)
    decoder.finish()
    header = decoder.header
    assert (header.bundle, header.seed, header.rows, header.first) == (bundle.digest, 5, stop - start, start)
    assert header.geometry == bundle.geometry
    bounds = [start, *(at for at in range(start + 1, stop) if at % size == 0), stop]
    assert [len(batch.showers) for batch in batches] == np.diff(bounds).tolist()
    assert reply.headers["x-caloray-bundle"] == bundle.digest
    assert reply.headers["x-caloray-rows"] == str(stop - start)
    assert reply.whole


def test_json_says_the_same(bundle, client):
    request = {"energies": energies(20), "seed": 2, "model": "toy"}
    stream = client.post(request).showers()
    value = client.post(request, accept="application/json").json()
    assert value["model"] == "toy"
    assert value["bundle"] == bundle.digest
    assert Geometry.from_dict(value["geometry"]) == bundle.geometry
    assert value["geometry"]["digest"] == bundle.geometry.digest
    assert [s["event_id"] for s in value["showers"]] == list(range(20))
    assert [s["incident_energy"] for s in value["showers"]] == request["energies"]
    flat = np.concatenate([np.array(s["energy"], dtype=np.float32) for s in value["showers"]])
    assert np.array_equal(flat, stream.energies)
    voxels = [v for s in value["showers"] for v in s["voxel"]]
    assert voxels == stream.voxels.tolist()


def test_json_is_for_few(client):
    reply = client.post({"energies": [2000.0] * 101}, accept="application/json")
    assert reply.status == 422
    assert "at most 100" in reply.json()["error"]["message"]


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", "arrow"),
        ("*/*", "arrow"),
        ("application/*", "arrow"),
        ("application/json", "json"),
        ("application/json, */*;q=0.1", "json"),
        ("application/vnd.apache.arrow.stream, application/json;q=0.9", "arrow"),
        ("text/html, application/json", "json"),
    ],
)
def test_form(client, accept, form):
    reply = client.post({"energies": [2000.0]}, accept=accept)
    assert form in reply.headers["content-type"]


def test_same_bytes_in_any_company(bundle, local):
    """The same requests alone, then many at once in small joint batches, in another order."""
    requests = [{"energies": energies(n, n), "seed": n, "first": 3 * n} for n in (1, 2, 3, 11, 30, 5, 1)]
    alone = [local({"toy": bundle}).client.post(request).body for request in requests]
    for batch_rows in (8, 64):
        busy = local({"toy": bundle}, batch_rows=batch_rows).client

        async def together(client=busy):
            shuffled = [*reversed(range(len(requests))), *range(len(requests))]
            replies = await asyncio.gather(*(client.ask(requests[i]) for i in shuffled))
            return [(i, reply.body) for i, reply in zip(shuffled, replies, strict=True)]

        assert all(body == alone[i] for i, body in asyncio.run(together()))


class Flawed:
    """A model some of whose rows need redraws: row r of a block is valid from attempt r % 4 on."""

    digest = "f" * 64
    energy_range = (1.0, 1e6)
    conditions = ()
    condition_names = ()
    block_size = 256
    joint_sizes = (16, 256)

    def __init__(self, geometry, never=()):
        self.geometry = geometry
        self.never = never

    def make_pieces(self, pieces):
        return [self._make(piece) for piece in pieces]

    def _make(self, piece):
        rows = np.arange(piece.start, piece.stop)
        n = self.geometry.n_voxels
        voxels = np.full((len(rows), n), piece.attempt + 1.0, np.float32) * rows[:, None]
        bad = (rows % 4 > piece.attempt) | np.isin(rows, self.never)
        voxels[bad, piece.attempt % n] = [np.nan, np.inf, -1.0][piece.attempt % 3]
        return Sampled(voxels, np.zeros((len(rows), self.geometry.n_layers)))


def test_redraws(toy, local):
    client = local({"flawed": Flawed(toy.GEOMETRY)}).client
    showers = client.post({"energies": [5.0] * 100, "first": 3}).showers()
    rows = np.arange(3, 103)
    assert showers.extras["attempts"].tolist() == (rows % 4).tolist()
    dense = showers.dense(toy.GEOMETRY.n_voxels).voxels
    assert np.array_equal(dense[:, 0], ((rows % 4 + 1) * rows).astype(np.float32))
    assert b"caloray_redrawn_showers_total" in client.get("/metrics").body


def test_showers_that_stay_invalid(toy, local):
    service = local({"flawed": Flawed(toy.GEOMETRY, never=(200,))}, max_attempts=4)
    client = service.client
    reply = client.post({"energies": [5.0], "first": 200})
    assert reply.status == 422
    assert reply.json()["error"]["code"] == NumericalError.code
    # In the middle of a reply there is nothing left to say: it breaks off, and the client notices.
    with pytest.raises(Exception, match="broken off: the model gave no valid shower"):
        client.post({"energies": [5.0] * 250})
    assert service.service.under_way == 0


def test_a_stream_that_breaks_off_is_told_from_a_whole_one(client):
    body = client.post({"energies": energies(30)}).body
    decoder = StreamDecoder()
    decoder.feed(body[:-8])
    with pytest.raises(Exception, match="broken off after 30 of 30"):
        decoder.finish()
    assert decode(body)[0].rows == 30
