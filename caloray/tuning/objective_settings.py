"""What a campaign minimises, as it stands in its file."""

from __future__ import annotations

__all__ = [
    "MetricObjective",
    "NLLObjective",
    "Objective",
    "SingleObjective",
    "TimeObjective",
    "WeightedObjective",
]

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from caloray.config import Section
from caloray.config.reading import did_you_mean

WHOLE = (
    "fpd",
    "kpd",
    "correlation",
    "auc/high/trees",
    "jsd/high/trees",
    "separation_mean",
    "prdc/precision",
    "prdc/recall",
    "prdc/density",
    "prdc/coverage",
)
SHORT = {"separation": "separation_mean", "auc_trees": "auc/high/trees"}
FAMILIES = ("separation/", "wasserstein/", "chi2/")


class NLLObjective(Section):
    """Negative log-likelihood of validation showers in bits per dimension, preprocessing included.

    Args:
        kind: "nll".
        rows: Rows of each component that are scored, at most.
    """

    kind: Literal["nll"]
    rows: int = Field(20_000, ge=10)

    @property
    def name(self) -> str:
        """Key in a trial's objectives."""
        return "nll_bits_per_dim"


class TimeObjective(Section):
    """Time to draw one shower.

    Args:
        kind: "ms_per_shower".
        batch: Showers at a time.
    """

    kind: Literal["ms_per_shower"]
    batch: int = Field(100, ge=1)

    @property
    def name(self) -> str:
        """Key in a trial's objectives."""
        return "ms_per_shower"


class MetricObjective(Section):
    """A metric of the evaluation, on showers that the trial's model makes.

    Args:
        kind: "metric".
        name: As in results.json: "fpd", "kpd", "auc/high/trees", "separation/e_ratio", ...; "separation_mean"
            is the mean separation power over all observables. Short: "separation", "auc_trees".
        showers: How many are made.
        bundle: Trained model that gives the components which the campaign does not train; None where it
            trains all of them.
        seed: Seed of the showers.
    """

    kind: Literal["metric"]
    name: str
    showers: int = Field(2000, ge=100)
    bundle: Path | None = None
    seed: int = Field(0, ge=0, lt=2**63)

    @field_validator("name")
    @classmethod
    def _known(cls, value: str) -> str:
        value = SHORT.get(value, value)
        named = any(value.startswith(family) and len(value) > len(family) for family in FAMILIES)
        if value not in WHOLE and not named:
            known = [*WHOLE, *SHORT, "separation/e_ratio", "wasserstein/e_ratio", "chi2/e_ratio"]
            raise ValueError(f"no metric of the evaluation is called that{did_you_mean(value, known)}")
        return value


SingleObjective = Annotated[NLLObjective | TimeObjective | MetricObjective, Field(discriminator="kind")]


class WeightedTerm(Section):
    """One term of a weighted sum.

    Args:
        weight: Its factor.
        of: What is weighted.
    """

    weight: float = Field(gt=0)
    of: SingleObjective


class WeightedObjective(Section):
    """A weighted sum of objectives.

    Args:
        kind: "weighted".
        terms: What is summed.
    """

    kind: Literal["weighted"]
    terms: tuple[WeightedTerm, ...] = Field(min_length=1)

    @field_validator("terms")
    @classmethod
    def _each_once(cls, value: tuple[WeightedTerm, ...]) -> tuple[WeightedTerm, ...]:
        names = [term.of.name for term in value]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"{name} stands twice among the terms")
        return value

    @property
    def name(self) -> str:
        """Key in a trial's objectives."""
        return "weighted"


Objective = Annotated[
    NLLObjective | TimeObjective | MetricObjective | WeightedObjective, Field(discriminator="kind")
]
