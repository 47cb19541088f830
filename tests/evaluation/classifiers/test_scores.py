"""AUC, JSD, calibration and their errors, against definitions written out."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from caloray.evaluation.classifiers.parts import Part, Parts, Trained
from caloray.evaluation.classifiers.scores import auc_error, mean_roc, reliability, score


def problem(n: int, seed: int, power: float = 1.0):
    generator = np.random.default_rng(seed)
    labels = np.repeat([1.0, 0.0], n)
    found = [1 / (1 + np.exp(-(power * labels + generator.normal(size=2 * n)))) for _ in range(2)]
    part = Part(np.arange(2 * n), labels)
    return Trained(found[0], found[1], 1, 1), Parts(part, part, part)


def mann_whitney(labels, found):
    difference = found[labels > 0.5][:, None] - found[labels < 0.5][None, :]
    return np.mean((difference > 0) + 0.5 * (difference == 0))


def pool_adjacent_violators(x, y, at):
    """Isotonic regression of y on x, linear between the points, constant outside."""
    order = np.argsort(x)
    blocks: list[list[float]] = []
    for value in y[order]:
        blocks.append([value, 1.0])
        while len(blocks) > 1 and blocks[-2][0] >= blocks[-1][0]:
            (a, n), (b, m) = blocks[-2:]
            blocks[-2:] = [[(a * n + b * m) / (n + m), n + m]]
    fitted = np.concatenate([np.full(int(n), a) for a, n in blocks])
    return np.interp(at, x[order], np.clip(fitted, 1e-6, 1 - 1e-6))


def test_definitions() -> None:
    trained, parts = problem(150, 1)
    found = score(trained, parts)
    calibrated = pool_adjacent_violators(trained.test, parts.test.labels, trained.final)
    np.testing.assert_allclose(found.calibrated, calibrated, rtol=1e-9)
    labels = parts.final.labels
    assert found.auc == pytest.approx(mann_whitney(labels, calibrated), rel=1e-9)
    assert found.auc_raw == pytest.approx(mann_whitney(labels, trained.final), rel=1e-12)
    bce = -np.mean(labels * np.log(calibrated) + (1 - labels) * np.log(1 - calibrated))
    assert found.jsd == pytest.approx((np.log(2) - bce) / np.log(2), rel=1e-9)


def test_perfect_and_useless() -> None:
    trained, parts = problem(100, 2, power=1000.0)
    assert score(trained, parts).auc == pytest.approx(1.0)
    assert score(trained, parts).jsd == pytest.approx(1.0, abs=1e-5)
    constant = Trained(np.full(200, 0.5), np.full(200, 0.5), 1, 1)
    assert score(constant, parts).auc == pytest.approx(0.5)
    assert score(constant, parts).jsd == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("power", [0.0, 1.5])
def test_errors_describe_the_scatter(power: float) -> None:
    """Of the AUC with and without ties, over repeated samples."""
    for rounding in (8, 0):
        aucs, errors = [], []
        for seed in range(200):
            generator = np.random.default_rng(seed)
            labels = np.repeat([1.0, 0.0], 50)
            found = np.round(power * labels + generator.normal(size=100), rounding)
            aucs.append(mann_whitney(labels, found))
            errors.append(auc_error(labels, found))
        assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(np.std(aucs, ddof=1), rel=0.15)


def test_scores_carry_the_errors() -> None:
    found = score(*problem(100, 3))
    losses = -np.log2(np.where(found.labels > 0.5, found.calibrated, 1 - found.calibrated))
    assert found.jsd_error == pytest.approx(losses.std(ddof=1) / np.sqrt(200))
    assert found.auc_error == pytest.approx(auc_error(found.labels, found.calibrated))


def test_roc_of_several_trainings() -> None:
    scores = [score(*problem(400, seed)) for seed in range(3)]
    curve = mean_roc(scores)
    fpr, tpr = np.array(curve["fpr"]), np.array(curve["tpr"])
    assert len(fpr) == len(tpr) <= 200
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)
    assert np.all(np.diff(tpr) >= 0)
    assert np.trapezoid(tpr, fpr) == pytest.approx(np.mean([one.auc_raw for one in scores]), abs=3e-3)


@pytest.mark.parametrize("calibrated", [True, False])
def test_reliability(calibrated: bool) -> None:
    one = score(*problem(300, 4))
    curve = reliability([one, one], calibrated=calibrated)
    found = one.calibrated if calibrated else one.raw
    observed, predicted = calibration_curve(one.labels, found, n_bins=10)
    np.testing.assert_allclose(curve["observed"], observed, rtol=1e-12)
    np.testing.assert_allclose(curve["predicted"], predicted, rtol=1e-12)
    assert sum(curve["counts"]) == 1200
