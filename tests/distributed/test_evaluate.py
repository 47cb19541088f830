"""An evaluation over workers is the one of a single process, bit for bit."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from caloray.distributed import evaluate as over_workers
from caloray.distributed.evaluate import RayReducer, reducer
from caloray.errors import DataError, NumericalError
from caloray.evaluation.halves import Halves
from caloray.evaluation.passes import InProcess, PassSettings
from caloray.evaluation.run import evaluate as evaluate_fully
from caloray.evaluation.sample import Sample
from caloray.evaluation.settings import QUICK
from caloray.evaluation.table import Table
from caloray.geometry import load_geometry
from caloray.io.challenge import write_challenge
from caloray.io.ingest import IngestConfig, ingest
from caloray.io.source import ShowerSource, open_source
from caloray.showers import Showers

evaluate = partial(evaluate_fully, metrics=QUICK)


class NoCluster:
    """A session of nobody; ``map_tasks`` is replaced, too."""

    def require(self, *_: object, **__: object) -> None:
        """Anything goes."""

    def check_directory(self, directory: Path) -> None:
        """All see it."""


@pytest.fixture
def shuffled(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Parts run in this process and come back in a random order, through pickle; how many there were."""
    sizes: list[int] = []

    def map_tasks(work: Callable[..., Any], items: Sequence[Any], directory: Path, *_: Any, **__: Any) -> Any:
        sizes.append(len(items))
        for index in np.random.default_rng(len(items)).permutation(len(items)):
            outcome = work(pickle.loads(pickle.dumps(items[index])), directory)
            yield index, pickle.loads(pickle.dumps(outcome))

    monkeypatch.setattr(over_workers, "map_tasks", map_tasks)
    return sizes


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[ShowerSource, ShowerSource]:
    """A directory of shards, and the file that they were made of."""
    folder, geometry = tmp_path_factory.mktemp("files"), load_geometry("ds1_photons")
    rng = np.random.default_rng(0)
    voxels = rng.exponential(20, (700, 368)) * (rng.random((700, 368)) < 0.25)
    slant = rng.uniform(-0.6, 0.6, (2, 700))
    directions = {"direction_x": slant[0], "direction_y": slant[1]}
    directions |= {"direction_z": np.sqrt(1 - (slant**2).sum(axis=0)), "charge": rng.choice([-1.0, 1.0], 700)}
    showers = Showers(rng.uniform(1e3, 5e4, 700), voxels, np.arange(700), directions)
    write_challenge(folder / "a.hdf5", geometry, [showers])
    config = IngestConfig(files=(folder / "a.hdf5",), geometry="ds1_photons", rows_per_shard=50)
    ingest(config, folder / "shards")
    return open_source(folder / "shards"), open_source(folder / "a.hdf5")


def digest(table: Table) -> tuple[bytes, bytes]:
    return table.ids.tobytes(), table.rows.tobytes()


def numbers(sample: Sample) -> list[bytes]:
    counts = [sample.counts(i) for i in range(len(sample.axes))]
    halves = [sample.half_counts(i) for i in range(len(sample.axes))]
    edges = [axis.edges for axis in sample.axes]
    rest = [sample.n_half, sample.voxel_squares, sample.average_voxels(), sample.average_shower()]
    rest += [sample.energies, *sample.sums(), sample.histograms.half_voxel_squares]
    return [one.tobytes() for one in (*counts, *halves, *edges, *rest)]


def compare(found: Any, settings: PassSettings, pair: tuple[ShowerSource, ShowerSource]) -> None:
    plain = InProcess()
    axes, sample, table = found.reference(pair[0], settings)
    wanted = plain.reference(pair[0], settings)
    assert numbers(sample) == numbers(wanted[1])
    assert digest(table) == digest(wanted[2])
    second, rows = found.generated(pair[1], axes, settings)
    other, other_rows = plain.generated(pair[1], axes, settings)
    assert numbers(second) == numbers(other)
    assert digest(rows) == digest(other_rows)


def test_conditions_travel(files: Any, shuffled: list[int]) -> None:
    found = RayReducer(NoCluster(), rows=120)  # type: ignore[arg-type]
    pair = [evaluate(files[0], files[1], n_halvings=4, reduce=one).data for one in (found, None)]
    assert json.dumps(pair[0]) == json.dumps(pair[1])
    assert [one["condition"] for one in pair[0]["profiles"]] == ["theta", "charge"]


@pytest.mark.parametrize("most", [200_000, 90])
def test_parts_in_any_order(files: Any, shuffled: list[int], most: int) -> None:
    progress: list[tuple[str, int, int]] = []
    found = RayReducer(NoCluster(), rows=120)  # type: ignore[arg-type]
    compare(found, PassSettings(0.5, 3, Halves(3, 5), most=most), files)
    assert min(shuffled) >= 4
    found.reference(files[0], PassSettings(0.5), lambda *facts: progress.append(facts))
    assert progress[-1] == ("reference", 700, 700)
    assert [stage for stage, done, total in progress if done == total] == ["ranges", "reference"]


def test_a_split_is_read_alone(toy: Any, shuffled: list[int]) -> None:
    found = RayReducer(NoCluster(), rows=30)  # type: ignore[arg-type]
    source = open_source(toy.folder / "shards", "test")
    _, sample, table = found.reference(source, PassSettings(0.5))
    assert sample.n == len(table) == source.n_showers < 400
    ids = np.concatenate([chunk.ids for chunk in source.chunks()])
    np.testing.assert_array_equal(np.sort(ids), table.ids)


def test_showers_in_memory_have_no_parts(toy: Any, shuffled: list[int]) -> None:
    class Memory:
        geometry = open_source(toy.folder / "shards").geometry
        n_showers = 3

    with pytest.raises(DataError, match="a Memory cannot be cut into parts"):
        reducer(NoCluster()).reference(Memory(), PassSettings(0.0))  # type: ignore[arg-type]


@pytest.mark.ray
def test_workers_agree_with_one_process(ray_cluster: ModuleType, toy: Any, tmp_path: Path) -> None:
    from caloray.distributed.session import Session

    session = Session("", owned=True)
    source, test = open_source(toy.folder / "shards", "train"), open_source(toy.folder / "shards", "test")
    found = RayReducer(session, tmp_path, rows=200)
    compare(found, PassSettings(0.5, 3, Halves(3, 5)), (source, test))
    results = evaluate(source, test, reduce=reducer(session))
    assert json.dumps(results.data) == json.dumps(evaluate(source, test).data)
    assert not list(tmp_path.iterdir())


@pytest.mark.ray
def test_trouble_of_a_worker_arrives(ray_cluster: ModuleType, tmp_path: Path) -> None:
    import h5py

    from caloray.distributed.session import Session

    path = tmp_path / "bad.hdf5"
    voxels = np.ones((60, 368), dtype=np.float32)
    voxels[41, 3] = np.nan
    with h5py.File(path, "w") as file:
        file["showers"], file["incident_energies"] = voxels, np.full((60, 1), 1e3)
    with pytest.raises((DataError, NumericalError), match=r"not a number in 1 row \(41\)"):
        RayReducer(Session("", owned=True), rows=20).reference(open_source(path), PassSettings(1.0))
