"""Generated against reference curves as metrics, each beside what halves of the reference show."""

from __future__ import annotations

__all__ = ["Halving", "halvings", "pair_metrics"]

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from caloray.evaluation.diphoton.bank import Bank, Candidates
from caloray.evaluation.diphoton.bootstrap import binomial_errors
from caloray.evaluation.diphoton.curve import Curve, trace
from caloray.evaluation.diphoton.readout import Readout
from caloray.evaluation.diphoton.settings import PairSettings
from caloray.evaluation.diphoton.shape import Quantity, Shape, errors_of, separation, shape_of
from caloray.evaluation.metric import FEWEST_PAIRS, Metric, matched
from caloray.evaluation.pairs import matched_pairs

SHARE_OF_PAIRS = 2
CURVES_PER_HALVING = 5
NO_SPREAD = 1e-9

QUANTITIES: dict[str, tuple[str, Quantity]] = {
    "diphoton/d50": ("di-photon d50 [mm]", lambda shape: shape.d50),
    "diphoton/plateau": ("di-photon plateau", lambda shape: shape.plateau),
    "diphoton/false_split": ("one photon seen as two", lambda shape: shape.split),
}


@dataclass(frozen=True, eq=False)
class Halving:
    """The shapes of one halving.

    Args:
        first: Pairs within one half of the reference.
        second: Pairs within the other half.
        generated: Pairs within equally many generated showers.
        across: One photon of either half.
        mixed: One photon of the first half, one generated.
        showers: Candidates of the first half.
    """

    first: Shape
    second: Shape
    generated: Shape
    across: Shape
    mixed: Shape
    showers: int


def halvings(
    bank: Bank,
    reference: Candidates,
    generated: Candidates,
    rates: np.ndarray,
    readout: Readout,
    settings: PairSettings,
    advance: Callable[[int], None] | None = None,
) -> list[Halving]:
    """Curves of random halves of the reference and of equally many generated showers, with half of the pairs.

    Args:
        bank: All showers.
        reference: Reference showers among them.
        generated: Generated showers among them.
        rates: (n,) splits of single showers.
        readout: Of the bank's geometry.
        settings: ``halvings`` says how many.
        advance: Called with the number of pairs done since the last call.
    """
    fewer = settings.model_copy(update={"pairs": settings.pairs // SHARE_OF_PAIRS})
    found = []
    for k, (one, two, new) in enumerate(_parts(reference, generated, settings)):

        def shape(name: str, left: Candidates, right: Candidates, k: int = k) -> Shape:
            ways = [(left.first, right.second), (right.first, left.second)]
            curve = trace(f"half {k}/{name}", bank, ways[: 1 + (left is not right)], readout, fewer, advance)
            return shape_of(curve, rates, left)

        found.append(
            Halving(
                shape("first", one, one),
                shape("second", two, two),
                shape("generated", new, new),
                shape("across", one, two),
                shape("mixed", one, new),
                len(np.union1d(one.first, one.second)),
            )
        )
    return found


def pair_metrics(
    curves: Mapping[str, Curve],
    shapes: Mapping[str, Shape],
    samples: Mapping[str, Sequence[Shape]],
    halves: Sequence[Halving],
    settings: PairSettings,
    showers: tuple[int, int],
) -> list[Metric]:
    """Every difference between the curves as a metric; what cannot be determined is left out.

    Args:
        curves: Keys reference-reference, generated-generated, reference-generated.
        shapes: Theirs.
        samples: The shapes of their bootstrap samples.
        halves: From :func:`halvings`.
        settings: Distances.
        showers: Candidates of reference and generated sample.
    """
    real, new, mixed = ("reference-reference", "generated-generated", "reference-generated")
    common: dict[str, Any] = {
        "showers": showers,
        "pair_showers": int(np.mean([half.showers for half in halves])),
    }
    metrics = []
    for name, key, label, floor_side, matched_side in (
        ("diphoton/delta", new, "di-photon |ΔP| max", "second", "generated"),
        ("diphoton/delta_mixed", mixed, "di-photon |ΔP| max, one photon generated", "across", "mixed"),
    ):
        delta = shapes[key].probability - shapes[real].probability
        worst = int(np.argmax(np.abs(delta)))
        error = difference_errors(curves[key], curves[real], samples[key], samples[real])[worst]
        floors = [_largest(getattr(half, floor_side), half.first) for half in halves]
        values = [_largest(getattr(half, matched_side), half.first) for half in halves]
        metrics.append(
            Metric(
                name,
                label,
                value=float(np.abs(delta[worst])),
                error=float(error),
                settings={"distance_mm": settings.distances[worst], "pairs": settings.pairs},
                **_beside(floors, values),
                **common,
            )
        )
    for name, (label, quantity) in QUANTITIES.items():
        value = separation(quantity, shapes[new], shapes[real])
        floors, values = _both(quantity, halves)
        if value is None or len(floors) < FEWEST_PAIRS:
            continue
        found = {"reference": quantity(shapes[real]), "generated": quantity(shapes[new])}
        error = errors_of(quantity, samples[new], samples[real])
        metrics.append(
            Metric(name, label, value=value, error=error, settings=found, **_beside(floors, values), **common)
        )
    return metrics


def difference_errors(one: Curve, other: Curve, ones: Sequence[Shape], others: Sequence[Shape]) -> np.ndarray:
    """(D,) errors of the difference of two curves; the showers that both use count once."""
    drawn = np.array([a.probability - b.probability for a, b in zip(ones, others, strict=True)])
    binomial = np.hypot(binomial_errors(one), binomial_errors(other))
    return np.asarray(np.maximum(drawn.std(axis=0, ddof=1), binomial))


def _beside(floors: Sequence[float], values: Sequence[float]) -> dict[str, Any]:
    """As ``matched``; a spread that is only rounding counts as none."""
    found = matched(floors, values)
    return found | {"spread": 0.0 if found["spread"] < NO_SPREAD else found["spread"]}


def _both(quantity: Quantity, halves: Sequence[Halving]) -> tuple[list[float], list[float]]:
    """Floors and matched values of the halvings in which both can be determined."""
    pairs = [
        (separation(quantity, half.second, half.first), separation(quantity, half.generated, half.first))
        for half in halves
    ]
    sound = [(floor, value) for floor, value in pairs if floor is not None and value is not None]
    return [floor for floor, _ in sound], [value for _, value in sound]


def _largest(one: Shape, other: Shape) -> float:
    return float(np.abs(one.probability - other.probability).max())


def _parts(
    reference: Candidates, generated: Candidates, settings: PairSettings
) -> list[tuple[Candidates, Candidates, Candidates]]:
    """Rows of two halves of the reference and of as many generated showers.

    Showers of the first window, of the second and of both are divided each for themselves, so that every part
    has its share of them.
    """
    rows: list[list[list[np.ndarray]]] = [[[], [], []] for _ in range(settings.halvings)]
    for old, new in zip(_strata(reference), _strata(generated), strict=True):
        drawn = matched_pairs(len(old), len(new), settings.seed, pairs=settings.halvings)
        for parts, pair in zip(rows, drawn, strict=True):
            for part, chosen in zip(
                parts, (old[pair.first], old[pair.second], new[pair.generated]), strict=True
            ):
                part.append(chosen)
    joined = [[np.concatenate(part) for part in parts] for parts in rows]
    return [(reference.within(a), reference.within(b), generated.within(c)) for a, b, c in joined]


def _strata(candidates: Candidates) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    both = np.intersect1d(candidates.first, candidates.second)
    return both, np.setdiff1d(candidates.first, both), np.setdiff1d(candidates.second, both)
