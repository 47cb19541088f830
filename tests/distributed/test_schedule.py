"""Which trainer starts when: room, order, chains of warm starts, stops; with trainers that only pretend."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from caloray.config import WorkerConfig
from caloray.distributed import room as rooms
from caloray.distributed import train as module
from caloray.distributed.room import Demand, Room, fits
from caloray.distributed.trainer import demand_of, reserved
from caloray.errors import ClusterError, ConfigError, InterruptedRunError, NumericalError
from caloray.interrupt import StopRequest
from caloray.tracking import NullTracker
from caloray.training.files import ComponentFolder, ComponentResult

ONE = Demand({"CPU": 1.0})


@pytest.mark.parametrize(
    ("nodes", "demands", "expected"),
    [
        ([{"CPU": 2.0}], [ONE, ONE], True),
        ([{"CPU": 2.0}], [ONE, ONE, ONE], False),
        ([{"CPU": 1.0}, {"CPU": 1.0}], [Demand({"CPU": 1.0}, 2)], True),
        ([{"CPU": 1.0}, {"CPU": 1.0}], [Demand({"CPU": 2.0})], False),
        ([{"CPU": 1.0}], [Demand({"CPU": 1.0}, 2)], False),
        ([{"CPU": 1.0}, {"CPU": 1.0}], [Demand({"CPU": 1.0}, 3)], False),
        ([{"CPU": 8.0, "GPU": 1.0}], [Demand({"CPU": 1.0, "GPU": 0.25})] * 4, True),
        ([{"CPU": 8.0, "GPU": 1.0}], [Demand({"CPU": 1.0, "GPU": 0.25})] * 5, False),
        ([{"CPU": 8.0}], [Demand({"CPU": 1.0, "GPU": 0.25})], False),
        ([{"CPU": 1.0}], [Demand({"CPU": 0.1})] * 10, True),
        ([{"CPU": 8.0, "memory": 4e9}], [Demand({"CPU": 1.0, "memory": 1.5e9})] * 3, False),
        ([], [], True),
    ],
)
def test_what_fits(nodes: Any, demands: Any, expected: bool) -> None:
    assert fits(nodes, demands) is expected


def test_what_a_trainer_takes() -> None:
    job: Any = SimpleNamespace(memory=3 << 30)
    demand = demand_of(job, WorkerConfig(workers=2, cpus=0.5, gpus=0.25))
    assert demand == Demand({"CPU": 0.5, "GPU": 0.25, "memory": float((3 << 30) + rooms.CONTROLLER)}, 2)
    assert not fits([{"CPU": 8.0, "GPU": 1.0, "memory": 6.5e9}], [demand])
    assert fits([{"CPU": 8.0, "GPU": 1.0, "memory": 8e9}], [demand])


def test_memory_is_asked_of_ray_where_it_is_there() -> None:
    node = {"CPU": 4.0, "memory": 8e9}
    one = {"CPU": 1.0}
    assert reserved(one, 3_000_000_000, 2, [node]) == {"CPU": 1.0, "memory": 3e9}
    assert reserved(one, 5_000_000_000, 2, [node]) == one, "it would wait for ever"
    assert reserved(one, 5_000_000_000, 2, [node, node]) == {"CPU": 1.0, "memory": 5e9}
    assert reserved(one, 0, 1, [node]) == one


def test_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rooms.ray, "nodes", lambda: [{"Alive": True, "Resources": {"CPU": 2.0}}])
    assert Room().has([], Demand({"CPU": 9.0})), "the first one always: Ray refuses or waits"
    assert Room().has([ONE], ONE)
    assert not Room().has([ONE, ONE], ONE)
    assert not Room(1).has([ONE], ONE)
    assert not Room(3).has([ONE, ONE], ONE), "no more than there is room for"
    assert Room(3, grows=True).has([ONE, ONE], ONE), "a growing cluster is asked for more"
    assert not Room(3, grows=True).has([ONE] * 3, ONE)
    assert not Room(None, grows=True).has([ONE, ONE], ONE)


class Pretender:
    """A trainer that ends when it is told to."""

    log: list[str] = []
    script: dict[str, Any] = {}
    started: dict[str, Pretender] = {}

    def __init__(self, job: Any, feed: Any, workers: WorkerConfig, run: Path, stop: StopRequest) -> None:
        self.job, self.demand = job, ONE
        self._ends = threading.Event()

    def start(self) -> None:
        Pretender.log.append(f"+{self.job.name}")
        Pretender.started[self.job.name] = self

    def end(self) -> None:
        Pretender.log.append(f"-{self.job.name}")
        self._ends.set()

    def is_alive(self) -> bool:
        return not self._ends.is_set()

    def join(self, timeout: float) -> None:
        self.end()

    def outcome(self) -> Any:
        told = Pretender.script.get(self.job.name)
        return told if told is not None else finish(self.job)


def finish(job: Any) -> ComponentResult:
    folder = ComponentFolder(job.request.directory)
    facts = {"parameters": 1, "epochs": 1, "selected_epoch": 0, "validation_loss": 0.0, "seconds": 1.0}
    return folder.write_result({}, component=job.name, **facts)


@pytest.fixture
def campaign(
    toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[list[str], dict[str, Any]]]:
    """Train pretended components; at every look the trainer that runs longest ends."""
    Pretender.log, Pretender.script, Pretender.started = [], {}, {}
    monkeypatch.setattr(module, "Training", Pretender)
    monkeypatch.setattr(module, "LayerFeed", lambda *_: SimpleNamespace(keep=keep.append, peak=0))
    monkeypatch.setattr(
        module, "finished_result", lambda request: ComponentFolder(request.directory).result()
    )
    monkeypatch.setattr(rooms.ray, "nodes", lambda: [{"Alive": True, "Resources": {"CPU": 9.0}}])
    monkeypatch.setattr(module, "demand_of", lambda *_: ONE)
    keep: list[set[int]] = []

    def end_one(_: float) -> None:
        alive = [t for t in Pretender.started.values() if t.is_alive()]
        if alive:
            alive[0].end()

    monkeypatch.setattr(module.time, "sleep", end_one)

    def run(
        after: dict[str, str | None], *, limit: int | None = None, stop: StopRequest | None = None
    ) -> tuple[list[str], dict[str, Any]]:
        jobs = [job_of(tmp_path, name, source) for name, source in after.items()]
        feed = SimpleNamespace(paths=lambda _: [], manifest=SimpleNamespace(readout=None))
        states: list[Sequence[Any]] = []
        found = module.train_components(
            jobs,
            feed,
            {job.name: WorkerConfig() for job in jobs},
            tmp_path,
            stop=stop or StopRequest(),
            tracker=NullTracker(),
            show=states.append,
            room=Room(limit),
        )
        return [f"{s.component} {s.state} {s.note}".strip() for s in states[-1]], found

    return run


def job_of(run: Path, name: str, after: str | None) -> Any:
    from caloray.distributed.loop import ComponentJob
    from caloray.training.config import TrainingConfig
    from caloray.training.run import TrainRequest

    request = TrainRequest(SimpleNamespace(name=name), TrainingConfig(), run / "components" / name, 1)
    return ComponentJob(request, None, (0,), run / "stop", after=after)


def test_no_more_than_the_limit_at_once_and_in_order(campaign: Any) -> None:
    names = [f"layer_{n:02d}" for n in range(5)]
    states, outcomes = campaign(dict.fromkeys(names), limit=2)
    assert list(outcomes) == names
    assert states == [f"{name} done" for name in names]
    running = peak = 0
    for entry in Pretender.log:
        running += 1 if entry[0] == "+" else -1
        peak = max(peak, running)
    assert peak == 2
    assert [entry for entry in Pretender.log if entry[0] == "+"] == [f"+{name}" for name in names]


def test_a_chain_goes_one_after_the_other(campaign: Any) -> None:
    chain = {"layer_energies": None, "layer_00": None, "layer_01": "layer_00", "layer_02": "layer_01"}
    _, outcomes = campaign(chain)
    assert all(isinstance(outcome, ComponentResult) for outcome in outcomes.values())
    for earlier, later in (("layer_00", "layer_01"), ("layer_01", "layer_02")):
        assert Pretender.log.index(f"-{earlier}") < Pretender.log.index(f"+{later}")
        warm = Pretender.started[later].job.request.warm
        assert (warm.source, warm.sha256) == (earlier, outcomes[earlier].sha256)
    assert Pretender.started["layer_00"].job.request.warm is None


def test_the_layers_that_start_from_one_start_together(campaign: Any) -> None:
    campaign({"layer_00": None, "layer_01": "layer_00", "layer_02": "layer_00"})
    assert Pretender.log[:4] == ["+layer_00", "-layer_00", "+layer_01", "+layer_02"]


def test_a_failure_ends_what_hangs_on_it_and_nothing_else(campaign: Any) -> None:
    Pretender.script["layer_01"] = NumericalError("loss is nan")
    chain = {"layer_00": None, "layer_01": "layer_00", "layer_02": "layer_01", "layer_03": "layer_02"}
    states, outcomes = campaign({**chain, "layer_04": None})
    assert isinstance(outcomes["layer_01"], NumericalError)
    assert isinstance(outcomes["layer_03"], ClusterError)
    assert "layer_02, whose weights it starts from, failed" in outcomes["layer_03"].message
    assert isinstance(outcomes["layer_04"], ComponentResult)
    assert states[1] == "layer_01 failed loss is nan"
    assert not {"layer_02", "layer_03"} & Pretender.started.keys()
    Pretender.script.clear()
    Pretender.started.clear()
    _, again = campaign({**chain, "layer_04": None})
    assert list(Pretender.started) == ["layer_01", "layer_02", "layer_03"], "only what is missing"
    assert again["layer_00"] == outcomes["layer_00"]


def test_a_source_that_nobody_trains_is_refused_first(campaign: Any) -> None:
    with pytest.raises(ConfigError, match="layer_03 starts from the weights of layer_02, which is not"):
        campaign({"layer_01": None, "layer_03": "layer_02"})
    assert not Pretender.started


def test_a_stop_starts_nothing_more(campaign: Any, tmp_path: Path) -> None:
    class AfterOne(StopRequest):
        @property
        def requested(self) -> bool:
            if "-layer_00" in Pretender.log:
                self.request()
            return super().requested

    with pytest.raises(InterruptedRunError, match="training stopped by SIGTERM"):
        campaign(dict.fromkeys(["layer_00", "layer_01", "layer_02", "layer_03"]), limit=2, stop=AfterOne())
    assert list(Pretender.started) == ["layer_00", "layer_01"]
    assert (tmp_path / "stop").read_text() == "15\n"
