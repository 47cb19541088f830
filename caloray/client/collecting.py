"""Batches of showers put together to one result."""

from __future__ import annotations

__all__ = ["Collection"]

from typing import Any

import numpy as np

from caloray.client.receipt import Delivery
from caloray.client.request import ShowerRequest
from caloray.io.stream_table import table_of
from caloray.showers import Showers


class Collection:
    """Fills the arrays of one request, so that no shower is in memory twice.

    Args:
        request: What was asked for.
        arrow: Keep Arrow record batches instead.
    """

    def __init__(self, request: ShowerRequest, *, arrow: bool = False) -> None:
        self._request = request
        self._records: list[Any] | None = [] if arrow else None
        self._filled = 0
        self._voxels = np.zeros((0, 0), np.float32)
        self._conditions: dict[str, np.ndarray] = {}

    def add(self, delivery: Delivery) -> None:
        """Take the next batch."""
        if self._records is not None:
            self._records.append(delivery.batch.record)
            return
        dense = delivery.batch.showers.dense(delivery.header.geometry.n_voxels)
        if not self._filled:
            total = len(self._request.energies)
            self._voxels = np.zeros((total, dense.voxels.shape[1]), np.float32)
            self._conditions = {name: np.zeros(total) for name in dense.conditions}
        rows = slice(self._filled, self._filled + len(dense))
        self._voxels[rows] = dense.voxels
        for name, values in dense.conditions.items():
            self._conditions[name][rows] = values
        self._filled = rows.stop

    def result(self) -> Any:
        """The showers as :class:`caloray.showers.Showers`, or as one ``pyarrow.Table``."""
        if self._records is not None:
            return table_of(self._records)
        ids = np.arange(self._request.first, self._request.stop)
        return Showers(self._request.energies, self._voxels, ids, self._conditions)
