"""Gradient-boosted trees on the high-level features."""

from __future__ import annotations

__all__ = ["train_trees"]

from itertools import islice

import numpy as np

from caloray.evaluation.classifiers.config import TreesConfig
from caloray.evaluation.classifiers.parts import Parts, Trained
from caloray.rng import StreamKey


def train_trees(columns: np.ndarray, parts: Parts, config: TreesConfig, key: StreamKey) -> Trained:
    """Boost on the first part; keep the number of trees with the smallest loss on the second.

    scikit-learn's HistGradientBoostingClassifier (histogram-based, after Ke et al., "LightGBM", NIPS 2017),
    in the calling thread alone: its own threads wait actively for each other, which on a busy machine takes
    much longer than the work.

    Args:
        columns: (rows, F) float64.
        parts: Rows and labels.
        config: Size of the model.
        key: Its seed.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    model = HistGradientBoostingClassifier(
        learning_rate=config.learning_rate,
        max_iter=config.iterations,
        max_leaf_nodes=config.leaves,
        min_samples_leaf=config.leaf_showers,
        l2_regularization=config.penalty,
        max_features=config.columns,
        early_stopping=False,
        random_state=key.seed64() % 2**32,
    )
    with threadpool_limits(limits=1, user_api="openmp"):
        model.fit(columns[parts.train.rows], parts.train.labels)
        staged = [row[:, 1] for row in model.staged_predict_proba(columns[parts.test.rows])]
        losses = [_cross_entropy(parts.test.labels, found) for found in staged]
        best = int(np.argmin(losses))
        final = next(islice(model.staged_predict_proba(columns[parts.final.rows]), best, None))
    return Trained(staged[best], final[:, 1], config.iterations, best + 1)


def _cross_entropy(labels: np.ndarray, found: np.ndarray) -> float:
    return float(-np.mean(np.log(np.where(labels > 0.5, found, 1 - found).clip(1e-12))))
