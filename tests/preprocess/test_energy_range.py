from __future__ import annotations

import numpy as np

from caloray.preprocess.energy_range import EDGE, outside


def test_edges_have_some_slack_and_nan_lies_outside():
    low, high = 1e3, 5e4
    energies = [
        low * (1 - EDGE),
        low * (1 - 2 * EDGE),
        high * (1 + EDGE),
        high * (1 + 2 * EDGE),
        np.nan,
        np.inf,
    ]
    assert outside(np.array(energies), (low, high)).tolist() == [False, True, False, True, True, True]
    assert not outside(np.float32([low, high]).astype(np.float64), (low, high)).any()
