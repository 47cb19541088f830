"""One number of an evaluation, together with what makes it readable: error, floor, significance, sizes."""

from __future__ import annotations

__all__ = ["Direction", "Metric", "matched"]

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from caloray.errors import NumericalError

Direction = Literal["lower", "higher"]

FEWEST_PAIRS = 3
ROUNDING = 1e-13


@dataclass(frozen=True)
class Metric:
    """A distance or score between generated and reference showers.

    The floor is the same quantity between two disjoint parts of the reference. Many metrics depend on the
    number of showers, so ``matched`` repeats the metric between generated and reference showers at the
    floor's sample size: the significance compares these two.

    Args:
        name: Stable key ("fpd", "kpd", "auc/high/trees", "wasserstein/width_r", ...).
        label: For a reader.
        value: With all showers that the metric may use.
        floor: Mean over the reference-reference pairs.
        spread: How far ``matched`` would scatter around the floor if both samples were of one distribution:
            the floor's standard deviation from pair to pair, which is a little too large (``matched`` is a
            mean over pairs that share showers) and so never cries wolf, or what the metric derives itself.
        matched: Mean over generated-reference pairs of the floor's size.
        showers: Reference and generated showers behind ``value``.
        pair_showers: Showers on either side of a pair.
        pairs: Number of pairs.
        error: Uncertainty of ``value`` as the metric itself states it, None where it states none.
        better: "lower" for a distance, "higher" for coverage and its like.
        comparable: Whether the metric's own protocol and sizes are the challenge's; with other data the
            evaluation clears it, see :func:`caloray.evaluation.published.data_reasons`.
        settings: What else decides the number (rows, batch, seeds, epochs, ...).
        note: One line for the reader, where there is something to know.
    """

    name: str
    label: str
    value: float
    floor: float
    spread: float
    matched: float
    showers: tuple[int, int]
    pair_showers: int
    pairs: int
    error: float | None = None
    better: Direction = "lower"
    comparable: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""

    def __post_init__(self) -> None:
        """Refuse numbers that no one could read."""
        numbers = (self.value, self.floor, self.spread, self.matched)
        if not all(math.isfinite(number) for number in numbers):
            raise NumericalError(
                f"metric {self.name}: value, floor, spread and matched value are {numbers}, expected numbers",
                hint="look for absurd showers in the input; `caloray data inspect` shows its ranges",
            )

    @property
    def significance(self) -> float | None:
        """By how many spreads of the floor the matched value is worse than the floor."""
        if self.spread <= 0:
            return None
        sign = 1.0 if self.better == "lower" else -1.0
        return sign * (self.matched - self.floor) / self.spread

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, the significance among them."""
        record = asdict(self)
        record["settings"] = dict(self.settings)
        record["showers"] = list(self.showers)
        return record | {"significance": self.significance}


def matched(floors: Sequence[float], values: Sequence[float]) -> dict[str, Any]:
    """Floor, spread, matched value and number of pairs of a :class:`Metric`, as keyword arguments.

    Args:
        floors: The metric of each reference-reference pair.
        values: The metric of each generated-reference pair of the same size.

    Raises:
        NumericalError: Fewer than three pairs, which give no spread worth the name.
    """
    if len(floors) < FEWEST_PAIRS or len(floors) != len(values):
        raise NumericalError(
            f"{len(floors)} floor and {len(values)} matched values, expected at least {FEWEST_PAIRS} of each",
            hint="raise the number of pairs",
        )
    spread = float(np.std(floors, ddof=1))
    rounding = ROUNDING * float(np.max(np.abs(floors)))
    return {
        "floor": float(np.mean(floors)),
        "spread": spread if spread > rounding else 0.0,
        "matched": float(np.mean(values)),
        "pairs": len(floors),
    }
