"""What a campaign would do, told without doing it: rungs, trials, epochs, hours if anything was timed."""

from __future__ import annotations

__all__ = ["Outlook", "look_ahead"]

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from caloray.config import RunConfig, load_config
from caloray.tuning.ledger import Ledger
from caloray.tuning.resolve import base_run, component_names, full_epochs, identity, rung_shares
from caloray.tuning.settings import (
    AshaFidelity,
    GridSearch,
    HalvingFidelity,
    PopulationFidelity,
    TuneConfig,
)


@dataclass(frozen=True)
class Outlook:
    """A campaign before it begins, or before it goes on.

    Args:
        components: What each trial trains.
        epochs: Full epochs of each component.
        rungs: (epochs of the longest component, trials, epochs that these train) of each rung.
        repeats: Trials at the full budget besides: baseline and confirmations.
        confirmations: How many of these are confirmations.
        trials: New configurations; None: until the hours are over.
        ended: Trials that have a result already.
        done: Epochs of the longest component that these have trained, without repetitions and with them.
        limit: Hours of the search, of all sessions, at most.
        seconds: Of one epoch of a trial; None where nothing was timed.
        basis: Where ``seconds`` come from, in words.
        places: Trials at the same time; None: as many as the cluster has room for.
    """

    components: tuple[str, ...]
    epochs: Mapping[str, int]
    rungs: tuple[tuple[int, int, int], ...]
    repeats: int
    confirmations: int
    trials: int | None
    ended: int
    done: tuple[int, int]
    limit: float | None
    seconds: float | None
    basis: str
    places: int | None

    @property
    def total_epochs(self) -> int:
        """Epochs of the longest component in all trials."""
        return sum(epochs for *_, epochs in self.rungs) + self.repeats * max(self.epochs.values())

    @property
    def hours(self) -> float | None:
        """Still to come with ``places`` trials at the same time; the budget's hours end only the search."""
        if self.seconds is None or self.places is None:
            return None
        each = self.seconds / self.places / 3600
        repeated = self.confirmations * max(self.epochs.values())
        confirm = each * max(0, repeated - self.done[1])
        if self.trials is None:
            return None if self.limit is None else self.limit + confirm
        search = each * max(0, self.total_epochs - repeated - self.done[0])
        return confirm + (search if self.limit is None else min(search, self.limit))


def look_ahead(settings: TuneConfig, cpus: int | None = None) -> Outlook:
    """What a campaign would do.

    Args:
        settings: The campaign.
        cpus: CPUs of the machine, if that is where the trials run.

    Raises:
        ConfigError: The run config cannot be read.
        IntegrityError: A damaged record of an earlier session.
        StorageError: The output holds the trials of another campaign.
    """
    run = base_run(settings)
    ledger = Ledger(settings.output)
    wanted = identity(settings, "")
    ledger.is_of({key: value for key, value in wanted.items() if key != "data"})
    names = component_names(settings, run)
    full = full_epochs(run, names)
    trials = settings.budget.trials
    if isinstance(settings.search, GridSearch):
        points = math.prod(len(parameter.points()) for parameter in settings.space.values())
        trials = points if trials is None else min(points, trials)
    confirm = settings.confirm
    confirmations = confirm.seeds * (confirm.top + 1) if confirm is not None else 0
    known, hours = ledger.results(), settings.budget.hours
    done = [0, 0]
    for trial in ledger.trials():
        if trial.number in known:
            done[trial.kind == "confirm"] += max(trial.epochs.values())
    seconds, basis = _timed(settings, run, names)
    return Outlook(
        components=names,
        epochs={name: run.training_of(name).epochs for name in names},
        rungs=_rungs(settings, full, trials or 0),
        repeats=int(settings.baseline) + confirmations,
        confirmations=confirmations,
        trials=trials,
        ended=len(known),
        done=(done[0], done[1]),
        limit=None if hours is None else max(0.0, hours - sum(ledger.sessions().values()) / 3600),
        seconds=seconds,
        basis=basis,
        places=_places(settings, cpus),
    )


def _rungs(settings: TuneConfig, full: int, trials: int) -> tuple[tuple[int, int, int], ...]:
    epochs = [max(1, round(share * full)) for share in rung_shares(settings, full)]
    match settings.fidelity:
        case HalvingFidelity(factor=factor):
            return tuple((count, n, n * count) for count, n in _promoted(epochs, trials, factor))
        case AshaFidelity(factor=factor):
            before = [0, *epochs]
            numbers = _promoted(epochs, trials, factor)
            return tuple(
                (count, n, n * (count - earlier))
                for (count, n), earlier in zip(numbers, before, strict=False)
            )
        case PopulationFidelity(population=members):
            before = [0, *epochs]
            return tuple(
                (count, members, members * (count - earlier))
                for count, earlier in zip(epochs, before, strict=False)
            )
        case _:
            return ((full, trials, full * trials),)


def _promoted(epochs: list[int], trials: int, factor: int) -> list[tuple[int, int]]:
    found = []
    for count in epochs:
        found.append((count, trials))
        trials //= factor
    return found


def _places(settings: TuneConfig, cpus: int | None) -> int | None:
    wanted = settings.trial
    cpus = settings.cluster.num_cpus or cpus
    if settings.cluster.address != "local" or wanted.gpus or cpus is None:
        return wanted.concurrent
    room = max(1, int(cpus / (wanted.cpus * wanted.workers)))
    return room if wanted.concurrent is None else min(room, wanted.concurrent)


def _timed(settings: TuneConfig, run: RunConfig, names: tuple[str, ...]) -> tuple[float | None, str]:
    """Seconds of one epoch: from trials that have ended, else from an earlier training of the run config."""
    ledger = Ledger(settings.output)
    results = ledger.results()
    known = [
        t for t in ledger.trials() if t.number in results and results[t.number].complete and not t.continues
    ]
    if known:
        epochs = sum(max(trial.epochs.values()) for trial in known)
        seconds = sum(results[trial.number].seconds for trial in known)
        return seconds / epochs, f"{len(known)} trials of this campaign, measuring included"
    each = [_epoch_seconds(run.output / "components" / name) for name in names]
    if each and all(value is not None for value in each):
        share, words = _of_its_data(settings, run)
        basis = f"the training in {run.output}{words}, without measuring{_unscaled(settings)}"
        return share * sum(value for value in each if value), basis
    return None, "nothing was timed yet: run it with budget.trials=1 first, or train the run config"


def _of_its_data(settings: TuneConfig, run: RunConfig) -> tuple[float, str]:
    """Training data of the campaign over those of the run config alone, by files and training share."""
    theirs = load_config(settings.config).data
    if run.data == theirs:
        return 1.0, ""
    ours = run.data
    share = len(ours.files) * ours.split.train / (len(theirs.files) * theirs.split.train)
    return share, f" times {share:.3g} for other files and splits"


def _unscaled(settings: TuneConfig) -> str:
    """What the campaign sets or searches and an epoch's time depends on, in words."""
    fields = [*settings.space, *settings.set]
    costly = (name for name in fields if name.startswith("scheme.") or name.endswith((".batch", ".device")))
    names = sorted({name.rsplit(".", 1)[-1] for name in costly})
    return f", as if {', '.join(names)} did not matter" if names else ""


def _epoch_seconds(folder: Path) -> float | None:
    """Median seconds of an epoch in a history file."""
    try:
        lines = (folder / "history.jsonl").read_text().splitlines()
        seconds = sorted(float(json.loads(line)["seconds"]) for line in lines)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return seconds[len(seconds) // 2] if seconds else None
