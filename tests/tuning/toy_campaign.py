"""A made-up campaign over the demo's flow-3: halving, failures, a baseline, repetitions."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from caloray.tuning.ledger import Ledger, Trial, TrialResult
from caloray.tuning.resolve import base_run
from caloray.tuning.settings import TuneConfig

DEMO = Path(__file__).parents[2] / "configs" / "demo.yaml"
SPACE: dict[str, Any] = {
    "training.next_layer.schedule.max_lr": {"log_uniform": [2e-4, 1e-2]},
    "training.next_layer.schedule.pct_start": {"uniform": [0.1, 0.5]},
    "training.next_layer.schedule.div": {"log_uniform": [5.0, 100.0]},
    "training.next_layer.schedule.final_div": {"log_uniform": [10.0, 1e5]},
    "scheme.flows.next_layer.spline.bins": {"int": [4, 16]},
    "scheme.flows.next_layer.spline.tail_bound": {"uniform": [8.0, 20.0]},
    "scheme.flows.next_layer.spline.min_width": {"log_uniform": [1e-6, 1e-2]},
    "training.next_layer.optimizer": {"choice": ["adam", "adamw"]},
}
RUNGS = (4, 13, 40)


def settings_of(output: Path, **changes: Any) -> TuneConfig:
    """Settings of the made-up campaign."""
    value: dict[str, Any] = {
        "name": "toy",
        "config": str(DEMO),
        "output": str(output),
        "components": ["next_layer"],
        "space": SPACE,
        "search": {"kind": "random"},
        "fidelity": {"kind": "halving", "min_epochs": 4, "factor": 3},
        "budget": {"trials": 24, "hours": 1.0},
        "objective": {"kind": "nll"},
        "confirm": {"seeds": 3, "split": "test"},
    }
    return TuneConfig.model_validate(value | changes)


def quality(assignment: dict[str, Any], epochs: int, noise: float) -> float:
    """A likelihood with its best rate at 2e-3, better with more bins and epochs."""
    rate = assignment.get("training.next_layer.schedule.max_lr", 2e-3)
    bins = assignment.get("scheme.flows.next_layer.spline.bins", 8)
    return -4.2 + 0.05 * math.log(rate / 2.2e-3) ** 2 + 0.2 / bins + 0.6 / epochs + noise


def fill(settings: TuneConfig, seed: int = 0, *, two: bool = False, gain: float = 0.05) -> Ledger:
    """Write the ledger: a baseline, 24 configurations on the first rung, promotions, repetitions."""
    ledger, rng = Ledger(settings.output), np.random.default_rng(seed)
    names = settings.objective_names

    def values(assignment: dict[str, Any], epochs: int, shift: float = 0.0) -> dict[str, float]:
        nll = quality(assignment, epochs, 0.003 * float(rng.normal())) + shift
        bins = assignment.get("scheme.flows.next_layer.spline.bins", 8)
        return dict(zip(names, (nll, 3.0 + 0.4 * bins + float(rng.normal()) * 0.1), strict=False))

    def run(kind: Any, assignment: dict[str, Any], rung: int, **other: Any) -> dict[str, float]:
        number, epochs, shift = len(ledger.trials()), RUNGS[rung], other.pop("shift", 0.0)
        status, reason = other.pop("status", "complete"), other.pop("reason", "")
        seed = other.pop("seed", 1)
        ledger.add(Trial(number, kind, assignment, seed, {"next_layer": epochs}, "d" * 8, rung, **other))
        found = values(assignment, epochs, shift) if status == "complete" else {}
        cpu = epochs * (20 + 2 * rng.random())
        if status != "open":
            ledger.finish(TrialResult(number, status, found, reason, cpu, cpu, 1, 700 << 20, {}))
        return found

    run("baseline", {}, 2)
    shown = []
    for i in range(24):
        assignment = {name: one.draw(rng) for name, one in settings.space.items()}
        status, reason = (
            ("complete", "") if i % 11 != 7 else ("pruned", "CR-400: loss is nan in epoch 1, <b>")
        )
        found = run("search", assignment, 0, status=status, reason=reason)
        if found:
            shown.append((found[names[0]], len(ledger.trials()) - 1, assignment))
    best = _promote(shown, run, ledger, names)
    run("search", best, 0, status="stopped", reason="CR-100: longer than 5 minutes")
    run("search", best, 0, status="open")
    for shift, assignment in ((0.0, {}), (-gain, best)):
        for extra in range(3):
            run("confirm", assignment, 2, seed=2 + extra, shift=shift, split="test")
    ledger.note_session("a", 3000.0)
    return ledger


def _promote(shown: list[Any], run: Any, ledger: Ledger, names: tuple[str, ...]) -> dict[str, Any]:
    for rung in (1, 2):
        kept = sorted(shown, key=lambda item: item[0])[: max(3, len(shown) // 3)]
        shown = [
            (run("search", item[2], rung, parent=item[1])[names[0]], len(ledger.trials()) - 1, item[2])
            for item in kept
        ]
    return min(shown, key=lambda item: item[0])[2]


__all__ = ["DEMO", "SPACE", "base_run", "fill", "settings_of"]
