"""The CaloChallenge's data sets, and whether an evaluation was made on one of them.

A number may stand beside the published ones where two things hold: the metric follows the challenge's
protocol, which each metric knows of itself (:class:`caloray.evaluation.metric.Metric`), and the showers are
the challenge's, which only the evaluation as a whole knows. This module judges the second.
"""

from __future__ import annotations

__all__ = ["BENCHMARKS", "Benchmark", "benchmark_of", "data_reasons", "same_threshold"]

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from caloray.evaluation.axes import default_threshold
from caloray.geometry import load_geometry
from caloray.io.known import KnownFile, by_name, identify

SAME = 2e-4
"""Relative difference up to which two thresholds are the same: 15.15 keV are the challenge's 15.1515."""
SHOWN = 2
"""File names in a reason."""
RARE = 1e-3
"""Probability of the two-sample test below which incident energies are those of another spectrum."""


@dataclass(frozen=True)
class Benchmark:
    """One data set of the challenge and the showers behind its published results (arXiv:2410.21611).

    Args:
        name: "ds1_photons", "ds1_pions", "ds2" or "ds3"; also the name of the geometry.
        title: For a reader.
        showers: Showers of the reference, and of every submission.
        references: Names of the published files that are the reference, all of them together.
        sha256: Of those files, where known (their md5 is in :mod:`caloray.io.known`).
    """

    name: str
    title: str
    showers: int
    references: tuple[str, ...]
    sha256: tuple[str, ...] = ()

    @cached_property
    def geometry_digest(self) -> str:
        """Digest of the readout."""
        return load_geometry(self.name).digest

    @cached_property
    def threshold(self) -> float:
        """Voxels below it [MeV] count as zero."""
        return default_threshold(load_geometry(self.name))

    @property
    def files(self) -> tuple[KnownFile, ...]:
        """The reference files."""
        return tuple(known for name in self.references if (known := by_name(name)) is not None)


BENCHMARKS = (
    Benchmark("ds1_photons", "dataset 1, photons", 121_000, ("dataset_1_photons_2.hdf5",)),
    Benchmark("ds1_pions", "dataset 1, pions", 120_800, ("dataset_1_pions_2.hdf5",)),
    Benchmark(
        "ds2",
        "dataset 2, electrons",
        100_000,
        ("dataset_2_2.hdf5",),
        ("7561885bda9e2cfa2b0464d7ba779cd4066d89e91ce6105d73441254481e5f3a",),
    ),
    Benchmark("ds3", "dataset 3, electrons", 100_000, ("dataset_3_3.hdf5", "dataset_3_4.hdf5")),
)


def benchmark_of(geometry_digest: str) -> Benchmark | None:
    """The data set with this readout; None where it is none of the challenge's."""
    return next((one for one in BENCHMARKS if one.geometry_digest == geometry_digest), None)


def same_threshold(found: float, wanted: float) -> bool:
    """Whether two voxel thresholds [MeV] are the same, but for the digits that one prints."""
    return math.isclose(found, wanted, rel_tol=SAME)


def data_reasons(record: Mapping[str, Any]) -> list[str]:
    """Why the showers of an evaluation are not the challenge's, one line each; empty when they are.

    They are when the readout is the challenge's, the reference is the published file (by its hash) and no
    other, both sides have the published number of showers and the same spectrum of incident energies, and
    the voxels were cut at the challenge's threshold.

    Args:
        record: What an evaluation writes: geometry {name, digest}, reference {name, digest, showers, files},
            generated {digest, showers}, incident_energy {ks_probability, identical}, threshold [MeV].
    """
    geometry = record["geometry"]
    benchmark = benchmark_of(geometry["digest"])
    if benchmark is None:
        return [f"geometry {geometry['name']} is none of the CaloChallenge's"]
    return [
        *_reference(record, benchmark),
        *_sizes(record, benchmark),
        *_energies(record),
        *_threshold(record, benchmark),
    ]


def _reference(record: Mapping[str, Any], benchmark: Benchmark) -> Iterator[str]:
    """The published files and nothing else, by their hashes; and not handed in as the model's showers."""
    reference = record["reference"]
    found = sorted(set(_known_names(reference, benchmark)))
    if found != sorted(benchmark.references):
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        names = " and ".join(found[:SHOWN]) or reference["name"]
        yield f"reference is {names}{more}, not {' and '.join(benchmark.references)}"
    if reference["digest"] == record["generated"]["digest"]:
        yield "reference and generated are the same showers"


def _known_names(reference: Mapping[str, Any], benchmark: Benchmark) -> Iterator[str]:
    """Names of the published files that a reference consists of; others by the names that they have."""
    known = dict(zip(benchmark.sha256, benchmark.references, strict=False))
    files: Sequence[Mapping[str, Any]] = reference.get("files") or [{"sha256": reference["digest"]}]
    for file in files:
        published = identify(str(file.get("md5") or ""))
        name = known.get(str(file.get("sha256"))) or (published.name if published else None)
        if name is not None:
            yield name
        elif file.get("name"):
            yield str(file["name"]) if file["name"] not in benchmark.references else f"another {file['name']}"


def _sizes(record: Mapping[str, Any], benchmark: Benchmark) -> Iterator[str]:
    for side in ("reference", "generated"):
        number = record[side]["showers"]
        if number != benchmark.showers:
            yield f"{number:,} {side} showers instead of {benchmark.showers:,}"


def _energies(record: Mapping[str, Any]) -> Iterator[str]:
    spectra = record["incident_energy"]
    probability = spectra["ks_probability"]
    if not spectra["identical"] and probability < RARE:
        yield f"incident energies of another spectrum (two-sample probability {probability:.1g})"


def _threshold(record: Mapping[str, Any], benchmark: Benchmark) -> Iterator[str]:
    found = float(record["threshold"])
    if not same_threshold(found, benchmark.threshold):
        yield f"threshold {1e3 * found:.4g} keV instead of {1e3 * benchmark.threshold:.4g} keV"
