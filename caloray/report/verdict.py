"""What the numbers say, in words: at the floor, doubtful, off, and the worst first."""

from __future__ import annotations

__all__ = ["CLEAR", "DOUBTFUL", "Judgement", "judge", "verdict"]

from collections.abc import Sequence
from dataclasses import dataclass

from caloray.report.comparison import Comparison, Model
from caloray.report.markup import (
    Html,
    details,
    element,
    join,
    listing,
    number,
    paragraph,
    plus_minus,
    spreads,
)
from caloray.report.words import name_of

DOUBTFUL, CLEAR = 2.0, 5.0
WORST = 5


@dataclass(frozen=True)
class Judgement:
    """One number beside its floor."""

    label: str
    value: float
    floor: float
    spread: float | None
    significance: float | None

    @property
    def text(self) -> str:
        """The numbers for a reader."""
        numbers = f"{number(self.value, 3)} against a floor of {plus_minus(self.floor, self.spread)}"
        by = "" if self.significance is None else f" ({spreads(self.significance)})"
        return f"{self.label}: {numbers}{by}"


def judge(model: Model) -> list[Judgement]:
    """Every metric and separation power of a model that has a floor, worst first."""
    found = [
        Judgement(m["label"], m["matched"], m["floor"], m["spread"], m["significance"])
        for m in model.record.get("metrics") or ()
    ]
    for row in model.record["separations"]:
        if row["separation"] is not None and row["floor"] is not None:
            label = f"separation power of {name_of(row['observable'])}"
            numbers = row["separation"], row["floor"], row["floor_spread"], row["significance"]
            found.append(Judgement(label, *numbers))
    return sorted(found, key=lambda one: -(one.significance if one.significance is not None else -1e300))


def verdict(comparison: Comparison) -> Html:
    """A paragraph and lists for every model."""
    name = comparison.reference_name
    explained = (
        f"A number is called off when it is worse than the floor by {CLEAR:g} or more of the floor's "
        f"spreads, doubtful from {DOUBTFUL:g} on, and at the floor below: then this sample cannot tell the "
        f"model from {name}. The floor is {name} against itself at the same numbers of showers. Of many "
        "numbers some lie beyond two spreads by chance, and more showers see more."
    )
    return join([*(_one(model) for model in comparison.models), paragraph(explained, css="remark")])


def _one(model: Model) -> Html:
    judged = judge(model)
    known = [one for one in judged if one.significance is not None]
    off = [one for one in known if _size(one) >= CLEAR]
    doubtful = [one for one in known if DOUBTFUL <= _size(one) < CLEAR]
    fine = [one for one in known if _size(one) < DOUBTFUL]
    unknown = [one for one in judged if one.significance is None]
    name = element("strong", model.name)
    counted = (
        f": of {len(known)} numbers {len(off)} are off, {len(doubtful)} doubtful, {len(fine)} at the floor."
    )
    if not off and not doubtful:
        counted += " Nothing that was measured tells it from the reference."
    parts = [paragraph(name, counted)]
    if off:
        parts.append(paragraph("Worst first:"))
        parts.append(listing(one.text for one in off[:WORST]))
    parts += [
        _more(f"{len(off) - WORST} more that are off", off[WORST:]),
        _more(f"{len(doubtful)} doubtful", doubtful),
        _more(f"{len(fine)} at the floor", fine),
        _more(f"{len(unknown)} without a spread to judge by", unknown),
    ]
    return join(parts)


def _more(summary: str, found: Sequence[Judgement]) -> Html:
    return details(summary, listing(one.text for one in found)) if found else Html()


def _size(one: Judgement) -> float:
    return one.significance if one.significance is not None else 0.0
