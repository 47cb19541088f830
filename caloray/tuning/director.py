"""What a campaign does next: a pure function of its settings and its ledger."""

from __future__ import annotations

__all__ = ["Director"]

import itertools
import math
import os
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal

from caloray.errors import IntegrityError
from caloray.rng import StreamKey
from caloray.tuning.ledger import Kind, Ledger, Split, Trial, TrialResult
from caloray.tuning.limits import Spent
from caloray.tuning.population import next_member
from caloray.tuning.promotion import promotion
from caloray.tuning.ranking import best_trials, text_of
from caloray.tuning.records import require_own
from caloray.tuning.resolve import (
    assigned,
    base_run,
    component_names,
    epochs_of,
    full_epochs,
    rung_shares,
    trial_digest,
    with_epochs,
)
from caloray.tuning.searchers import build_searcher, draw
from caloray.tuning.settings import AshaFidelity, GridSearch, HalvingFidelity, PopulationFidelity, TuneConfig

Step = Trial | Literal["wait", "done"]
NOTE_EVERY = 5.0
REDRAWS = 50


class Director:
    """Hands out trials: those without a result first, then promotions, suggestions, and confirmations.

    Args:
        settings: The campaign.
        ledger: Its trials; a new one is in there before :meth:`next` returns it.
        data_digest: Hash of the data that trials are trained on.
        clock: Seconds, to count the budget's hours.

    Raises:
        IntegrityError: A damaged record, or one of other settings or data.
        ConfigError: The run config cannot be read any more.
    """

    def __init__(
        self,
        settings: TuneConfig,
        ledger: Ledger,
        data_digest: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        self.ledger = ledger
        self._data = data_digest
        self._base = base_run(settings)
        self._components = component_names(settings, self._base)
        self._shares = rung_shares(settings, full_epochs(self._base, self._components))
        self._searcher = build_searcher(settings)
        self._trials = ledger.trials()
        self._results = ledger.results()
        require_own(settings, ledger, self._base, data_digest)
        self._handed: set[int] = set()
        self._dropped: set[int] = set()
        self._clock, self._ticked, self._noted = clock, clock(), -math.inf
        self._searched = 0.0
        before = ledger.sessions()
        self._earlier = sum(before.values())
        self._session = f"{len(before)}-{os.getpid()}"

    @property
    def hours(self) -> float:
        """Elapsed hours of all sessions, but for those in which only confirmations were at work."""
        self._tick()
        return (self._earlier + self._searched) / 3600

    @property
    def gpu_hours(self) -> float:
        """Hours of all trials times their GPUs, but for those that are at work in this session."""
        gpus = self.settings.trial.gpus * self.settings.trial.workers
        total = 0.0
        for trial in self._trials:
            result = self._results.get(trial.number)
            if result is None:
                if trial.number not in self._handed or trial.number in self._dropped:
                    total += gpus * Spent.read(self.ledger.folder(trial.number)).seconds
            else:
                total += gpus * result.seconds if result.gpu_seconds is None else result.gpu_seconds
        return total / 3600

    @property
    def results(self) -> Mapping[int, TrialResult]:
        """Results by number, as far as :meth:`ended` has been told of them; a copy for any thread."""
        return dict(self._results)

    def next(self) -> Step:
        """What comes next.

        Returns:
            A trial, which stands in the ledger already; "wait" while only trials that are running can bring
            more; "done" when there is nothing left.
        """
        self.note()
        for trial in self._trials:
            if trial.number not in self._handed and self._open(trial):
                return self._hand(trial)
        if self.settings.baseline and not any(trial.kind == "baseline" for trial in self._trials):
            return self._new("baseline", {})
        found = self._search() if self._time_left() else None
        if found is not None:
            return found
        if any(self._open(trial) for trial in self._trials if trial.kind != "confirm"):
            return "wait"
        confirmation = self._confirmation()
        if confirmation is not None:
            return confirmation
        return "wait" if any(self._open(trial) for trial in self._trials) else "done"

    def ended(self, number: int) -> None:
        """Take note of a trial's result.

        Raises:
            IntegrityError: It has none, or a damaged one.
        """
        result = self.ledger.result(number)
        if result is None:
            raise IntegrityError(f"{self.ledger.folder(number)}: ended without a result")
        self._tick()
        self._results[number] = result
        self.note()

    def dropped(self, number: int) -> None:
        """Take note that the end of the budget stopped a trial; it stays without a result for now."""
        self._tick()
        self._dropped.add(number)
        self.note()

    def best(self) -> list[Trial]:
        """Searched trials, the best first; see :func:`caloray.tuning.ranking.best_trials`."""
        fidelity = self.settings.fidelity
        members = fidelity.population if isinstance(fidelity, PopulationFidelity) else None
        return best_trials(self._trials, self._results, self.settings.objective_names, members)

    def _open(self, trial: Trial) -> bool:
        """Whether a result is still to come: the search ends with its time, confirmations come after it."""
        if trial.number in self._results or trial.number in self._dropped:
            return False
        if trial.number in self._handed:
            return True
        if trial.kind == "confirm":
            confirm = self.settings.confirm
            return confirm is not None and trial.split == confirm.split
        return self._time_left()

    def _time_left(self) -> bool:
        budget = self.settings.budget
        hours = budget.hours is None or self.hours < budget.hours
        return hours and (budget.gpu_hours is None or self.gpu_hours < budget.gpu_hours)

    def _search(self) -> Trial | None:
        fidelity = self.settings.fidelity
        if isinstance(fidelity, PopulationFidelity):
            return self._generation(fidelity)
        if isinstance(fidelity, HalvingFidelity | AshaFidelity):
            names = self.settings.objective_names
            due = promotion(self._trials, self._results, names, len(self._shares), fidelity.factor)
            if due is not None:
                number, rung = due
                continues = isinstance(fidelity, AshaFidelity)
                assignment = self._trials[number].assignment
                return self._new("search", assignment, rung=rung, parent=number, continues=continues)
        return self._suggestion()

    def _suggestion(self) -> Trial | None:
        first = [trial for trial in self._trials if trial.kind == "search" and trial.rung == 0]
        most = self.settings.budget.trials
        if most is not None and len(first) >= most:
            return None
        found = self._searcher.suggest(len(self._trials), self._trials, self._results)
        seen = {text_of(trial.assignment) for trial in first}
        if found is None or text_of(found) not in seen or isinstance(self.settings.search, GridSearch):
            return None if found is None else self._new("search", found)
        space = self.settings.space
        sizes = [parameter.count for parameter in space.values()]
        if None not in sizes and len(seen) >= math.prod(size or 1 for size in sizes):
            return None
        for attempt in range(REDRAWS):
            key = StreamKey(self.settings.seed, "tune", "again", len(self._trials), attempt)
            other = draw(space, key)
            if text_of(other) not in seen:
                return self._new("search", other)
        return self._new("search", found)

    def _generation(self, fidelity: PopulationFidelity) -> Trial | None:
        searched = sum(trial.kind == "search" for trial in self._trials)
        most = self.settings.budget.trials
        if most is not None and searched >= most:
            return None
        member = next_member(
            fidelity,
            self.settings.space,
            self.settings.objective_names,
            len(self._shares),
            self.settings.seed,
            len(self._trials),
            self._trials,
            self._results,
        )
        if isinstance(member, str):
            return None
        return self._new(
            "search",
            member.assignment,
            rung=member.generation,
            parent=member.parent,
            continues=member.parent is not None,
        )

    def _confirmation(self) -> Trial | None:
        confirm = self.settings.confirm
        best = self.best()
        if confirm is None or not best:
            return None
        done = {
            (text_of(trial.assignment), trial.seed, trial.split)
            for trial in self._trials
            if trial.kind == "confirm"
        }
        for assignment in ({}, *(trial.assignment for trial in best[: confirm.top])):
            for seed in self._fresh_seeds(confirm.seeds):
                if (text_of(assignment), seed, confirm.split) not in done:
                    donor = self._confirmed(assignment, seed)
                    return self._new(
                        "confirm",
                        assignment,
                        seed=seed,
                        parent=donor,
                        continues=donor is not None,
                        split=confirm.split,
                    )
        return None

    def _fresh_seeds(self, count: int) -> list[int]:
        """Seeds that no trial of the search has had: what was chosen for its luck must not count again."""
        used = {self._base.seed} | {trial.seed for trial in self._trials if trial.kind != "confirm"}
        fresh = (seed for seed in itertools.count(self._base.seed + 1) if seed not in used)
        return list(itertools.islice(fresh, count))

    def _confirmed(self, assignment: Mapping[str, Any], seed: int) -> int | None:
        """A repetition that was measured on another split: its training need not be done again."""
        for trial in self._trials:
            same = text_of(trial.assignment) == text_of(assignment) and trial.seed == seed
            result = self._results.get(trial.number)
            if trial.kind == "confirm" and same and not trial.continues and result and result.complete:
                return trial.number
        return None

    def _new(
        self,
        kind: Kind,
        assignment: Mapping[str, Any],
        *,
        rung: int = 0,
        parent: int | None = None,
        continues: bool = False,
        seed: int | None = None,
        split: Split = "validation",
    ) -> Trial:
        run = assigned(self._base, assignment)
        share = self._shares[rung] if kind == "search" else 1.0
        epochs = epochs_of(run, self._components, share)
        resolved = with_epochs(self.settings, run, epochs, run.seed if seed is None else seed)
        trial = Trial(
            number=len(self._trials),
            kind=kind,
            assignment=dict(assignment),
            seed=resolved.seed,
            epochs=epochs,
            digest=trial_digest(resolved, self._components, self._data),
            rung=rung,
            parent=parent,
            continues=continues,
            split=split,
        )
        self.ledger.add(trial)
        self._trials.append(trial)
        return self._hand(trial)

    def _hand(self, trial: Trial) -> Trial:
        self._tick()
        self._handed.add(trial.number)
        return trial

    def note(self) -> None:
        """Write down now and then how long this session has searched."""
        now = self._tick()
        if now - self._noted >= NOTE_EVERY:
            self._noted = now
            self.ledger.note_session(self._session, self._searched)

    def _tick(self) -> float:
        """Count the time since the last call, unless only confirmations were at work in it."""
        now = self._clock()
        at_work = self._handed - self._results.keys() - self._dropped
        if not at_work or any(self._trials[number].kind != "confirm" for number in at_work):
            self._searched += now - self._ticked
        self._ticked = now
        return now
