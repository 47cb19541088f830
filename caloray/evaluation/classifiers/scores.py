"""From a classifier's answers to AUC, JSD, ROC and calibration curve."""

from __future__ import annotations

__all__ = ["Scores", "auc_error", "mean_roc", "reliability", "score"]

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from caloray.evaluation.classifiers.parts import Parts, Trained

CLIP = 1e-6
BINS = 10
ROC_POINTS = 101


@dataclass(frozen=True)
class Scores:
    """Of one training, on the third part.

    Args:
        auc: Area under the ROC curve after the calibration.
        auc_raw: The same before it.
        jsd: 1 - BCE / ln 2 after the calibration, an estimate of the Jensen-Shannon divergence in bits.
        auc_error: Statistical error of ``auc``.
        jsd_error: Statistical error of ``jsd``, from the scatter of the loss from shower to shower.
        labels: (n,) of the part.
        raw: (n,) probabilities before the calibration.
        calibrated: (n,) probabilities after it.
    """

    auc: float
    auc_raw: float
    jsd: float
    auc_error: float
    jsd_error: float
    labels: np.ndarray
    raw: np.ndarray
    calibrated: np.ndarray


def score(trained: Trained, parts: Parts) -> Scores:
    """Calibrate on the second part, judge on the third.

    Isotonic regression, clipped to [1e-6, 1 - 1e-6], as in the CaloChallenge (arXiv:2410.21611, sec. 4). Ties
    in its result count half in the AUC, which may differ a little from the one without calibration.
    """
    from sklearn.isotonic import IsotonicRegression
    from sklearn.metrics import roc_auc_score

    fit = IsotonicRegression(out_of_bounds="clip", y_min=CLIP, y_max=1 - CLIP)
    fit.fit(trained.test, parts.test.labels)
    labels, calibrated = parts.final.labels, np.asarray(fit.predict(trained.final))
    losses = -np.log2(np.where(labels > 0.5, calibrated, 1 - calibrated))
    return Scores(
        auc=float(roc_auc_score(labels, calibrated)),
        auc_raw=float(roc_auc_score(labels, trained.final)),
        jsd=float(1 - losses.mean()),
        auc_error=auc_error(labels, calibrated),
        jsd_error=float(losses.std(ddof=1) / np.sqrt(len(losses))),
        labels=labels,
        raw=trained.final,
        calibrated=calibrated,
    )


def auc_error(labels: np.ndarray, found: np.ndarray) -> float:
    """Statistical standard deviation of the AUC of (n,) answers, ties included.

    DeLong, DeLong and Clarke-Pearson, Biometrics 44 (1988) 837, with the ranks of Sun and Xu, IEEE Signal
    Process. Lett. 21 (2014) 1389.
    """
    from scipy.stats import rankdata

    ranks = rankdata(found)
    sides = [labels > 0.5, labels < 0.5]
    variance = 0.0
    for side, other in (sides, sides[::-1]):
        placements = (ranks[side] - rankdata(found[side])) / np.count_nonzero(other)
        variance += placements.var(ddof=1) / len(placements)
    return float(np.sqrt(variance))


def mean_roc(scores: Sequence[Scores]) -> dict[str, list[float]]:
    """ROC curve before the calibration (which only adds ties), averaged over trainings at fixed fpr."""
    from sklearn.metrics import roc_curve

    grid = np.linspace(0.0, 1.0, ROC_POINTS)
    curves = []
    for one in scores:
        fpr, tpr, _ = roc_curve(one.labels, one.raw)
        curves.append(np.interp(grid, fpr, tpr))
    mean = np.mean(curves, axis=0)
    mean[0] = 0.0
    return {"fpr": grid.tolist(), "tpr": mean.tolist()}


def reliability(scores: Sequence[Scores], *, calibrated: bool = True) -> dict[str, list[float] | list[int]]:
    """Mean probability, observed share of label 1 and count in ten equal bins, all trainings together.

    Bins without entries are left out.
    """
    found = np.concatenate([one.calibrated if calibrated else one.raw for one in scores])
    labels = np.concatenate([one.labels for one in scores])
    bins = np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], found)
    counts = np.bincount(bins, minlength=BINS)
    filled = counts > 0
    predicted = np.bincount(bins, found, minlength=BINS)[filled] / counts[filled]
    observed = np.bincount(bins, labels, minlength=BINS)[filled] / counts[filled]
    return {
        "predicted": predicted.tolist(),
        "observed": observed.tolist(),
        "counts": counts[filled].tolist(),
    }
