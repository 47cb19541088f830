"""Ingest over workers: the same bytes as in one process, also when workers and drivers die (G16)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from caloray.atomic import sha256_file
from caloray.errors import ClusterError, DataError, InterruptedRunError
from caloray.geometry import load_geometry
from caloray.interrupt import StopRequest
from caloray.io.challenge import write_challenge
from caloray.io.ingest import IngestConfig, ingest
from caloray.showers import Showers

pytestmark = pytest.mark.ray


def content(directory: Path) -> dict[str, str]:
    """Hash of every file that an ingest leaves."""
    files = [p for p in directory.rglob("*") if p.is_file() and p.name != ".lock"]
    return {str(p.relative_to(directory)): sha256_file(p) for p in files}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> IngestConfig:
    geometry = load_geometry("ds1_photons")
    folder = tmp_path_factory.mktemp("files")
    files = []
    for number in range(2):
        rng = np.random.default_rng(number)
        energies = rng.uniform(1e3, 5e4, 600)
        voxels = (rng.random((600, geometry.n_voxels)) * 2).astype(np.float32)
        files.append(folder / f"{number}.hdf5")
        write_challenge(files[-1], geometry, [Showers(energies, voxels, np.arange(600))])
    return IngestConfig(files=tuple(files), geometry="ds1_photons", rows_per_shard=50)


@pytest.fixture(scope="module")
def undisturbed(config: IngestConfig, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    directory = tmp_path_factory.mktemp("one-process") / "shards"
    ingest(config, directory)
    return content(directory)


def test_workers_leave_the_same_bytes_as_one_process(
    ray_cluster: ModuleType, config: IngestConfig, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    from caloray.distributed.ingest import ingest_with_ray
    from caloray.distributed.session import Session

    seen: list[tuple[int, int]] = []
    manifest = ingest_with_ray(
        Session("", owned=False), config, tmp_path / "shards", progress=lambda *counts: seen.append(counts)
    )
    assert content(tmp_path / "shards") == undisturbed
    assert seen[-1] == (1200, 1200)
    assert sum(entry.rows for entry in manifest.shards) == 1200


@pytest.mark.faults
def test_a_killed_worker_is_replaced(ray_cluster: ModuleType, tmp_path: Path) -> None:
    """The piece kills its own worker the first time; the note of the dead worker does not stay behind."""
    from caloray.distributed.tasks import Load, map_tasks

    def piece(item: int, directory: Path) -> int:
        marker = directory / f"died-{item}"
        if item == 3 and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return item * item

    found = dict(map_tasks(piece, range(6), tmp_path, Load(cpus=0.5), what="squares", stop=StopRequest()))
    assert found == {i: i * i for i in range(6)}
    assert (tmp_path / "died-3").exists()
    assert not (tmp_path / "workers").exists()


@pytest.mark.faults
def test_a_worker_that_always_dies_is_named(ray_cluster: ModuleType, tmp_path: Path) -> None:
    from caloray.distributed.tasks import Load, map_tasks

    def piece(item: int, directory: Path) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(ClusterError, match="squares: piece 0 lost its worker"):
        list(map_tasks(piece, [0], tmp_path, Load(retries=0), what="squares", stop=StopRequest()))


def raising(error: Exception) -> Callable[[int, Path], None]:
    def piece(item: int, directory: Path) -> None:
        raise error

    return piece


def test_errors_of_the_work_come_back_as_they_are(ray_cluster: ModuleType, tmp_path: Path) -> None:
    from caloray.distributed.tasks import Load, map_tasks

    refusal = raising(DataError("row 7: NaN", hint="drop it", row=7))
    with pytest.raises(DataError, match="row 7: NaN") as caught:
        list(map_tasks(refusal, [0], tmp_path, Load(), what="ingest", stop=StopRequest()))
    assert caught.value.hint == "drop it"
    assert caught.value.context == {"row": 7}
    bug = raising(KeyError("no such thing"))
    with pytest.raises(ClusterError, match="ingest: piece 0 failed: KeyError: 'no such thing'"):
        list(map_tasks(bug, [0], tmp_path, Load(), what="ingest", stop=StopRequest()))


def test_a_stop_ends_the_running_pieces(ray_cluster: ModuleType, tmp_path: Path) -> None:
    from caloray.distributed.tasks import Load, map_tasks

    def piece(item: int, directory: Path) -> None:
        if item:
            time.sleep(60)

    stop = StopRequest()
    outcomes = map_tasks(piece, range(3), tmp_path, Load(cpus=0.5), what="naps", stop=stop)
    assert next(outcomes) == (0, None)
    stop.request(signal.SIGTERM)
    began = time.monotonic()
    with pytest.raises(InterruptedRunError, match="naps stopped by SIGTERM"):
        next(outcomes)
    assert time.monotonic() - began < 3


DRIVER = """
    import sys
    from dataclasses import dataclass
    from pathlib import Path
    from caloray.distributed.ingest import ingest_with_ray
    from caloray.distributed.session import connect
    from caloray.io.ingest import IngestConfig

    @dataclass
    class Settings:
        address: str = "local"
        num_cpus: int = 2
        object_store_gb: float = 0.1
        allow_unauthenticated: bool = False

    config = IngestConfig.model_validate_json(sys.argv[1])
    with connect(Settings()) as session:
        ingest_with_ray(session, config, Path(sys.argv[2]))
"""


@pytest.mark.slow
@pytest.mark.faults
def test_a_killed_driver_is_continued(
    ray_home: Path, config: IngestConfig, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    command = [
        sys.executable,
        "-c",
        textwrap.dedent(DRIVER),
        config.model_dump_json(),
        str(tmp_path / "shards"),
    ]
    driver = subprocess.Popen(command)
    receipts = tmp_path / "shards" / "receipts"
    deadline = time.monotonic() + 60
    while not list(receipts.glob("*.json")) and time.monotonic() < deadline:
        time.sleep(0.005)
    driver.kill()
    driver.wait()
    assert not (tmp_path / "shards" / "manifest.json").exists()
    subprocess.run(command, check=True, timeout=120)
    assert content(tmp_path / "shards") == undisturbed
