"""Compare two samples of showers: each is read once and boiled down, then everything follows from that."""

from __future__ import annotations

__all__ = ["Progress", "evaluate", "evaluate_all"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from typing import Any

import numpy as np

import caloray
from caloray.errors import ConfigError, DataError, GeometryError
from caloray.evaluation.axes import Axis, default_threshold, family
from caloray.evaluation.chi2 import e_ratio_metric
from caloray.evaluation.doubts import doubts
from caloray.evaluation.halves import Halves, incident_energies
from caloray.evaluation.incident import compare_spectra
from caloray.evaluation.means import compare_means, compare_widths, summarise
from caloray.evaluation.measure import Judged, measure
from caloray.evaluation.passes import InProcess, PassSettings, Progress, Reducer
from caloray.evaluation.profiles import compare_profiles
from caloray.evaluation.published import data_reasons
from caloray.evaluation.results import SCHEMA, Results, histogram_records, separation_table
from caloray.evaluation.sample import Sample
from caloray.evaluation.settings import MetricSettings
from caloray.evaluation.table import Table
from caloray.io.origin import origin_files
from caloray.io.source import FileSource, ShardSource, ShowerSource
from caloray.observables import depth_unit, radial_edges

FEWEST = 20
HALVINGS = 20
LOOKED_AT = {"none": 5000, "trees": 5000, "laptop": 20_000, "official": 200_000}
"""Showers whose voxels are looked at, by classifiers."""


def evaluate(
    reference: ShowerSource,
    generated: ShowerSource,
    *,
    names: tuple[str, str] = ("reference", "generated"),
    **options: Any,
) -> Results:
    """Compare one model with the reference: :func:`evaluate_all` for a single sample.

    Args:
        reference: Geant4 showers.
        generated: What is to be judged.
        names: What to call the two samples in the record (a file name, say).
        options: As for :func:`evaluate_all`.
    """
    return evaluate_all(reference, {names[1]: generated}, name=names[0], **options)[0]


def evaluate_all(
    reference: ShowerSource,
    generated: Mapping[str, ShowerSource],
    *,
    name: str = "reference",
    training: ShowerSource | None = None,
    threshold: float | None = None,
    seed: int = 0,
    n_halvings: int = HALVINGS,
    metrics: MetricSettings = MetricSettings(),  # noqa: B008  (frozen)
    threads: int | None = None,
    progress: Progress | None = None,
    reduce: Reducer | None = None,
) -> list[Results]:
    """Histograms, means and metrics of several models against one reference, each with its floor or error.

    Counts are integers and sums exact: the order of showers and their spread over files do not matter.

    Args:
        reference: Geant4 showers.
        generated: Name and showers of each model.
        name: What to call the reference in the records.
        training: Showers that the models were trained on, to see whether they copy.
        threshold: Voxels below this energy [MeV] are set to zero in all samples; by default the challenge's
            threshold for its geometries and none for others.
        seed: Seed of halvings, pairs and classifiers.
        n_halvings: Random halvings behind the floors of histograms (2 to 64).
        metrics: What is measured beyond histograms and means.
        threads: Worker threads; by default up to four, as cores are available.
        progress: Called with (stage, done, in all).
        reduce: Who reads the showers, this process by default.

    Returns:
        One record per model, with the keys of :func:`_facts`, :func:`_compare` and
        :func:`caloray.evaluation.measure.measure`; timing and diphoton are None, others fill them.

    Raises:
        GeometryError: The samples are of different geometries.
        DataError: Fewer than 20 showers in a sample, or showers that cannot be used.
        ConfigError: An impossible threshold or number of halvings.
    """
    for label, source in (*generated.items(), *([("training", training)] if training else [])):
        _check(reference, source, (name, label), threshold, n_halvings)
    cut = default_threshold(reference.geometry) if threshold is None else threshold
    ids, energies = incident_energies(reference)
    plain = PassSettings(cut, seed, Halves(seed, n_halvings), most=metrics.most, threads=threads)
    same = replace(plain, halves=Halves.matched(ids, energies, seed, n_halvings))
    reduce = reduce or InProcess()
    known: dict[bool, _Reference] = {}
    results = []
    for label, source in generated.items():
        matched = compare_spectra(np.sort(energies), np.sort(incident_energies(source)[1])).identical
        if matched not in known:
            settings = same if matched else plain
            known[matched] = _Reference(
                name, reference, settings, *reduce.reference(reference, settings, progress)
            )
        other = reduce.generated(source, known[matched].axes, known[matched].settings, progress)
        results.append(_judge(known[matched], label, source, other, training, metrics, progress))
    return results


@dataclass(frozen=True)
class _Reference:
    """The reference, read with the halves that suit a model."""

    name: str
    source: ShowerSource
    settings: PassSettings
    axes: tuple[Axis, ...]
    sample: Sample
    table: Table


def _judge(
    reference: _Reference,
    label: str,
    source: ShowerSource,
    other: tuple[Sample, Table],
    training: ShowerSource | None,
    metrics: MetricSettings,
    progress: Progress | None,
) -> Results:
    """The whole record of one model."""
    axes, first, settings = reference.axes, reference.sample, reference.settings
    second, table = other
    judged = Judged(reference.source, reference.table, settings.threshold, LOOKED_AT[metrics.classifiers])
    found, missing = measure(
        judged, replace(judged, source=source, table=table), training, metrics, settings.seed, progress
    )
    response = e_ratio_metric(axes, first, second)
    if response is None:
        missing.insert(0, "chi2 of E_tot / E_inc left out: too few showers of a sample are in its range")
    else:
        found["metrics"].insert(0, response.to_dict())
    profiles, follow, left_out = compare_profiles(
        reference.table, table, reference.source.conditions, settings.seed, settings.halves.number
    )
    found["metrics"] += [metric.to_dict() for metric in follow]
    missing += left_out
    record = _facts(reference.source, source, (reference.name, label), settings, metrics)
    record |= {"profiles": profiles} if profiles else {}
    record |= _compare(axes, first, second, same_showers=reference.source.digest == source.digest) | found
    record["warnings"] += [*doubts(reference.table, table), *missing]
    record["not_comparable"] = data_reasons(record)
    if record["not_comparable"]:
        for one in (*record["metrics"], *record["classifiers"]):
            one["comparable"] = False
    return Results(record)


def _facts(
    reference: ShowerSource,
    generated: ShowerSource,
    names: tuple[str, str],
    settings: PassSettings,
    metrics: MetricSettings,
) -> dict[str, Any]:
    """What was compared with what, and how."""
    geometry = reference.geometry
    return {
        "schema": SCHEMA,
        "caloray": caloray.__version__,
        "versions": {name: metadata.version(name) for name in ("numpy", "scipy", "scikit-learn", "torch")},
        "geometry": {**geometry.to_dict(), "digest": geometry.digest, "binning": family(geometry)},
        "radial_edges": [float(edge) for edge in radial_edges(geometry)],
        "depth_unit": depth_unit(geometry),
        "threshold": settings.threshold,
        "seed": settings.seed,
        "halvings": settings.halves.number,
        "matched_halves": settings.halves.ids is not None,
        "settings": metrics.model_dump(mode="json"),
        "reference": _source(reference, names[0]),
        "generated": _source(generated, names[1]),
        "timing": None,
        "diphoton": None,
    }


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
        "average_voxels": {
            "reference": [float(value) for value in first.average_voxels()],
            "generated": [float(value) for value in second.average_voxels()],
        },
        "histograms": records,
    }


def _source(source: ShowerSource, name: str) -> dict[str, Any]:
    match source:
        case FileSource():
            files = origin_files(source.path)
        case ShardSource():
            files = origin_files(source.directory)
        case _:
            files = []
    return {"name": name, "digest": source.digest, "showers": source.n_showers, "files": files}


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
