r"""Which parameters matter: the share of each in the variance of the objective over the searched space.

A random forest learns the objective from the trials; the variance of what it predicts over the whole space
is then divided among the parameters (functional ANOVA: Hutter, Hoos & Leyton-Brown, ICML 2014, section 2):

.. math:: s_i = \mathrm{Var}_{x_i}\, \mathrm{E}_{x_{-i}} f(x) \, / \, \mathrm{Var}_x f(x)

What the single parameters leave over is that of their interactions. The space is weighted as it is searched:
logarithmic ranges logarithmically. The forest is grown several times with other seeds; the spread of a share
is what the choice of the seed makes of it, not an error on what more trials would give.
"""

from __future__ import annotations

__all__ = ["Importance", "Share", "importance_of"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.ensemble import RandomForestRegressor

from caloray.tuning.space import Parameter

FEWEST = 6
"""Trials below which nothing is said."""
PER_PARAMETER = 3
"""Trials per parameter below which the shares come with a warning."""
TREES = 64
POINTS = 16
BACKGROUND = 128
SEEDS = 5
FAR = 3.0
"""Interquartile ranges above the third quartile at which a value is taken for an accident and cut."""
BLIND = 0.1
"""R^2 on unseen trials below which the forest has learned nothing."""


@dataclass(frozen=True)
class Share:
    """What a parameter has of the variance: mean and standard deviation over the forests."""

    parameter: str
    share: float
    spread: float


@dataclass(frozen=True)
class Importance:
    """The shares of all parameters, largest first.

    Args:
        shares: Of each parameter; empty where nothing can be said.
        interactions: What the single parameters leave over.
        explained: R^2 of the forest on trials that a tree has not seen (out of bag).
        trials: How many it learned from.
        remark: What a reader must know; "" where there is nothing.
    """

    shares: tuple[Share, ...]
    interactions: float
    explained: float
    trials: int
    remark: str


def importance_of(
    space: Mapping[str, Parameter],
    assignments: Sequence[Mapping[str, Any]],
    values: Sequence[float],
    seed: int = 0,
) -> Importance:
    """Divide the variance of an objective among the searched parameters.

    Args:
        space: The searched parameters by name.
        assignments: Their values in each trial; all of the same training budget, or budgets are mixed up.
        values: The objective of each trial.
        seed: Of the forests and the points.
    """
    known = np.array(values, dtype=np.float64)
    if len(known) < FEWEST or np.ptp(known) == 0:
        why = "all trials gave the same value" if len(known) >= FEWEST else f"{len(known)} comparable trials"
        return Importance((), 0.0, 0.0, len(known), f"no importances: {why}, at least {FEWEST} are needed")
    known, cut = _without_accidents(known)
    places = np.array([[axis.unit(row[name]) for name, axis in space.items()] for row in assignments])
    found = [_shares(list(space.values()), places, known, seed + 1000 * i) for i in range(SEEDS)]
    shares = np.array([share for share, _ in found])
    explained = float(np.mean([r2 for _, r2 in found]))
    ranked = sorted(
        (
            Share(name, float(mean), float(spread))
            for name, mean, spread in zip(space, shares.mean(0), shares.std(0, ddof=1), strict=True)
        ),
        key=lambda share: -share.share,
    )
    left = max(0.0, 1.0 - float(shares.sum(axis=1).mean()))
    remark = _remark(len(known), len(space), explained, cut)
    return Importance(tuple(ranked), left, explained, len(known), remark)


def _shares(
    axes: Sequence[Parameter], places: np.ndarray, values: np.ndarray, seed: int
) -> tuple[np.ndarray, float]:
    """Share of each axis in the variance of one forest, and its R^2 out of bag."""
    forest = RandomForestRegressor(TREES, min_samples_leaf=2, oob_score=True, random_state=seed, n_jobs=1)
    forest.fit(places, values)
    draws = np.random.default_rng(seed)
    background = np.stack([_points(axis, draws.random(BACKGROUND)) for axis in axes], axis=1)
    total = float(forest.predict(background).var())
    if total <= 0:
        return np.zeros(len(axes)), float(forest.oob_score_)
    grid = (np.arange(POINTS) + 0.5) / POINTS
    shares = [_main_effect(forest, background, i, _points(axis, grid)) / total for i, axis in enumerate(axes)]
    return np.clip(shares, 0.0, 1.0), float(forest.oob_score_)


def _points(axis: Parameter, fractions: np.ndarray) -> np.ndarray:
    """Places (n,) in the unit interval at fractions (n,) of the range; integers and choices exactly."""
    return np.array([axis.unit(axis.at(float(fraction))) for fraction in fractions])


def _main_effect(
    forest: RandomForestRegressor, background: np.ndarray, column: int, points: np.ndarray
) -> float:
    """Variance over one axis of the mean over all others."""
    rows = np.tile(background, (len(points), 1))
    rows[:, column] = np.repeat(points, len(background))
    means = forest.predict(rows).reshape(len(points), len(background)).mean(axis=1)
    return float(means.var())


def _without_accidents(values: np.ndarray) -> tuple[np.ndarray, int]:
    """Values with those cut that lie far above the others, and how many: one diverged trial is no trend."""
    low, high = np.percentile(values, [25, 75])
    limit = high + FAR * (high - low)
    above = int((values > limit).sum()) if high > low else 0
    return (np.minimum(values, limit) if above else values), above


def _remark(trials: int, parameters: int, explained: float, cut: int) -> str:
    parts = []
    if trials < PER_PARAMETER * parameters:
        parts.append(
            f"{trials} trials for {parameters} parameters are few: fewer than {PER_PARAMETER} per parameter, "
            "read the order with care"
        )
    if explained < BLIND:
        parts.append(
            f"the forest hardly predicts trials that it has not seen (R² = {explained:.2f}): the shares are "
            "mostly noise"
        )
    if cut:
        were = "trial was" if cut == 1 else "trials were"
        parts.append(f"{cut} much worse {were} cut to the range of the others")
    return "; ".join(parts)
