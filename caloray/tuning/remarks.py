"""What a reader of a campaign's result must know besides its numbers, in sentences."""

from __future__ import annotations

__all__ = ["OVER", "remarks_on"]

from collections.abc import Iterator, Mapping
from typing import Any

from caloray.tuning.space import Parameter

OVER = "the hours of the budget were over; with more of them the same command goes on with it"
"""Reason of a trial of the search that has no result and gets none."""

REFUTED = "DO NOT USE: the repetitions say that the run config itself is better than what was found."
UNBEATEN = "The run config itself, trained once, was at least as good as the best trial of the search."
CUT = (
    "The search ended with the hours of its budget: {count} of its trials {were} not finished. With more of "
    "them the same command goes on."
)
ALONE = "Nothing was repeated with other seeds: whether this is a gain or luck is not known."
MISSING = (
    "The best settings and the baseline have not both been repeated: whether this is a gain or luck is not "
    "known."
)
AT_THE_END = "Found at the end of the searched range, beyond which there may be better values: {names}."
NEAR = 0.04
"""Share of a range that counts as its end."""


def remarks_on(
    summary: Mapping[str, Any], space: Mapping[str, Parameter], *, compared: bool
) -> Iterator[str]:
    """Sentences about the result as a whole.

    Args:
        summary: ``chosen``, ``unbeaten``, ``trials`` and ``confirm`` of
            :func:`caloray.tuning.summary.summarise`.
        space: What was searched.
        compared: Whether there are repetitions of the best settings and of the baseline.
    """
    if summary["chosen"] is None:
        return
    if summary["confirm"] is not None and summary["confirm"]["refuted"]:
        yield REFUTED
    if summary["unbeaten"]:
        yield UNBEATEN
    count = sum(trial.get("reason") == OVER for trial in summary["trials"])
    if count:
        yield CUT.format(count=count, were="was" if count == 1 else "were")
    best = next(trial for trial in summary["trials"] if trial["number"] == summary["chosen"])
    ends = [
        name
        for name in space
        if name in best["assignment"] and _at_an_end(space[name], best["assignment"][name])
    ]
    if ends:
        yield AT_THE_END.format(names=", ".join(ends))
    if not compared:
        yield ALONE if summary["confirm"] is None else MISSING


def _at_an_end(parameter: Parameter, value: Any) -> bool:
    """Whether a number lies in the outermost part of its range, or is its first or last."""
    if parameter.kind == "choice":
        return False
    place = parameter.unit(value)
    return value in parameter.ends or not NEAR < place < 1 - NEAR
