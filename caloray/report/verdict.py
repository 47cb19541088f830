"""What the numbers say, in words: clearly off, to be watched, at the floor, and the worst first."""

from __future__ import annotations

__all__ = ["Judgement", "judge", "verdict"]

from collections.abc import Sequence
from dataclasses import dataclass

from caloray.evaluation.limits import CLEAR, DOUBTFUL, INPUTS, Standing, expected_by_chance, standing
from caloray.report.comparison import Comparison, Model, Record
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
    """Every metric, separation power and χ²/NDF of a model that has a floor, worst first; no inputs."""
    found = [
        Judgement(m["label"], m["matched"], m["floor"], m["spread"], m["significance"])
        for m in model.record.get("metrics") or ()
    ]
    names = {m["name"] for m in model.record.get("metrics") or ()}
    for row in model.record["separations"]:
        if row["observable"] in INPUTS:
            continue
        if row["separation"] is not None and row["floor"] is not None:
            label = f"separation power of {name_of(row['observable'])}"
            numbers = row["separation"], row["floor"], row["floor_spread"], row["significance"]
            found.append(Judgement(label, *numbers))
        if row.get("chi2_significance") is not None and f"chi2/{row['observable']}" not in names:
            found.append(_chi2(row))
    return sorted(found, key=lambda one: -(one.significance if one.significance is not None else -1e300))


def _chi2(row: Record) -> Judgement:
    label = f"χ²/NDF of {name_of(row['observable'])}"
    keys = "chi2_per_ndf", "chi2_floor", "chi2_floor_spread", "chi2_significance"
    return Judgement(label, *(row[key] for key in keys))


def verdict(comparison: Comparison) -> Html:
    """A paragraph and lists for every model."""
    name = comparison.reference_name
    explained = (
        f"The floor is {name} against itself, its spread how far that number scatters. Below {DOUBTFUL:g} "
        f"spreads: at the floor, this sample cannot tell the model from {name}. Above {CLEAR:g}: clearly "
        "off. "
        f"Between: to be watched. {CLEAR:g} or more spreads on the good side of the floor are suspicious as "
        "well. More showers see more. Incident energies are an input and not counted."
    )
    return join([*(_one(model, name) for model in comparison.models), paragraph(explained, css="remark")])


def _one(model: Model, reference: str) -> Html:
    judged = judge(model)
    found = {one: [j for j in judged if standing(j.significance) is one] for one in (*Standing, None)}
    known = len(judged) - len(found[None])
    off, suspicious = found[Standing.OFF], found[Standing.SUSPICIOUS][::-1]
    counts = [f"{len(found[one])} {one.value}" for one in Standing if one is not Standing.SUSPICIOUS]
    if suspicious:
        counts.append(f"{len(suspicious)} {Standing.SUSPICIOUS.value}")
    text = f": of {known} numbers {', '.join(counts)}."
    if known and len(found[Standing.FLOOR]) == known:
        text += f" Nothing that was measured tells it from {reference}."
    parts = [paragraph(element("strong", model.name), text)]
    if suspicious:
        parts += [paragraph(_suspicion(len(suspicious), reference), css="warning")]
        parts.append(listing(one.text for one in suspicious[:WORST]))
        parts.append(_more(f"{len(suspicious) - WORST} more below the floor", suspicious[WORST:]))
    if off:
        parts += [paragraph("Worst first:"), listing(one.text for one in off[:WORST])]
    parts += [
        _more(f"{len(off) - WORST} more that are {Standing.OFF.value}", off[WORST:]),
        *(_more(f"{len(found[one])} {one.value}", found[one]) for one in (Standing.WATCHED, Standing.FLOOR)),
        _more(f"{len(found[None])} without a spread to judge by", found[None]),
        paragraph(_chance(known), css="remark"),
    ]
    return join(parts)


def _suspicion(count: int, reference: str) -> str:
    which = "One number lies" if count == 1 else f"{count} numbers lie"
    return (
        f"{which} {CLEAR:g} or more spreads on the good side of the floor, nearer to {reference} than "
        f"{reference} is to itself. No independent sample should: do both sides share showers, were these "
        "showers copied, or is the same file on both sides? (Precision and density alone also rise when a "
        "model makes showers that are too alike.)"
    )


def _chance(known: int) -> str:
    beyond, largest = expected_by_chance(known)
    return (
        f"Of {known} numbers that were independent and normal, about {number(beyond, 2)} would lie beyond "
        f"+{DOUBTFUL:g} spreads by chance and the largest near +{number(largest, 2)}; many of these go "
        "together and so come in groups, and spreads from a few pairs are uncertain, which makes both "
        "somewhat larger."
    )


def _more(summary: str, found: Sequence[Judgement]) -> Html:
    return details(summary, listing(one.text for one in found)) if found else Html()
