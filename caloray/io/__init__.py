"""Files in and out: CaloChallenge HDF5, Parquet shards, manifests, downloads."""

from __future__ import annotations

__all__: list[str] = []
