"""What the repetitions of a campaign say: groups of equal settings with other seeds, against the baseline."""

from __future__ import annotations

__all__ = ["chosen", "compared", "confirmed", "no_bundle"]

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from caloray.tuning.confirmation import difference, mean_error
from caloray.tuning.ranking import text_of

Row = Mapping[str, Any]

SELECTED = (
    "Several settings were repeated and the best of them taken, so the {split} split has helped to select: "
    "what it says of this one is too good by a little."
)
LONGER = (
    "{label} trains {epochs} epochs, the baseline {others}: the comparison is not at the same budget, and "
    "part of the difference may be the length of the training."
)


def confirmed(
    rows: Sequence[Row], best: Sequence[Row], split: str, objectives: Sequence[str]
) -> dict[str, Any] | None:
    """Groups of repetitions with the same settings, each compared with the baseline's.

    Args:
        rows: All trials.
        best: Those of the search, the best first; groups stand in this order, and have their numbers.
        split: What the repetitions are to be measured on; others are left out.
        objectives: Names of the objectives.

    Returns:
        ``split``, ``groups`` (the baseline last), ``chosen`` (number of the search's trial whose settings
        have the lowest mean of the first objective; None without any), ``refuted`` (whether those are told to
        be worse than the baseline) and ``remarks``; None where nothing was repeated.
    """
    done = [
        row
        for row in rows
        if row["kind"] == "confirm" and row["status"] == "complete" and row["split"] == split
    ]
    if not done:
        return None
    groups: dict[str, list[Row]] = {}
    for row in done:
        groups.setdefault(text_of(row["assignment"]), []).append(row)
    baseline = groups.pop("{}", [])
    order = {text_of(row["assignment"]): (place, row["number"]) for place, row in enumerate(best)}
    keys = sorted(groups, key=lambda key: order.get(key, (len(best), groups[key][0]["number"])))
    comparisons = len(keys) * len(objectives)
    described = []
    for key in keys:
        number = order[key][1] if key in order else groups[key][0]["number"]
        described.append(_group(f"trial {number}", number, groups[key], baseline, objectives, comparisons))
    if baseline:
        described.append(_group("baseline", None, baseline, [], objectives, comparisons))
    found: dict[str, Any] = {"split": split, "groups": described, "chosen": None, "refuted": False}
    known = [group for group in described if group["trial"] is not None]
    if known:
        most = max(len(group["seeds"]) for group in known)
        repeated = [group for group in known if len(group["seeds"]) == most]
        lowest = min(repeated, key=lambda group: float(group["objectives"][objectives[0]]["mean"]))
        found |= {"chosen": lowest["trial"], "refuted": _worse(lowest)}
    return found | {"remarks": _remarks(known, baseline, split)}


def chosen(confirm: Mapping[str, Any] | None, best: int | None) -> int | None:
    """The trial whose settings the campaign ends with: of the repeated ones the best mean, else the best."""
    return best if confirm is None or confirm["chosen"] is None else int(confirm["chosen"])


def no_bundle(summary: Mapping[str, Any]) -> str:
    """Why the settings that a campaign ends with are not worth a bundle; "" where they are.

    Args:
        summary: ``confirm`` and ``unbeaten`` of :func:`caloray.tuning.summary.summarise`.
    """
    confirm = summary["confirm"]
    if confirm is not None and confirm["refuted"]:
        return "the repetitions say that the run config itself is better"
    if summary["unbeaten"] and not compared(confirm):
        return "the run config itself was at least as good, and nothing was repeated"
    return ""


def compared(confirm: Mapping[str, Any] | None) -> bool:
    """Whether there are repetitions of the baseline and of something else."""
    groups = [] if confirm is None else confirm["groups"]
    return any(one["difference"] for group in groups for one in group["objectives"].values())


def _group(
    label: str,
    trial: int | None,
    rows: Sequence[Row],
    baseline: Sequence[Row],
    objectives: Sequence[str],
    compared: int,
) -> dict[str, Any]:
    return {
        "label": label,
        "baseline": trial is None,
        "trial": trial,
        "assignment": rows[0]["assignment"],
        "epochs": rows[0]["epochs"],
        "trained": _counted(rows[0]["epochs"]),
        "trials": [row["number"] for row in rows],
        "seeds": [row["seed"] for row in rows],
        "objectives": {name: _compared(rows, baseline, name, compared) for name in objectives},
    }


def _compared(rows: Sequence[Row], baseline: Sequence[Row], name: str, compared: int) -> dict[str, Any]:
    values = {int(row["seed"]): float(row["values"][name]) for row in rows}
    mean, error = mean_error(list(values.values()))
    found: dict[str, Any] = {
        "values": list(values.values()),
        "mean": mean,
        "error": error,
        "difference": None,
    }
    if baseline:
        others = {int(row["seed"]): float(row["values"][name]) for row in baseline}
        found["difference"] = asdict(difference(values, others, compared))
    return found


def _worse(group: Mapping[str, Any]) -> bool:
    """Told to be worse in the first objective, or in another where none is better; and better in nothing."""
    found = [one["difference"] for one in group["objectives"].values() if one["difference"]]
    told = [one["value"] for one in found if one["told"]]
    if not any(value > 0 for value in told) or any(value < 0 for value in told):
        return False
    first = found[0]
    return (first["told"] and first["value"] > 0) or all(one["value"] >= 0 for one in found)


def _remarks(groups: Sequence[Mapping[str, Any]], baseline: Sequence[Row], split: str) -> list[str]:
    found = [SELECTED.format(split=split)] if len(groups) > 1 else []
    for group in groups:
        if baseline and group["epochs"] != baseline[0]["epochs"]:
            epochs, others = (_counted(one["epochs"]) for one in (group, baseline[0]))
            label = group["label"].capitalize()
            found.append(LONGER.format(label=label, epochs=epochs, others=others))
    return found


def _counted(epochs: Mapping[str, int]) -> str:
    """Epochs of the components, once where all have the same."""
    counts = list(epochs.values())
    return " + ".join(map(str, counts[:1] if len(set(counts)) == 1 else counts))
