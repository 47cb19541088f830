"""A campaign's ledger as plain data: everything that a page, a table or a tracker tells about it."""

from __future__ import annotations

__all__ = ["SCHEMA", "TuningSummary", "summarise"]

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import caloray
from caloray.atomic import write_json
from caloray.config import RunConfig
from caloray.tuning.best_config import best_config
from caloray.tuning.importance import importance_of
from caloray.tuning.ledger import Ledger, Trial, TrialResult
from caloray.tuning.limits import Spent
from caloray.tuning.ranking import best_trials, pareto_front, text_of
from caloray.tuning.remarks import OVER, remarks_on
from caloray.tuning.repetitions import chosen, compared, confirmed
from caloray.tuning.resolve import base_run, component_names, full_epochs, run_of, rung_shares
from caloray.tuning.settings import PopulationFidelity, TuneConfig
from caloray.tuning.space import Parameter

SCHEMA = "caloray-tuning/1"
Row = Mapping[str, Any]

OPEN = "open"


@dataclass(frozen=True)
class TuningSummary:
    """A campaign as plain JSON values.

    Args:
        data: The keys of :func:`summarise`. Page and tables need nothing else.
    """

    data: dict[str, Any]

    @property
    def best_yaml(self) -> str:
        """Run config with the best settings, ready for ``caloray train``; "" while no trial is complete."""
        return str(self.data["best_yaml"])

    def to_dict(self) -> dict[str, Any]:
        """The data."""
        return self.data

    def save(self, path: Path) -> Path:
        """Write them as JSON."""
        write_json(path, self.data)
        return path


def summarise(settings: TuneConfig) -> TuningSummary:
    """What the ledger of a campaign says, finished or not.

    Returns:
        The keys ``schema``, ``caloray``, ``name``, ``config``, ``components``, ``search``, ``fidelity``,
        ``objectives`` (names), ``parameters`` (name, low, high, log, whole, choices, baseline), ``trials``
        (everything of :class:`Trial` and :class:`TrialResult`; ``level``: the training budget in words;
        ``share``: of the full one; ``full``: whether it was that), ``history`` (``cpu_hours`` after each
        trial and ``best`` so far of each objective at the full budget), ``best`` and ``baseline`` (numbers of
        trials), ``chosen`` (the trial whose settings the campaign ends with: the best, or of several repeated
        ones that with the best mean), ``unbeaten`` (whether the baseline's own training was at least as good
        as that of ``chosen`` in every objective), ``importance`` (of each objective), ``pareto`` (numbers of
        trials), ``confirm`` (see :func:`caloray.tuning.repetitions.confirmed`), ``budget``, ``remarks``
        (sentences) and ``best_yaml``.

    Raises:
        IntegrityError: A damaged record.
        ConfigError: The run config cannot be read.
    """
    ledger, base = Ledger(settings.output), base_run(settings)
    trials, results = ledger.trials(), ledger.results()
    rows = [_row(settings, base, trial, results.get(trial.number)) for trial in trials]
    rows = [row if row["status"] != OPEN else row | _unfinished(ledger, row["number"]) for row in rows]
    budget = _budget(settings, ledger, rows)
    for row in rows:
        if row["status"] == OPEN and row["kind"] != "confirm" and _over(budget):
            row["reason"] = OVER
    searched = [row for row in rows if row["kind"] != "confirm" and row["status"] == "complete"]
    whole = [row for row in searched if row["full"]]
    ranked = [rows[trial.number] for trial in _best(settings, trials, results)]
    baseline = next((row for row in searched if row["kind"] == "baseline"), None)
    best = next(iter(ranked), baseline)
    wanted = settings.confirm
    confirm = confirmed(rows, ranked, wanted.split, settings.objective_names) if wanted is not None else None
    taken = chosen(confirm, None if best is None else best["number"])
    data: dict[str, Any] = {
        "schema": SCHEMA,
        "caloray": caloray.__version__,
        "name": settings.name,
        "config": settings.config.name,
        "components": list(component_names(settings, base)),
        "search": settings.search.model_dump(mode="json"),
        "fidelity": settings.fidelity.model_dump(mode="json"),
        "objectives": list(settings.objective_names),
        "parameters": [_parameter(base, name, one) for name, one in settings.space.items()],
        "trials": rows,
        "history": _history(settings, rows),
        "best": None if best is None else best["number"],
        "chosen": taken,
        "unbeaten": _unbeaten(baseline, None if taken is None else rows[taken], settings.objective_names),
        "baseline": None if baseline is None else baseline["number"],
        "importance": {name: _importance(settings, rows, name) for name in settings.objective_names},
        "pareto": _pareto(settings, whole, results),
        "confirm": confirm,
        "budget": budget,
    }
    data["remarks"] = list(remarks_on(data, settings.space, compared=compared(confirm)))
    data["best_yaml"] = "" if taken is None else best_config(settings, base, rows[taken], data)
    return TuningSummary(json.loads(json.dumps(data)))


def _row(settings: TuneConfig, base: RunConfig, trial: Trial, result: TrialResult | None) -> dict[str, Any]:
    whole = run_of(settings, base, trial.assignment)
    full = {name: whole.training_of(name).epochs for name in trial.epochs}
    shares = rung_shares(settings, full_epochs(base, tuple(trial.epochs)))
    share = shares[min(trial.rung, len(shares) - 1)] if trial.kind == "search" else 1.0
    row = asdict(trial) | {
        "level": _level(trial.epochs, share if _scaled(settings) else None),
        "share": share,
        "full": all(trial.epochs[name] >= count for name, count in full.items()),
        "status": OPEN,
        "values": {},
    }
    if result is None:
        return row
    known = asdict(result)
    row["values"] = known.pop("objectives")
    return row | known


