"""Showers as Parquet files of hits: what is empty takes no room.

One row per shower: ``event_id`` (int64), ``incident_energy`` (float64, MeV), further scalars of the particle
(float64, by name), the lists ``corner_x`` and ``corner_y`` (int32, per layer) and, with one entry per hit,
the lists ``layer`` (uint16), ``x``, ``y`` (int32) and ``energy`` (float32, MeV), as :class:`Hits` has them.
zstd-1, bytes split by significance, page checksums. Same showers, same bytes, however they were cut.
"""

from __future__ import annotations

__all__ = ["HitReader", "HitSource", "HitWriter"]

import json
import math
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from caloray.atomic import sha256_file, staging
from caloray.errors import DataError, GeometryError
from caloray.geometry import Geometry
from caloray.io.hit_record import Hits
from caloray.io.shard_layout import EVENT_ID, INCIDENT_ENERGY, METADATA, damaged
from caloray.showers import Showers, apply_policy

FORMAT = "hits-1"
ROW_GROUP = 1000
CORNERS = ("corner_x", "corner_y")
COLUMNS = {"layer": pa.uint16(), "x": pa.int32(), "y": pa.int32(), "energy": pa.float32()}
OWN = {EVENT_ID, INCIDENT_ENERGY, *CORNERS, *COLUMNS}
RESERVED = ("format", "geometry", "layers", "units")
MAX_HITS = 1 << 30


class HitWriter:
    """Streams hits into one file, which appears under its name only when it is complete.

    At most one row group of 1,000 showers is held in memory.

    Args:
        path: The file to write.
        geometry: Box of the hits, so that they can be read as dense showers; None where there is no box.
        n_layers: Layers of the detector.
        extra: Further ``caloray.*`` metadata; must not depend on time, host or path.
        units: Units of the scalars of the particle that the hits carry, by name.

    Raises:
        StorageError: The disk is full or not writable.
        DataError: Pieces with different scalars.
    """

    def __init__(
        self,
        path: Path,
        geometry: Geometry | None,
        n_layers: int,
        extra: Mapping[str, str] | None = None,
        units: Mapping[str, str] | None = None,
    ) -> None:
        self.path = path
        self.rows = 0
        described = "" if geometry is None else json.dumps(geometry.to_dict(), sort_keys=True)
        meta = {"format": FORMAT, "geometry": described, "layers": str(n_layers)}
        meta["units"] = json.dumps(dict(units or {}), sort_keys=True)
        meta |= {key: value for key, value in sorted((extra or {}).items()) if key not in RESERVED}
        self._metadata = {METADATA + key: value for key, value in meta.items()}
        self._pending: list[Hits] = []
        self._staging = staging(path)
        self._writer: pq.ParquetWriter | None = None
        self._schema: pa.Schema | None = None

    def __enter__(self) -> Self:
        self._temporary = self._staging.__enter__()
        return self

    def append(self, hits: Hits) -> None:
        """Add showers at the end."""
        start = 0
        while start < len(hits):
            waiting = sum(map(len, self._pending))
            stop = min(len(hits), start + ROW_GROUP - waiting)
            self._pending.append(hits.select(start, stop))
            start = stop
            if waiting + len(self._pending[-1]) == ROW_GROUP:
                self._flush()

    def _flush(self) -> None:
        if not self._pending:
            return
        names = {tuple(part.conditions) for part in self._pending}
        if len(names) > 1:
            raise DataError(f"{self.path}: showers with different scalars of the particle: {sorted(names)}")
        hits = Hits.concatenate(self._pending)
        table = pa.table(_columns(hits))
        if self._writer is None:
            self._schema = table.schema.with_metadata(self._metadata)
            self._writer = _open_writer(self._temporary, self._schema)
        if table.schema != self._schema:
            raise DataError(f"{self.path}: showers with other scalars of the particle than before")
        self._writer.write_table(table, row_group_size=ROW_GROUP)
        self.rows += len(hits)
        self._pending = []

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._flush()
                if self._writer is None:
                    raise DataError(f"{self.path}: no showers to write", hint="select at least one")
            if self._writer is not None:
                self._writer.close()
        except (OSError, DataError) as failure:
            if kind is None:
                self._staging.__exit__(type(failure), failure, failure.__traceback__)
                raise
        self._staging.__exit__(kind, error, trace)


