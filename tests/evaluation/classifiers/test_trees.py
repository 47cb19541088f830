"""Boosted trees: repeatable, and stopped by the second part."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import log_loss

from caloray.evaluation.classifiers.config import TreesConfig
from caloray.evaluation.classifiers.parts import take_parts
from caloray.evaluation.classifiers.trees import train_trees
from caloray.rng import StreamKey

KEY = StreamKey(3, "test", "trees")


def test_number_of_trees_is_the_best_on_the_second_part() -> None:
    generator = np.random.default_rng(1)
    columns = generator.normal(size=(600, 4))
    columns[:300, 0] += 1.0
    parts = take_parts(np.arange(300), 300 + np.arange(300), (3, 1, 1), KEY)
    config = TreesConfig(iterations=40)
    found = train_trees(columns, parts, config, KEY)
    assert found.epochs == 40
    assert 1 <= found.best_epoch < 40
    losses = []
    for n in range(1, 41):
        shorter = train_trees(columns, parts, config.model_copy(update={"iterations": n}), KEY)
        losses.append(log_loss(parts.test.labels, shorter.test))
        if n == found.best_epoch:
            np.testing.assert_array_equal(shorter.final, found.final)
    assert log_loss(parts.test.labels, found.test) == min(losses)
