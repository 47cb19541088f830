"""The four data sets of the CaloChallenge: what a model must have been evaluated on to be ranked."""

from __future__ import annotations

__all__ = ["BENCHMARKS", "OFFICIAL_CLASSIFIERS", "Benchmark", "find_benchmark"]

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from caloray.errors import ConfigError
from caloray.geometry import load_geometry
from caloray.io.known import KnownFile, by_name

SILICON = 0.5e-3 / 0.033
"""0.5 keV in silicon over the sampling fraction [MeV]."""

OFFICIAL_CLASSIFIERS: Mapping[str, Mapping[str, Any]] = {
    "dnn": {
        "width": 2048,
        "hidden": 3,
        "epochs": 50,
        "batch": 1000,
        "learning_rate": 2e-4,
        "dtype": "float64",
    },
    "resnet": {"planes": [32, 64, 64, 128]},
}
"""Settings behind the published AUCs (arXiv:2410.21611; those of the ResNet's optimiser are not recorded)."""
TRAININGS = 10


@dataclass(frozen=True)
class Benchmark:
    """One data set and the protocol of its published results.

    Args:
        name: "ds1_photons", "ds1_pions", "ds2" or "ds3"; also the name of the geometry.
        title: For a reader.
        showers: Showers of the reference, and of every submission.
        threshold: Voxels below it [MeV] count as zero.
        references: Names of the published files that are the reference, all of them together.
        sha256: Of those files, where known (their md5 is in :mod:`caloray.io.known`).
    """

    name: str
    title: str
    showers: int
    threshold: float
    references: tuple[str, ...]
    sha256: tuple[str, ...] = ()

    @cached_property
    def geometry_digest(self) -> str:
        """Digest of the readout."""
        return load_geometry(self.name).digest

    @property
    def files(self) -> tuple[KnownFile, ...]:
        """The reference files."""
        return tuple(known for name in self.references if (known := by_name(name)) is not None)


BENCHMARKS = (
    Benchmark("ds1_photons", "dataset 1, photons", 121_000, 1.0, ("dataset_1_photons_2.hdf5",)),
    Benchmark("ds1_pions", "dataset 1, pions", 120_800, 1.0, ("dataset_1_pions_2.hdf5",)),
    Benchmark(
        "ds2",
        "dataset 2, electrons",
        100_000,
        SILICON,
        ("dataset_2_2.hdf5",),
        ("7561885bda9e2cfa2b0464d7ba779cd4066d89e91ce6105d73441254481e5f3a",),
    ),
    Benchmark("ds3", "dataset 3, electrons", 100_000, SILICON, ("dataset_3_3.hdf5", "dataset_3_4.hdf5")),
)


def find_benchmark(name: str) -> Benchmark:
    """The data set of this name.

    Raises:
        ConfigError: There is none.
    """
    known = [benchmark.name for benchmark in BENCHMARKS]
    if name not in known:
        close = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5)
        meant = f"did you mean {close[0]!r}? " if close else ""
        raise ConfigError(
            f"the CaloChallenge has no data set {name!r}", hint=f"{meant}known: {', '.join(known)}"
        )
    return BENCHMARKS[known.index(name)]
