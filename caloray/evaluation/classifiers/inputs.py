"""What a classifier sees of each shower, made batch by batch from float32 voxels."""

from __future__ import annotations

__all__ = ["ClassifierData", "InputTable"]

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from caloray.errors import DataError
from caloray.evaluation.classifiers.config import Input
from caloray.geometry import Geometry

LAYER_GUARD = 1e-16  # MeV
LOGARITHM_GUARD = 1e-8  # MeV
CHUNK_VOXELS = 4_000_000


@dataclass(frozen=True, eq=False)
class ClassifierData:
    """One sample.

    Args:
        voxels: (N, V) float32 [MeV], as they were made: the threshold is applied here. (N, 0) does where
            only high-level features are looked at.
        energies: (N,) incident energies [MeV].
        features: (N, F) float64 of :func:`caloray.evaluation.features.feature_vector`.
        ids: (N,) integers that name the showers; they decide which part a shower joins, its place does not.
        extra: (N, E) further columns for the trees alone, or None.

    Raises:
        DataError: Numbers of rows that disagree.
    """

    voxels: np.ndarray
    energies: np.ndarray
    features: np.ndarray
    ids: np.ndarray
    extra: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Compare the numbers of rows."""
        columns = (self.voxels, self.energies, self.features, self.ids)
        rows = [len(column) for column in columns] + ([] if self.extra is None else [len(self.extra)])
        if len(set(rows)) != 1:
            raise DataError(f"classifier input: voxels, energies, features and ids have {rows} rows")

    def __len__(self) -> int:
        """Number of showers."""
        return len(self.voxels)


class InputTable:
    """Inputs of the rows of two samples; the second one's follow the first one's.

    - ``low``: log10 E_inc, voxels / E_inc.
    - ``low-normed``: log10 E_inc, voxels / (E_layer + 1e-16 MeV), log10 (E_layer + 1e-8 MeV). As in the
      CaloChallenge's evaluate.py the layer energies are sums above the threshold, the voxels are not cut: a
      layer with nothing above the threshold but something below it gives huge inputs (``leaks`` counts them).
    - ``high``: the features as they are.

    All arithmetic is float64 and rounded once, to ``dtype``.

    Args:
        first: One sample.
        second: The other one.
        kind: Which inputs.
        geometry: The readout.
        threshold: Voxels below it [MeV] count as zero.
        dtype: Of the result.

    Attributes:
        width: Number of columns.
    """

    def __init__(
        self,
        first: ClassifierData,
        second: ClassifierData,
        kind: Input,
        geometry: Geometry,
        threshold: float,
        dtype: str = "float64",
    ) -> None:
        self._samples = (first, second)
        self._kind = kind
        self._geometry = geometry
        self._threshold = threshold
        self.dtype = np.dtype(dtype)
        layers = geometry.n_layers
        self.width: int = {
            "low": 1 + geometry.n_voxels,
            "low-normed": 1 + geometry.n_voxels + layers,
            "high": first.features.shape[1],
        }[kind]

    def __len__(self) -> int:
        """Rows of both samples."""
        return sum(len(sample) for sample in self._samples)

    @property
    def nbytes(self) -> int:
        """Size of all rows."""
        return len(self) * self.width * self.dtype.itemsize

    def batch(self, rows: np.ndarray) -> np.ndarray:
        """(B, width) inputs of the given rows, in their order."""
        border = len(self._samples[0])
        result = np.empty((len(rows), self.width), dtype=self.dtype)
        for sample, offset, chosen in (
            (self._samples[0], 0, rows < border),
            (self._samples[1], border, rows >= border),
        ):
            places = np.flatnonzero(chosen)
            if len(places):
                result[places] = self._make(sample, rows[places] - offset)
        return result

    def chunks(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Inputs of every row, some at a time, with their places."""
        step = max(1, CHUNK_VOXELS // self.width)
        for start in range(0, len(self), step):
            place = slice(start, min(len(self), start + step))
            yield place, self.batch(np.arange(place.start, place.stop))

    def leaks(self) -> int:
        """Showers with a layer that is empty above the threshold and not empty below it."""
        found, step = 0, max(1, CHUNK_VOXELS // self._geometry.n_voxels)
        for sample in self._samples:
            for start in range(0, len(sample), step):
                voxels = sample.voxels[start : start + step]
                above = self._layers(np.where(voxels < self._threshold, 0, voxels))
                found += int(np.count_nonzero(np.any((above == 0) & (self._layers(voxels) > 0), axis=1)))
        return found

    def _make(self, sample: ClassifierData, rows: np.ndarray) -> np.ndarray:
        if self._kind == "high":
            return np.asarray(sample.features[rows])
        voxels, energies = sample.voxels[rows], sample.energies[rows, None]
        cut = np.where(voxels < self._threshold, voxels.dtype.type(0), voxels)
        if self._kind == "low":
            return np.concatenate([np.log10(energies), cut / energies], axis=1)
        layers = self._layers(cut)
        scale = np.repeat(layers + LAYER_GUARD, self._geometry.layer_sizes, axis=1)
        return np.concatenate(
            [np.log10(energies), voxels / scale, np.log10(layers + LOGARITHM_GUARD)], axis=1
        )

    def _layers(self, voxels: np.ndarray) -> np.ndarray:
        """(B, L) layer energies [MeV]."""
        return np.asarray(np.add.reduceat(voxels, self._geometry.offsets[:-1], axis=1, dtype=np.float64))
