"""Compare two samples of showers: two passes over the reference, one over the generated showers."""

from __future__ import annotations

__all__ = ["Progress", "evaluate", "find_extremes", "reduce_showers"]

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

import caloray
from caloray.errors import ConfigError, DataError, GeometryError
from caloray.evaluation.axes import Axis, build_axes, default_threshold, family
from caloray.evaluation.extremes import Extremes
from caloray.evaluation.incident import compare_spectra
from caloray.evaluation.means import compare_means, compare_widths, summarise
from caloray.evaluation.results import SCHEMA, Results, histogram_records, separation_table
from caloray.evaluation.sample import Sample
from caloray.io.source import ShowerSource
from caloray.observables import observe, radial_edges
from caloray.showers import Showers

Progress = Callable[[str, int, int], None]

VOXELS_PER_CHUNK = 4_000_000
FEWEST = 20
HALVINGS = 20


def evaluate(
    reference: ShowerSource,
    generated: ShowerSource,
    *,
    threshold: float | None = None,
    seed: int = 0,
    n_halvings: int = HALVINGS,
    names: tuple[str, str] = ("reference", "generated"),
    progress: Progress | None = None,
) -> Results:
    """Histograms, separation powers with floors, means with errors.

    Counts are integers and sums are exact, so the outcome depends on the showers alone and not on their
    order or on how they are spread over files.

    Args:
        reference: Geant4 showers.
        generated: What is to be judged.
        threshold: Voxels below this energy [MeV] are set to zero in both samples; by default the challenge's
            threshold for its geometries and none for others.
        seed: Seed of the random halvings that give the floors.
        n_halvings: How many halvings (2 to 64).
        names: What to call the two samples in the record (a file name, say).
        progress: Called with (stage, showers done, showers in all).

    Returns:
        A record with the keys schema, caloray, geometry, threshold, seed, halvings, reference, generated,
        incident_energy, warnings, summary, separations, means, average_shower and histograms.

    Raises:
        GeometryError: The samples are of different geometries.
        DataError: Fewer than 20 showers in a sample.
        ConfigError: An impossible threshold or number of halvings.
    """
    _check(reference, generated, names, threshold, n_halvings)
    geometry = reference.geometry
    cut = default_threshold(geometry) if threshold is None else threshold
    axes = build_axes(geometry, cut, find_extremes(reference, cut, progress))
    first = reduce_showers(reference, axes, cut, seed, n_halvings, progress, "reference")
    second = reduce_showers(generated, axes, cut, seed, 0, progress, "generated")
    return Results(
        {
            "schema": SCHEMA,
            "caloray": caloray.__version__,
            "geometry": {**geometry.to_dict(), "digest": geometry.digest, "binning": family(geometry)},
            "radial_edges": [float(edge) for edge in radial_edges(geometry)],
            "threshold": cut,
            "seed": seed,
            "halvings": n_halvings,
            "reference": _source(reference, first, names[0]),
            "generated": _source(generated, second, names[1]),
            **_compare(axes, first, second, same_showers=reference.digest == generated.digest),
        }
    )


def find_extremes(source: ShowerSource, threshold: float, progress: Progress | None = None) -> Extremes:
    """First pass: what the histogram ranges need to know of the reference."""
    geometry = source.geometry
    extremes = Extremes(geometry.n_layers, keep_shapes=family(geometry) == "other")
    for showers in _chunks(source, progress, "ranges"):
        observables = observe(showers.voxels, geometry, threshold)
        extremes.add(observables, showers.voxels, showers.incident_energies)
    return extremes


def reduce_showers(
    source: ShowerSource,
    axes: Sequence[Axis],
    threshold: float,
    seed: int = 0,
    n_halvings: int = 0,
    progress: Progress | None = None,
    stage: str = "",
) -> Sample:
    """Second pass: boil showers down to counts and sums; ``Sample.merge`` joins parts of a sample."""
    sample = Sample(source.geometry, axes, threshold, seed, n_halvings)
    for showers in _chunks(source, progress, stage):
        observables = observe(showers.voxels, source.geometry, threshold)
        sample.add(observables, showers.voxels, showers.incident_energies, showers.ids)
    return sample


def _chunks(source: ShowerSource, progress: Progress | None, stage: str) -> Iterator[Showers]:
    done = 0
    for showers in source.chunks(max(1, VOXELS_PER_CHUNK // source.geometry.n_voxels)):
        yield showers
        done += len(showers)
        if progress is not None:
            progress(stage, done, source.n_showers)


def _compare(axes: Sequence[Axis], first: Sample, second: Sample, *, same_showers: bool) -> dict[str, Any]:
    spectra = compare_spectra(first.energies, second.energies)
    means = compare_means(first, second, same_energies=spectra.identical)
    records = histogram_records(axes, first, second)
    warnings = [spectra.warning] if spectra.warning else []
    if same_showers:
        warnings.append(
            "reference and generated are the same showers: all differences are zero by construction"
        )
    return {
        "incident_energy": {
            "ks_distance": spectra.distance,
            "ks_probability": spectra.probability,
            "identical": spectra.identical,
        },
        "warnings": warnings,
        "summary": summarise(means, compare_widths(first, second)),
        "separations": separation_table(axes, records, first, second.n),
        "means": means,
        "average_shower": {
            "reference": _nested(first.average_shower()),
            "generated": _nested(second.average_shower()),
        },
        "histograms": records,
    }


def _source(source: ShowerSource, sample: Sample, name: str) -> dict[str, Any]:
    return {"name": name, "digest": source.digest, "showers": sample.n}


def _nested(values: np.ndarray) -> list[list[float]]:
    return [[float(value) for value in row] for row in values]


def _check(
    reference: ShowerSource,
    generated: ShowerSource,
    names: tuple[str, str],
    threshold: float | None,
    n_halvings: int,
) -> None:
    if reference.geometry.digest != generated.geometry.digest:
        one, two = reference.geometry, generated.geometry
        raise GeometryError(
            f"{names[0]} has geometry {one.name} ({one.n_voxels} voxels, {one.digest[:12]}), "
            f"{names[1]} has {two.name} ({two.n_voxels} voxels, {two.digest[:12]})",
            hint="compare showers of the same readout",
        )
    for name, source in zip(names, (reference, generated), strict=True):
        if source.n_showers < FEWEST:
            raise DataError(
                f"{name}: {source.n_showers} showers, at least {FEWEST} are needed",
                hint="give more showers; a few thousand make a meaningful comparison",
            )
    if threshold is not None and not 0 <= threshold < np.inf:
        raise ConfigError(f"threshold {threshold} MeV: expected >= 0", hint="leave it out for the default")
    if not 2 <= n_halvings <= 64:
        raise ConfigError(f"{n_halvings} halvings: expected 2 to 64", hint="20 is a good number")
