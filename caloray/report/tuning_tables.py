"""Tables and sentences about a tuning campaign."""

from __future__ import annotations

__all__ = ["confirm_table", "failures_table", "pareto_table", "searched_table", "trials_table", "verdict"]

import math
from collections.abc import Iterator, Mapping
from typing import Any

from caloray.report.markup import Html, details, element, join, number, paragraph, plus_minus, table
from caloray.report.tuning_view import Campaign, Objective, Record, text_of

DIGITS = 5
RANGES = {True: "logarithmic", False: "uniform"}
STATUS = {
    "pruned": "the training came to nothing",
    "failed": "the process died too often, or an unexpected error",
    "stopped": "the limit of a trial's time or memory",
    "open": "not finished",
}
SHORT = (
    "No trial that the search has suggested has had the full budget yet; what follows is from shorter "
    "trainings, which cannot be compared with the baseline."
)
LAST_GENERATION = (
    "The best settings are the constant values of the last generation; trained from scratch, the changes on "
    "the way are not repeated."
)
LENGTH = (
    "This is at {epochs} epochs: a baseline that was made for longer trainings is not at its best there, and "
    "what is best there need not be best in a longer training."
)


def verdict(campaign: Campaign) -> Html:
    """What was found, in sentences."""
    record = campaign.record
    best = next((trial for trial in record["trials"] if trial["number"] == record["best"]), None)
    if best is None:
        return paragraph("No trial is complete yet.", css="warning")
    parts = [] if best["full"] else [paragraph(SHORT, css="warning")]
    parts += [_found(campaign, best, objective) for objective in campaign.objectives]
    if record["fidelity"]["kind"] == "pbt":
        parts.append(paragraph(LAST_GENERATION))
    parts += [paragraph(remark, css="warning") for remark in record["remarks"]]
    return join([*parts, *(_confirmed(campaign) if record["confirm"] else ())])


def _found(campaign: Campaign, best: Record, objective: Objective) -> Html:
    """The best against the baseline, one training each."""
    first = campaign.objectives[0].short
    which = (
        "Best trial"
        if len(campaign.objectives) == 1
        else f"Of the trials that no other of the search beats, that with the lowest {first}: trial"
    )
    text = f"{which} {best['number']}: {objective.label} {_shown(best['values'][objective.name])}"
    if campaign.baseline is not None and best["full"]:
        other = _shown(campaign.baseline["values"][objective.name])
        text += f", baseline {other} (validation split, one training each)"
    return paragraph(f"{text}.")


def _confirmed(campaign: Campaign) -> Iterator[Html]:
    """What the repetitions say."""
    confirm = campaign.record["confirm"]
    if campaign.record["chosen"] != campaign.record["best"]:
        yield paragraph(f"The settings of trial {campaign.record['chosen']} have the best mean.")
    for group in confirm["groups"]:
        for objective in campaign.objectives:
            found = group["objectives"][objective.name]["difference"]
            if found:
                change = plus_minus(found["value"], found["error"])
                text = f"{group['label']} − baseline, {objective.label}, {confirm['split']} split: {change}. "
                yield element("p", text, element("strong", found["words"]))
    gained = [group for group in confirm["groups"] if _gained(group)]
    if gained:
        yield paragraph(LENGTH.format(epochs=gained[0]["trained"]), css="remark")
    for remark in confirm["remarks"]:
        yield paragraph(remark, css="warning")


def _gained(group: Record) -> bool:
    """Told to be better than the baseline in something."""
    found = [one["difference"] for one in group["objectives"].values() if one["difference"]]
    return any(one["told"] and one["value"] < 0 for one in found)


def confirm_table(campaign: Campaign) -> Html:
    """Means of the repetitions, differences to the baseline, and the tests."""
    head = [
        "settings",
        "epochs",
        "objective",
        "repetitions",
        "mean",
        "− baseline",
        "seed by seed",
        "Welch's t",
        "p",
    ]
    rows = []
    for group in campaign.record["confirm"]["groups"]:
        for objective in campaign.objectives:
            found = group["objectives"][objective.name]
            seeds = f"{len(found['values'])} (seeds {', '.join(map(str, group['seeds']))})"
            mean = plus_minus(found["mean"], found["error"])
            epochs = group["trained"]
            told = _tests(found["difference"])
            rows.append([group["label"], epochs, objective.short, seeds, mean, *told])
    split = campaign.record["confirm"]["split"]
    caption = f"Repetitions at the full budget, {split} split; errors are standard errors over the seeds"
    return table(head, rows, caption)


def _tests(found: Mapping[str, Any] | None) -> list[str]:
    if not found:
        return ["–"] * 4
    paired = found["paired"]
    seed = "–" if paired is None else f"{plus_minus(paired[0], paired[1])} ({paired[2]} pairs)"
    statistic = "–" if found["t"] is None else f"{number(found['t'], 3)} ({number(found['dof'], 2)} d.o.f.)"
    return [plus_minus(found["value"], found["error"]), seed, statistic, number(found["p"], 2)]


