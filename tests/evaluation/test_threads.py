"""Work in threads: order, errors, and the number of threads of the linear algebra put back."""

from __future__ import annotations

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from caloray.evaluation.threads import in_threads


def blas_threads():
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


def test_results_come_in_order():
    assert in_threads(lambda x: x * x, range(100)) == [x * x for x in range(100)]
    assert in_threads(lambda x: x, []) == []


def test_linear_algebra_has_one_thread_meanwhile_and_its_own_afterwards():
    before = blas_threads()
    counts = in_threads(lambda matrix: (matrix @ matrix, blas_threads())[1], [np.eye(3)] * 4)
    assert all(set(count) == {1} for count in counts)
    assert blas_threads() == before


def test_errors_arrive():
    with pytest.raises(ZeroDivisionError):
        in_threads(lambda x: 1 / x, [1, 0])
