"""Means and widths of two samples with statistical errors, and their ratios."""

from __future__ import annotations

__all__ = ["SHARE", "compare_means", "compare_widths", "summarise"]

from typing import Any

import numpy as np

from caloray.evaluation.sample import Sample, column_spans

SHARE = 0.005  # of the shower's energy that a layer must hold to count in "worst layer"


def compare_means(reference: Sample, generated: Sample, *, same_energies: bool) -> dict[str, Any]:
    """Mean of every quantity of ``sample.COLUMNS`` in both samples, and the ratio.

    Args:
        reference: Geant4 showers.
        generated: The others.
        same_energies: Both have the same incident energies. The spread of a quantity that only follows the
            incident energy then cancels in the ratio, and the errors are those of the residuals of a linear
            regression on the incident energy (the control-variate estimate).

    Returns:
        For each quantity ``{"reference": {"mean", "error"}, "generated": ..., "ratio": {"value", "error"}}``
        with lists of numbers; a ratio is None where the reference is empty.
    """
    first = _means(reference, same_energies=same_energies)
    second = _means(generated, same_energies=same_energies)
    ratio, error = _ratios(first, second)
    compared = {}
    for name, span in column_spans(reference.geometry).items():
        compared[name] = {
            "reference": {"mean": _numbers(first[0][span]), "error": _numbers(first[1][span])},
            "generated": {"mean": _numbers(second[0][span]), "error": _numbers(second[1][span])},
            "ratio": {"value": _numbers(ratio[span]), "error": _numbers(error[span])},
        }
    return compared


def compare_widths(reference: Sample, generated: Sample) -> dict[str, Any]:
    """Standard deviation of E_tot / E_inc in both samples, and the ratio.

    The error of a standard deviation s is sqrt((m4 - s^4) / (4 s^2 n)), m4 the fourth central moment.
    """
    first, second = _width(reference), _width(generated)
    ratio, error = _ratios(
        (np.array(first[:1]), np.array(first[1:])), (np.array(second[:1]), np.array(second[1:]))
    )
    return {
        "reference": {"value": first[0], "error": first[1]},
        "generated": {"value": second[0], "error": second[1]},
        "ratio": {"value": _numbers(ratio)[0], "error": _numbers(error)[0]},
    }


def summarise(means: dict[str, Any], widths: dict[str, Any]) -> dict[str, Any]:
    """The few numbers that come first: response, its width, hits, sparsity, and the layers' mean energies."""
    energies = means["layer_energy"]
    total = sum(energies["reference"]["mean"]) or 1.0
    ratios = energies["ratio"]
    layers = [
        {"layer": i, "share": mean / total, "ratio": ratio, "error": error}
        for i, (mean, ratio, error) in enumerate(
            zip(energies["reference"]["mean"], ratios["value"], ratios["error"], strict=True)
        )
    ]
    large = [layer for layer in layers if layer["share"] > SHARE and layer["ratio"] is not None]
    return {
        "e_ratio_mean": _single(means["e_ratio"]),
        "e_ratio_width": widths,
        "hits_mean": _single(means["hits"]),
        "sparsity_mean": _single(means["sparsity"]),
        "layers": layers,
        "worst_layer": max(large, key=lambda layer: abs(layer["ratio"] - 1.0), default=None),
        "worst_layer_share": SHARE,
    }


def _single(mean: dict[str, Any]) -> dict[str, Any]:
    return {
        side: {"value": mean[side]["mean"][0], "error": mean[side]["error"][0]}
        for side in ("reference", "generated")
    } | {"ratio": {key: values[0] for key, values in mean["ratio"].items()}}


def _means(sample: Sample, *, same_energies: bool) -> tuple[np.ndarray, np.ndarray]:
    """(columns,) means and their errors."""
    n = sample.n
    sums, squares, crossed = sample.sums()
    incident, incident_squares = sample.incident_sums()
    variance = squares / n - (sums / n) ** 2
    spread = incident_squares / n - (incident / n) ** 2
    if same_energies and spread > 0:
        variance = variance - (crossed / n - sums / n * incident / n) ** 2 / spread
    return sums / n, np.sqrt(np.clip(variance, 0.0, None) / max(1, n - 1))


def _width(sample: Sample) -> tuple[float, float]:
    _, second, fourth = sample.ratio_moments()
    if second <= 0:
        return 0.0, 0.0
    return second**0.5, float(np.sqrt(max(0.0, fourth - second**2) / (4 * second * sample.n)))


def _ratios(
    first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Second over first with propagated errors; NaN where first is zero."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(first[0] != 0, second[0] / first[0], np.nan)
        error = np.sqrt(second[1] ** 2 + (ratio * first[1]) ** 2) / np.abs(first[0])
    return ratio, error


def _numbers(values: np.ndarray) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]
