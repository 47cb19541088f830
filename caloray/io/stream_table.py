"""Record batches of a stream of showers as one table."""

from __future__ import annotations

__all__ = ["table_of"]

from collections.abc import Sequence
from typing import Any

import pyarrow as pa


def table_of(records: Sequence[Any]) -> Any:
    """The ``pyarrow.Table`` of ``pyarrow.RecordBatch`` with the same columns (at least one), uncopied."""
    return pa.Table.from_batches(list(records))
