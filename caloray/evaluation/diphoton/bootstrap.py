"""Errors of turn-on curves whose showers are used in many pairs."""

from __future__ import annotations

__all__ = ["binomial_errors", "covariance", "poisson_weights", "replicate", "variances"]

from collections.abc import Mapping, Sequence

import numpy as np

from caloray.evaluation.diphoton.curve import Curve
from caloray.rng import StreamKey


def binomial_errors(curve: Curve) -> np.ndarray:
    """(D,) error of each point if no two pairs shared a shower; never zero (Laplace's rule of succession)."""
    successes = curve.resolved.sum(axis=1)
    share = (successes + 1) / (curve.pairs + 2)
    return np.asarray(np.sqrt(share * (1 - share) / curve.pairs))


def poisson_weights(showers: int, seed: int, replicas: int) -> np.ndarray:
    """(replicas, showers) int64: how often each shower enters each bootstrap sample (Poisson of mean 1)."""
    generator = StreamKey(seed, "diphoton", "bootstrap").generator()
    return np.asarray(generator.poisson(1.0, (replicas, showers)))


def covariance(curves: Sequence[Curve], showers: int) -> np.ndarray:
    """(K, K) covariance of all K points of all curves, with the showers that pairs share.

    Every pair belongs to two clusters, its showers: the products of the clusters' summed residuals, less the
    pairs' own variance, which they hold twice (Cameron, Gelbach and Miller, "Robust inference with multiway
    clustering", J. Bus. Econ. Stat. 29 (2011), eq. 2.13). No variance is below the binomial one.

    Args:
        curves: Curves of one bank; their points follow one another.
        showers: Showers of the bank.
    """
    influences, own, least = [], [], []
    for curve in curves:
        least.append(binomial_errors(curve) ** 2)
        for outcome, share in zip(curve.outcomes, curve.probability, strict=True):
            residual = (outcome.resolved - share) / curve.pairs
            sums = np.bincount(outcome.first, residual, minlength=showers)
            influences.append(sums + np.bincount(outcome.second, residual, minlength=showers))
            own.append((residual**2).sum())
    matrix = np.array(influences) @ np.array(influences).T
    diagonal = np.maximum(np.diag(matrix) - np.array(own), np.concatenate(least))
    np.fill_diagonal(matrix, diagonal)
    return np.asarray(matrix)


def variances(curve: Curve, showers: int) -> np.ndarray:
    """(D,) variance of each point of one curve: the diagonal of :func:`covariance`."""
    return np.diag(covariance([curve], showers)).copy()


def replicate(curves: Mapping[str, Curve], showers: int, seed: int, replicas: int) -> dict[str, np.ndarray]:
    """(replicas, D) bootstrap samples of each curve: Gaussian, with the covariance of all points together.

    Drawing showers anew and weighting a pair by the product of its two showers' weights (the "pigeonhole
    bootstrap" of A. Owen, Ann. Appl. Stat. 1 (2007) 386) would count the pairs' own variance three times.

    Args:
        curves: Curves of one bank.
        showers: Showers of the bank.
        seed: Of the draws.
        replicas: How many samples.
    """
    values, vectors = np.linalg.eigh(covariance(list(curves.values()), showers))
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    generator = StreamKey(seed, "diphoton", "replicas").generator()
    moved = generator.standard_normal((replicas, len(root))) @ root.T
    samples, start = {}, 0
    for name, curve in curves.items():
        stop = start + len(curve.distances)
        samples[name] = np.clip(curve.probability + moved[:, start:stop], 0.0, 1.0)
        start = stop
    return samples
