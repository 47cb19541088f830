"""What an evaluation measures beyond the histograms, and how much of it."""

from __future__ import annotations

__all__ = ["QUICK", "ClassifierChoice", "MetricSettings"]

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

ClassifierChoice = Literal["none", "trees", "laptop", "official"]


class MetricSettings(BaseModel):
    """Which metrics are computed.

    Args:
        pairs: Reference-reference pairs behind each floor.
        distances: FPD, KPD and Wasserstein distances of the high-level features.
        manifold: Showers per side for precision, recall, density and coverage of the voxels; 0 leaves them
            out.
        classifiers: "trees" trains gradient-boosted trees on the high-level features; "laptop" adds small
            networks on all inputs, not comparable with published numbers; "official" the CaloChallenge's.
        device: Where the networks are trained.
        most: Showers of either sample that the metrics on features may keep in memory.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    pairs: int = Field(10, ge=3, le=100)
    distances: bool = True
    manifold: int = Field(2000, ge=0)
    classifiers: ClassifierChoice = "trees"
    device: str = "cpu"
    most: int = Field(200_000, ge=100)


QUICK = MetricSettings(distances=False, manifold=0, classifiers="none")
"""Histograms and means only."""
