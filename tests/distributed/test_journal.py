"""The diary of a campaign goes on where it stopped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from caloray.distributed.journal import Journal
from caloray.generation.blocks import Redraws
from caloray.tracking import NullTracker
from caloray.tracking.background import BackgroundTracker
from caloray.tracking.state import epochs_of


def receipt(rows: int = 16) -> Any:
    return SimpleNamespace(
        rows=rows,
        planned=rows,
        skipped=0,
        flagged=0,
        bytes=100 * rows,
        redraws=Redraws(rows=1),
        seconds=1.0,
        timing={"sample": 0.9, "write": 0.1},
        numerics={"device": "cpu"},
        empty=0,
    )


class Counting(NullTracker):
    """Counts how often it is asked to send something."""

    polled = 0

    def poll(self) -> None:
        self.polled += 1


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("caloray.distributed.journal._FIRST_PAUSE", 0.0)
    monkeypatch.setattr("caloray.distributed.journal._GROWTH", 0.0)


def lines(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / "history.jsonl").read_text().splitlines()]


def drifts() -> Mapping[str, float]:
    return {"response": 0.1}


def test_lines_count_what_is_there_and_rate_what_is_new(tmp_path: Path) -> None:
    tracker = Counting()
    journal = Journal(tmp_path, tracker, drifts)
    journal.add(receipt(), new=False)
    assert not (tmp_path / "history.jsonl").exists()
    journal.add(receipt(), new=True)
    journal.add(receipt(), new=True)
    assert journal.facts() == {}
    found = lines(tmp_path)
    assert [line["epoch"] for line in found] == [0, 1]
    assert [line["showers"] for line in found] == [32.0, 48.0]
    assert found[-1]["redrawn"] == 3
    assert found[-1]["drift_response"] == 0.1
    assert found[-1]["bytes_per_shower"] == 100
    assert found[0]["showers_per_second"] > 0
    assert tracker.polled == 2


def test_a_later_run_continues_the_diary(tmp_path: Path) -> None:
    first = Journal(tmp_path, NullTracker(), drifts)
    first.add(receipt(), new=True)
    with (tmp_path / "history.jsonl").open("a") as file:
        file.write('{"epoch": 7, "torn')
    second = Journal(tmp_path, NullTracker(), drifts)
    second.add(receipt(), new=False)
    second.add(receipt(), new=True)
    assert [epoch for epoch, _, _ in epochs_of(tmp_path, "")] == [0, 1]


def test_a_tracker_in_the_background_does_everything_in_order(tmp_path: Path) -> None:
    seen: list[str] = []

    class Slow(NullTracker):
        def start(self, name: str, *_: object) -> None:
            seen.append(name)

        def summary(self, values: Mapping[str, float]) -> None:
            seen.append(str(values))

        def close(self, status: str) -> None:
            seen.append(status)

    tracker = BackgroundTracker(Slow())
    tracker.start("toy", [], {})
    tracker.summary({"showers": 5.0})
    tracker.close("FINISHED")
    assert seen == ["toy", "{'showers': 5.0}", "FINISHED"]
