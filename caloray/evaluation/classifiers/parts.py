"""Which showers train a classifier, which choose its epoch and calibrate it, which judge it; its answers."""

from __future__ import annotations

__all__ = ["Epochs", "Part", "Parts", "Trained", "split_weights", "take_parts"]

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from caloray.geometry import Geometry
from caloray.rng import StreamKey

# Relative sizes in CaloChallenge's evaluate.py, by number of voxels (dataset 1 photons and pions).
WEIGHTS = {368: (80, 20, 21), 533: (800, 200, 208)}
USUAL = (60, 20, 20)

Epochs = Callable[[int], None]


@dataclass(frozen=True)
class Part:
    """Some showers.

    Args:
        rows: (n,) row numbers of an :class:`InputTable`.
        labels: (n,) 1 for Geant4, 0 for generated.
    """

    rows: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Parts:
    """The three disjoint parts of one training."""

    train: Part
    test: Part
    final: Part


@dataclass(frozen=True)
class Trained:
    """What a trained classifier says.

    Args:
        test: (n,) probabilities of label 1 of the second part.
        final: (n,) of the third part.
        epochs: Epochs (or trees) that were made.
        best_epoch: The one that was kept, from 1.
    """

    test: np.ndarray
    final: np.ndarray
    epochs: int
    best_epoch: int


def split_weights(geometry: Geometry, chosen: tuple[int, int, int] | None) -> tuple[int, int, int]:
    """Relative sizes of the parts: the chosen ones, or the challenge's for this readout."""
    if chosen is not None:
        return chosen
    return WEIGHTS.get(geometry.n_voxels, USUAL) if geometry.kind == "cylindrical" else USUAL


def take_parts(
    positive: np.ndarray, negative: np.ndarray, weights: tuple[int, int, int], key: StreamKey
) -> Parts:
    """Shuffle either class, trim the larger one and cut both alike.

    Args:
        positive: Rows with label 1.
        negative: Rows with label 0.
        weights: Relative sizes of the parts; the first two are rounded down.
        key: Stream of the shuffles.
    """
    generator = key.generator()
    n = min(len(positive), len(negative))
    classes = [generator.permutation(rows)[:n] for rows in (positive, negative)]
    ends = np.cumsum([n * weight // sum(weights) for weight in weights[:2]])
    cut = [np.split(rows, ends) for rows in classes]
    parts = []
    for ones, zeros in zip(*cut, strict=True):
        rows = np.concatenate([ones, zeros])
        labels = np.repeat([1.0, 0.0], [len(ones), len(zeros)])
        parts.append(Part(rows, labels))
    return Parts(*parts)
