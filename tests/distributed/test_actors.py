"""The pool of warm workers: pieces survive their workers, the pool survives its members."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from caloray.errors import ClusterError, DataError, InterruptedRunError
from caloray.interrupt import StopRequest
from caloray.io.worker_notes import notes_of

pytestmark = pytest.mark.ray


def run(
    prepare: Callable[[], Callable[[int], Any]], pieces: int, directory: Path, **options: Any
) -> Iterator[Any]:
    from caloray.distributed.actors import Pool, map_actors

    stop = options.pop("stop", StopRequest())
    pool = Pool(**{"cpus": 0.5, "workers": 2, **options})
    return map_actors(prepare, range(pieces), directory, pool, what="squares", stop=stop)


def test_workers_prepare_once_and_make_every_piece_once(ray_cluster: ModuleType, tmp_path: Path) -> None:
    def prepare() -> Callable[[int], tuple[int, int]]:
        (tmp_path / f"prepared-{os.getpid()}").touch()
        return lambda piece: (piece, os.getpid())

    found = list(run(prepare, 8, tmp_path))
    assert sorted(piece for piece, _ in found) == list(range(8))
    pids = {pid for _, pid in found}
    assert len(pids) <= 2
    assert {int(p.name.removeprefix("prepared-")) for p in tmp_path.glob("prepared-*")} >= pids
    assert os.getpid() not in pids
    assert notes_of(tmp_path) == []


@pytest.mark.faults
def test_a_killed_worker_is_replaced_and_its_piece_made_again(
    ray_cluster: ModuleType, tmp_path: Path, caplog: Any
) -> None:
    def prepare() -> Callable[[int], int]:
        def make(piece: int) -> int:
            marker = tmp_path / f"died-{piece}"
            if piece in {1, 3} and not marker.exists():
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return piece * piece

        return make

    assert sorted(run(prepare, 5, tmp_path)) == [0, 1, 4, 9, 16]
    assert "a worker died making piece 1 and is replaced" in caplog.text


@pytest.mark.faults
def test_a_piece_that_kills_its_workers_is_named(ray_cluster: ModuleType, tmp_path: Path) -> None:
    def prepare() -> Callable[[int], int]:
        def make(piece: int) -> int:
            if piece == 1:
                with (tmp_path / "deaths").open("a") as file:
                    file.write("x")
                os.kill(os.getpid(), signal.SIGKILL)
            return piece

        return make

    with pytest.raises(ClusterError, match="squares: piece 1 killed its worker 3 times") as caught:
        list(run(prepare, 3, tmp_path))
    assert (tmp_path / "deaths").read_text() == "xxx"
    assert caught.value.context == {"piece": 1}


@pytest.mark.faults
def test_too_many_deaths_end_the_work(ray_cluster: ModuleType, tmp_path: Path) -> None:
    def prepare() -> Callable[[int], int]:
        os.kill(os.getpid(), signal.SIGKILL)
        return lambda piece: piece

    with pytest.raises(ClusterError, match="squares: 2 workers died, 1 may"):
        list(run(prepare, 1, tmp_path, workers=1, max_restarts=1))


def test_errors_of_the_work_come_back_as_they_are(ray_cluster: ModuleType, tmp_path: Path) -> None:
    def refuse() -> Callable[[int], int]:
        raise DataError("row 7: NaN", hint="drop it", row=7)

    with pytest.raises(DataError, match="row 7: NaN") as caught:
        list(run(refuse, 2, tmp_path))
    assert caught.value.context == {"row": 7}

    def prepare() -> Callable[[int], int]:
        return lambda piece: 1 // piece

    with pytest.raises(ClusterError, match="squares: piece 0 failed: ZeroDivisionError"):
        list(run(prepare, 1, tmp_path))


def test_a_stop_ends_the_workers(ray_cluster: ModuleType, tmp_path: Path) -> None:
    def prepare() -> Callable[[int], int]:
        def make(piece: int) -> int:
            if piece:
                (tmp_path / f"pid-{os.getpid()}").touch()
                time.sleep(60)
            return piece

        return make

    stop = StopRequest()
    outcomes = run(prepare, 3, tmp_path, stop=stop)
    assert next(outcomes) == 0
    stop.request(signal.SIGTERM)
    began = time.monotonic()
    with pytest.raises(InterruptedRunError, match="squares stopped by SIGTERM"):
        next(outcomes)
    assert time.monotonic() - began < 2
    for path in tmp_path.glob("pid-*"):
        wait_until_gone(int(path.name.removeprefix("pid-")))


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 60
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline, f"worker {pid} still lives"
        time.sleep(0.05)


@pytest.mark.parametrize("error", ["object", "text"])
def test_out_of_memory_means_fewer_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any, error: str
) -> None:
    """The piece is given back, and one worker fewer is asked for; the third death of a piece names memory."""
    from ray.exceptions import OutOfMemoryError, RayActorError

    from caloray.distributed import actors

    said = {
        "object": OutOfMemoryError("the node was low on memory"),
        "text": RayActorError(error_msg="killed: the node was running low on memory"),
    }[error]
    monkeypatch.setattr(actors.ray, "kill", lambda _: None)
    monkeypatch.setattr(actors, "_node_lost", lambda *_: False)
    crew = actors._Crew(lambda: lambda piece: piece, range(4), tmp_path, actors.Pool(), "squares")
    crew.duties = {name: actors._Duty(name, piece) for piece, name in enumerate("abc")}
    lost = crew.duties.pop("a")
    for _ in range(actors.POISON - 1):
        crew._lost(lost, said)
    assert "squares: out of memory, on with 2 workers at once" in caplog.text
    assert crew._places() == 2
    assert crew._waiting[0] == 0
    with pytest.raises(ClusterError, match="piece 0 killed its worker 3 times") as caught:
        crew._lost(lost, said)
    assert "more memory" in caught.value.hint