class HitReader:
    """A file of hits, opened for reading; every page that is read has its checksum verified.

    Args:
        path: The file.

    Raises:
        IntegrityError: The file is missing, truncated or altered.
        DataError: It is a Parquet file but not one of hits.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = pq.ParquetFile(path, pre_buffer=False, page_checksum_verification=True)
            self._inspect()
        except (OSError, ValueError, pa.ArrowException) as error:
            raise damaged(path, error) from error

    def _inspect(self) -> None:
        schema = self._file.schema_arrow
        meta = {k.decode(errors="replace"): v.decode(errors="replace") for k, v in _items(schema.metadata)}
        found = {k.removeprefix(METADATA): v for k, v in meta.items() if k.startswith(METADATA)}
        if found.get("format") != FORMAT:
            raise DataError(
                f"{self.path}: not a file of hits (format {found.get('format')!r}, expected {FORMAT!r})",
                hint="make one with `caloray place ... -o hits.parquet`, or update caloray",
            )
        if missing := sorted(OWN - set(schema.names)):
            raise damaged(self.path, ValueError(f"no column {', '.join(missing)}"))
        self.extra = {k: v for k, v in found.items() if k not in RESERVED}
        self.n_layers = int(found["layers"])
        self.n_rows = int(self._file.metadata.num_rows)
        text = found["geometry"]
        try:
            self.geometry = Geometry.from_dict(json.loads(text)) if text else None
            units = json.loads(found["units"])
            self.conditions = {name: str(units.get(name, "")) for name in schema.names if name not in OWN}
        except (AttributeError, GeometryError, KeyError, ValueError, TypeError) as error:
            raise damaged(self.path, ValueError("the metadata cannot be read")) from error

    def chunks(self) -> Iterator[Hits]:
        """The showers, one row group at a time.

        Raises:
            IntegrityError: The file is damaged.
        """
        for group in range(self._file.num_row_groups):
            try:
                table = self._file.read_row_group(group, use_threads=False).combine_chunks()
                yield _hits(table, tuple(self.conditions), self.n_layers)
            except (OSError, ValueError, OverflowError, DataError, pa.ArrowException) as error:
                raise damaged(self.path, error) from error

    def close(self) -> None:
        """Close the file."""
        self._file.close(force=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class HitSource:
    """A file of hits as dense showers: a :class:`caloray.io.source.ShowerSource`.

    Args:
        path: The file.

    Raises:
        IntegrityError: The file is missing, truncated or altered.
        DataError: Not a file of hits, or one without a box.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with HitReader(path) as reader:
            self.n_showers = reader.n_rows
            self.conditions = dict(reader.conditions)
            if reader.geometry is None:
                raise DataError(
                    f"{path}: hits without a box cannot be made dense",
                    hint="place the showers with --box 30",
                )
            self.geometry = reader.geometry

    @cached_property
    def digest(self) -> str:
        """sha256 of the file."""
        return sha256_file(self.path)

    def chunks(self, rows: int = 1000) -> Iterator[Showers]:
        """All showers in file order, dense, ``rows`` at a time (the last piece may be shorter).

        Raises:
            DataError: NaN, infinite or negative energies.
            IntegrityError: The file is damaged.
        """
        first = 0
        for hits in self._pieces(rows):
            try:
                showers = hits.dense(self.geometry)
            except DataError as error:
                raise damaged(self.path, error) from error
            apply_policy(showers, self.geometry, max_ratio=math.inf, where=str(self.path), first_row=first)
            first += len(showers)
            yield showers

    def _pieces(self, rows: int) -> Iterator[Hits]:
        """Row groups cut anew; one of them and one piece are in memory."""
        held: list[Hits] = []
        with HitReader(self.path) as reader:
            for hits in reader.chunks():
                start = 0
                while start < len(hits):
                    stop = min(len(hits), start + rows - sum(map(len, held)))
                    held.append(hits.select(start, stop))
                    start = stop
                    if sum(map(len, held)) == rows:
                        yield Hits.concatenate(held)
                        held = []
        if held:
            yield Hits.concatenate(held)


def _items(metadata: Mapping[bytes, bytes] | None) -> list[tuple[bytes, bytes]]:
    return list((metadata or {}).items())


def _columns(hits: Hits) -> dict[str, Any]:
    starts = pa.array(hits.starts.astype(np.int32))
    layers = hits.corners.shape[1]
    per_layer = pa.array(np.arange(len(hits) + 1, dtype=np.int32) * layers)

    def listed(values: np.ndarray, kind: pa.DataType, offsets: pa.Array) -> pa.Array:
        plain = np.ascontiguousarray(values).astype(kind.to_pandas_dtype(), copy=False)
        return pa.ListArray.from_arrays(offsets, pa.array(plain))

    columns = {
        EVENT_ID: pa.array(hits.ids.astype(np.int64)),
        INCIDENT_ENERGY: pa.array(hits.incident_energies.astype(np.float64)),
        **{name: pa.array(values.astype(np.float64)) for name, values in hits.conditions.items()},
    }
    for axis, name in enumerate(CORNERS):
        columns[name] = listed(hits.corners[..., axis].ravel(), pa.int32(), per_layer)
    for values, (name, kind) in zip(
        (hits.layers, hits.x, hits.y, hits.energies), COLUMNS.items(), strict=True
    ):
        columns[name] = listed(values, kind, starts)
    return columns


def _open_writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    listed = [f"{name}.list.element" for name in (*CORNERS, *COLUMNS)]
    return pq.ParquetWriter(
        path,
        schema,
        compression="zstd",
        compression_level=1,
        use_dictionary=False,
        column_encoding=dict.fromkeys(listed, "BYTE_STREAM_SPLIT"),
        write_statistics=[EVENT_ID, INCIDENT_ENERGY],
        write_page_checksum=True,
        version="2.6",
        data_page_version="1.0",
    )


def _hits(table: pa.Table, conditions: tuple[str, ...], n_layers: int) -> Hits:
    def numbers(name: str) -> np.ndarray:
        return np.asarray(table.column(name).combine_chunks().to_numpy(zero_copy_only=False))

    lists = {name: table.column(name).combine_chunks() for name in (*CORNERS, *COLUMNS)}
    starts = [np.asarray(lists[name].offsets, dtype=np.int64) for name in COLUMNS]
    if any(not np.array_equal(one, starts[0]) for one in starts) or starts[0][-1] > MAX_HITS:
        raise ValueError("lists of hits of different lengths")
    flat = {name: np.asarray(column.values) for name, column in lists.items()}
    corners = [flat[name].reshape(len(table), n_layers) for name in CORNERS]
    hits = slice(starts[0][0], starts[0][-1])
    return Hits(
        incident_energies=numbers(INCIDENT_ENERGY),
        ids=numbers(EVENT_ID),
        starts=starts[0] - starts[0][0],
        layers=flat["layer"][hits],
        x=flat["x"][hits],
        y=flat["y"][hits],
        energies=flat["energy"][hits],
        corners=np.stack(corners, axis=-1),
        conditions={name: numbers(name) for name in conditions},
    )
