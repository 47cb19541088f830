"""What a searcher learns from: one observation per configuration, on one rung, so that all are comparable."""

from __future__ import annotations

__all__ = ["Observation", "observations"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from caloray.tuning.ledger import Trial, TrialResult
from caloray.tuning.ranking import values_of

State = Literal["complete", "running", "bad"]


@dataclass(frozen=True)
class Observation:
    """One configuration.

    Args:
        assignment: Its values.
        state: "running": no result yet; "bad": it ended without objectives, for whatever reason. Settings
            that exceed the limits of a trial are told too, or they would be suggested again and again.
        values: Its objectives where it is complete.
    """

    assignment: dict[str, Any]
    state: State
    values: tuple[float, ...] = ()


def observations(
    trials: Sequence[Trial], results: Mapping[int, TrialResult], names: Sequence[str], enough: int
) -> list[Observation]:
    """The configurations on the highest rung where at least ``enough`` are complete (else on the first).

    Objectives of different rungs cannot be compared: longer trainings are better ones. Those that are running
    or came to nothing are told whatever their rung.
    """
    searched = [trial for trial in trials if trial.kind == "search"]
    complete = {
        trial.number for trial in searched if trial.number in results and results[trial.number].complete
    }
    rungs = sorted({trial.rung for trial in searched}, reverse=True)
    filled = (
        rung for rung in rungs if sum(t.number in complete and t.rung == rung for t in searched) >= enough
    )
    rung = next(filled, 0)
    by_number = {trial.number: trial for trial in searched}
    seen = {_root(trial, by_number) for trial in searched if trial.rung == rung and trial.number in complete}
    found = []
    for trial in searched:
        result = results.get(trial.number)
        if result is None:
            if _root(trial, by_number) not in seen:
                found.append(Observation(trial.assignment, "running"))
        elif not result.complete:
            found.append(Observation(trial.assignment, "bad"))
        elif trial.rung == rung:
            found.append(Observation(trial.assignment, "complete", values_of(result, names) or ()))
    return found


def _root(trial: Trial, trials: Mapping[int, Trial]) -> int:
    while trial.parent is not None and trial.parent in trials:
        trial = trials[trial.parent]
    return trial.number