def _unfinished(ledger: Ledger, number: int) -> dict[str, Any]:
    """What a trial without a result has taken so far."""
    spent = Spent.read(ledger.folder(number))
    return {"attempts": spent.attempts, "seconds": spent.seconds, "cpu_seconds": spent.cpu_seconds}


def _scaled(settings: TuneConfig) -> bool:
    """Whether the epochs themselves are searched, so that a budget is a share of them."""
    return any(name.startswith("training.") and name.endswith(".epochs") for name in settings.space)


def _level(epochs: Mapping[str, int], share: float | None) -> str:
    """A training budget in words: epochs, or ``share`` of the full ones where those differ by trial."""
    if share is not None:
        return "all epochs" if share == 1 else f"{100 * share:.2g} % of the epochs"
    counts = list(epochs.values())
    if len(counts) > 3 and len(set(counts)) == 1:
        return f"{len(counts)} x {_epochs(counts[0])}"
    return " + ".join([*map(str, counts[:-1]), _epochs(counts[-1])])


def _epochs(count: int) -> str:
    return f"{count} epoch{'' if count == 1 else 's'}"


def _unbeaten(baseline: Row | None, best: Row | None, names: Sequence[str]) -> bool:
    """Whether one training of the run config as it is was as good as the best, with as many epochs."""
    if baseline is None or best is None or best is baseline or not best["full"]:
        return False
    return all(baseline["values"][name] <= best["values"][name] for name in names)


def _parameter(base: RunConfig, name: str, parameter: Parameter) -> dict[str, Any]:
    choices = list(parameter.choices)
    low, high = (None, None) if choices else parameter.ends
    return {
        "name": name,
        "low": low,
        "high": high,
        "log": parameter.log,
        "whole": parameter.whole,
        "choices": choices,
        "baseline": _field(base, name),
    }


def _field(base: RunConfig, name: str) -> Any:
    """Value of a dotted field in the run config, None where it has none."""
    keys = name.split(".")
    if keys[0] == "training":
        value: Any = base.training_of(keys[1]).model_dump(mode="json")
        keys = keys[2:]
    else:
        value = base.model_dump(mode="json")
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _best(settings: TuneConfig, trials: Sequence[Trial], results: Mapping[int, TrialResult]) -> list[Trial]:
    """Trials of the search, the best first."""
    fidelity = settings.fidelity
    members = fidelity.population if isinstance(fidelity, PopulationFidelity) else None
    return best_trials(trials, results, settings.objective_names, members)


def _history(settings: TuneConfig, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    hours, spent = [], 0.0
    for row in rows:
        spent += row.get("cpu_seconds", 0.0) / 3600
        hours.append(spent)
    best: dict[str, list[float | None]] = {}
    for name in settings.objective_names:
        lowest: float | None = None
        best[name] = []
        for row in rows:
            if row["status"] == "complete" and row["full"] and row["kind"] != "confirm":
                value = float(row["values"][name])
                lowest = value if lowest is None else min(lowest, value)
            best[name].append(lowest if row["kind"] != "confirm" else None)
    return {"cpu_hours": hours, "best": best}


def _importance(settings: TuneConfig, rows: Sequence[dict[str, Any]], name: str) -> dict[str, Any]:
    """Over the trials of the budget that most trials had, or the longer one of two."""
    levels: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if row["kind"] == "search" and row["status"] == "complete":
            levels.setdefault(row["level"], []).append(row)
    most = max(levels.values(), key=lambda group: (len(group), sum(group[0]["epochs"].values())), default=[])
    values = [float(row["values"][name]) for row in most]
    found = importance_of(settings.space, [row["assignment"] for row in most], values, settings.seed)
    return asdict(found) | {"level": most[0]["level"] if most else ""}


def _pareto(
    settings: TuneConfig, whole: Sequence[dict[str, Any]], results: Mapping[int, TrialResult]
) -> list[int]:
    if len(settings.objective_names) < 2:
        return []
    return pareto_front({row["number"]: results[row["number"]] for row in whole}, settings.objective_names)


def _budget(settings: TuneConfig, ledger: Ledger, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What was allowed and what was spent."""
    configurations = {text_of(row["assignment"]) for row in rows if row["kind"] == "search"}
    return {
        "trials": {"limit": settings.budget.trials, "used": len(configurations)},
        "hours": {"limit": settings.budget.hours, "used": sum(ledger.sessions().values()) / 3600},
        "gpu_hours": {"limit": settings.budget.gpu_hours, "used": _gpu_hours(settings, rows)},
        "cpu_hours": sum(row.get("cpu_seconds", 0.0) for row in rows) / 3600,
    }


def _gpu_hours(settings: TuneConfig, rows: Sequence[Mapping[str, Any]]) -> float:
    """Of all trials, unfinished ones too; each at the price that it had."""
    gpus, total = settings.trial.gpus * settings.trial.workers, 0.0
    for row in rows:
        known = row.get("gpu_seconds")
        total += gpus * float(row["seconds"]) if known is None else float(known)
    return total / 3600


def _over(budget: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether no time is left for the search."""
    spans = (budget["hours"], budget["gpu_hours"])
    return any(span["limit"] is not None and span["used"] >= span["limit"] for span in spans)
