"""Parquet files of plain columns that are streamed in pieces and cut at fixed rows."""

from __future__ import annotations

__all__ = ["ROW_GROUP", "RowGroups"]

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.parquet as pq

from caloray.atomic import staging
from caloray.io.shard_layout import METADATA

ROW_GROUP = 1 << 16
"""Rows of a group: 1e8 rows are 1,526 groups, whose description is small, and one is read in milliseconds."""


class RowGroups:
    """Streams columns into a Parquet file that appears under its name only when it is complete.

    zstd-1, page checksums. The bytes depend on the rows alone, not on the pieces in which they come; at most
    one row group is held in memory.

    Args:
        path: The file to write.
        schema: Its columns.
        rows: Of one row group.

    Raises:
        StorageError: The disk is full or not writable.
    """

    def __init__(self, path: Path, schema: pa.Schema, rows: int = ROW_GROUP) -> None:
        self._rows = rows
        self._schema = schema
        self._staging = staging(path)
        self._pending: list[pa.Table] = []
        self._waiting = 0
        self._writer: pq.ParquetWriter | None = None

    def open(self) -> None:
        """Begin the file under a temporary name."""
        temporary = self._staging.__enter__()
        whole = [field.name for field in self._schema if pa.types.is_integer(field.type)]
        try:
            self._writer = pq.ParquetWriter(
                temporary,
                self._schema,
                compression="zstd",
                compression_level=1,
                use_dictionary=False,
                column_encoding=dict.fromkeys(whole, "DELTA_BINARY_PACKED"),
                use_byte_stream_split=[f.name for f in self._schema if pa.types.is_floating(f.type)],
                write_statistics=False,
                write_page_checksum=True,
                version="2.6",
                data_page_version="1.0",
            )
        except OSError as error:
            self._staging.__exit__(type(error), error, error.__traceback__)
            raise

    def append(self, columns: Sequence[pa.Array]) -> None:
        """Add rows: one array per column of the schema."""
        table = pa.Table.from_arrays(list(columns), schema=self._schema)
        start = 0
        while start < len(table):
            piece = table.slice(start, self._rows - self._waiting)
            self._pending.append(piece)
            self._waiting += len(piece)
            start += len(piece)
            if self._waiting == self._rows:
                self._flush()

    def _flush(self) -> None:
        if self._writer is not None and self._waiting:
            table = pa.concat_tables(self._pending).combine_chunks()
            self._writer.write_table(table, row_group_size=self._rows)
        self._pending, self._waiting = [], 0

    def close(
        self,
        footer: Mapping[str, str],
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Finish the file with ``caloray.*`` metadata, or remove what there is of it after an exception."""
        try:
            if kind is None and self._writer is not None:
                self._flush()
                self._writer.add_key_value_metadata({METADATA + k: v for k, v in footer.items()})
            if self._writer is not None:
                self._writer.close()
        except OSError as failure:
            if kind is None:
                self._staging.__exit__(type(failure), failure, failure.__traceback__)
                raise
        self._staging.__exit__(kind, error, trace)
