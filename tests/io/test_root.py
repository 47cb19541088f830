"""ROOT files: what uproot reads is what was written."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from caloray.errors import ConfigError, DataError
from caloray.geometry import Geometry, load_geometry
from caloray.io import root
from caloray.io.sparse import SparseShowers
from caloray.showers import Showers

GEOMETRY = load_geometry("ds1_photons")


def make(rows: int, seed: int = 0) -> SparseShowers:
    rng = np.random.default_rng(seed)
    voxels = rng.exponential(3.0, (rows, GEOMETRY.n_voxels)) * (rng.random((rows, GEOMETRY.n_voxels)) < 0.1)
    voxels[rows // 2 : rows // 2 + 1] = 0
    showers = Showers(
        rng.uniform(1e3, 1e6, rows), voxels, np.arange(rows) + 2**40, {"theta": rng.random(rows)}
    )
    extras = {
        "run": np.full(rows, 2**60),
        "pdg": np.full(rows, -11, np.int32),
        "flags": rng.integers(0, 200, rows).astype(np.uint8),
        "log_prob": rng.normal(size=rows).astype(np.float32),
    }
    return SparseShowers.of(showers, extras)


@pytest.mark.parametrize("kind", ["tree", "rntuple"])
def test_uproot_reads_it(tmp_path: Path, kind: root.RootKind, monkeypatch: pytest.MonkeyPatch) -> None:
    uproot = pytest.importorskip("uproot", reason="needs the extra root")
    awkward = pytest.importorskip("awkward", reason="needs the extra root")
    monkeypatch.setattr(root, "ROWS", 100)
    showers = make(250)
    parts = [showers.select(slice(start, start + 50)) for start in range(0, 250, 50)]
    root.write_root(tmp_path / "a.root", GEOMETRY, parts, kind, {"bundle_digest": "b"})
    with uproot.open(tmp_path / "a.root") as file:
        tree = file[root.TREE]
        assert tree.num_entries == 250
        found = tree.arrays()
        described = json.loads(str(file["caloray"]))
    assert Geometry.from_dict(described["geometry"]) == GEOMETRY
    assert described["bundle_digest"] == "b"
    columns = {"event_id": showers.ids, "incident_energy": showers.incident_energies, **showers.extras}
    for name, values in (columns | {"condition_theta": showers.conditions["theta"]}).items():
        read = awkward.to_numpy(found[name])
        assert read.dtype == values.dtype, name
        assert np.array_equal(read, values), name
    counts = np.diff(showers.starts)
    for name, values in (("voxel", showers.voxels), ("energy", showers.energies)):
        assert np.array_equal(awkward.to_numpy(awkward.num(found[name])), counts)
        flat = awkward.to_numpy(awkward.flatten(found[name]))
        assert flat.dtype == values.dtype
        assert np.array_equal(flat, values)
    if kind == "tree":
        assert np.array_equal(awkward.to_numpy(found["hits"]), counts)


def test_no_showers_and_no_file(tmp_path: Path) -> None:
    pytest.importorskip("uproot", reason="needs the extra root")
    with pytest.raises(DataError, match=r"a\.root: no showers"):
        root.write_root(tmp_path / "a.root", GEOMETRY, [make(0)])
    hits = make(3)
    hits.voxels[1] = 400
    with pytest.raises(DataError, match="the geometry has 368"):
        root.write_root(tmp_path / "a.root", GEOMETRY, [hits])
    assert list(tmp_path.iterdir()) == []


def test_without_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uproot", None)
    with pytest.raises(ConfigError, match="which is not installed") as caught:
        root.write_root(tmp_path / "a.root", GEOMETRY, [make(3)])
    assert "pip install 'caloray[root]'" in caught.value.hint
    assert list(tmp_path.iterdir()) == []