def searched_table(campaign: Campaign) -> Html:
    """The space, the searcher, the budget."""
    record = campaign.record
    trials = {trial["number"]: trial for trial in record["trials"]}
    best = trials.get(record["chosen"], {"assignment": {}})["assignment"]
    rows = []
    for parameter in campaign.parameters:
        name = parameter["name"]
        found = text_of(best[name]) if name in best else "–"
        before = "–" if parameter["baseline"] is None else text_of(parameter["baseline"])
        rows.append([element("code", name), _range(parameter), before, found])
    facts = [["search", _settings(record["search"])], ["fidelity", _settings(record["fidelity"])]]
    facts += [["budget", text] for text in _budget(record["budget"])]
    return join(
        [table(["field of the run config", "range", "baseline", "best"], rows), table(["", ""], facts)]
    )


def _range(parameter: Record) -> str:
    if parameter["choices"]:
        return " | ".join(text_of(choice) for choice in parameter["choices"])
    kind = ("integers, " if parameter["whole"] else "") + RANGES[bool(parameter["log"])]
    return f"{text_of(parameter['low'])} to {text_of(parameter['high'])}, {kind}"


def _settings(section: Record) -> str:
    others = ", ".join(f"{key} {text_of(value)}" for key, value in section.items() if key != "kind")
    return f"{section['kind']}{f' ({others})' if others else ''}"


def _budget(budget: Record) -> Iterator[str]:
    for key, word in (("trials", "configurations"), ("hours", "hours"), ("gpu_hours", "GPU hours")):
        used, limit = budget[key]["used"], budget[key]["limit"]
        if used or limit is not None:
            asked = "" if limit is None else f" of {limit:g}"
            yield f"{used:.3g}{asked} {word}"
    yield f"{budget['cpu_hours']:.3g} CPU hours"


def pareto_table(campaign: Campaign) -> Html:
    """The trials that no other beats in all objectives, with their settings."""
    trials = {trial["number"]: trial for trial in campaign.record["trials"]}
    head = ["trial", *(objective.label for objective in campaign.objectives), *_names(campaign)]
    rows = [
        [_title(trials[i]), *_values(campaign.objectives, trials[i]), *_assigned(campaign, trials[i])]
        for i in campaign.record["pareto"]
    ]
    return table(head, rows, "Pareto front")


def failures_table(campaign: Campaign) -> Html:
    """Pruned, failed, stopped and unfinished trials with their reasons; nothing where there are none."""
    lost = [trial for trial in campaign.record["trials"] if trial["status"] != "complete"]
    rows = [
        [
            trial["number"],
            trial["status"],
            trial.get("reason") or STATUS.get(trial["status"], ""),
            trial.get("attempts", "–"),
            element("code", _written(campaign, trial)),
        ]
        for trial in lost
    ]
    return table(["trial", "status", "reason", "attempts", "settings"], rows) if rows else Html("")


def _written(campaign: Campaign, trial: Record) -> str:
    return ", ".join(f"{campaign.labels.get(k, k)} {text_of(v)}" for k, v in trial["assignment"].items())


def trials_table(campaign: Campaign) -> Html:
    """Every trial, folded away."""
    objectives = campaign.objectives
    head = ["trial", "status", "trained", *(one.short for one in objectives), *_names(campaign), "CPU min"]
    rows = [
        [
            _title(trial),
            trial["status"],
            trial["level"],
            *_values(objectives, trial),
            *_assigned(campaign, trial),
            _minutes(trial),
        ]
        for trial in campaign.record["trials"]
    ]
    return details(f"{len(rows)} trials", table(head, rows)) if rows else Html("")


def _title(trial: Record) -> str:
    kind = "" if trial["kind"] == "search" else f" ({trial['kind']}, seed {trial['seed']})"
    parent = "" if trial["parent"] is None else f" from {trial['parent']}"
    return f"{trial['number']}{kind}{parent}"


def _minutes(trial: Record) -> str:
    return number(trial["cpu_seconds"] / 60, 3) if "cpu_seconds" in trial else "–"


def _names(campaign: Campaign) -> list[str]:
    return [campaign.labels[str(parameter["name"])] for parameter in campaign.parameters]


def _values(objectives: list[Objective], trial: Record) -> list[str]:
    return [_shown(trial["values"].get(objective.name)) for objective in objectives]


def _assigned(campaign: Campaign, trial: Record) -> list[str]:
    names = [parameter["name"] for parameter in campaign.parameters]
    return [text_of(trial["assignment"][name]) if name in trial["assignment"] else "–" for name in names]


def _shown(value: float | None) -> str:
    return number(value, DIGITS) if value is not None and math.isfinite(value) else "–"
