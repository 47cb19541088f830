"""Fit of the spectrum correction: the same share of voxels shall lie above e before as above f(e) after."""

from __future__ import annotations

__all__ = ["FEWEST", "fit_spectrum"]

from collections.abc import Mapping

import numpy as np

from caloray.errors import DataError
from caloray.postprocess.histogram import FineSpectrum
from caloray.postprocess.spectrum import MOST_NODES, SpectrumCorrection

FEWEST = 200
"""Voxels between two nodes, and above the last but one, in either sample."""
HEADROOM = 2.0


def fit_spectrum(
    reference: FineSpectrum,
    generated: FineSpectrum,
    fitted_on: Mapping[str, str | int | float] | None = None,
    most_nodes: int = MOST_NODES,
) -> SpectrumCorrection:
    """Match the quantiles of two voxel spectra above one threshold.

    The nodes are equally spaced in the logarithm of the generated energy; those with fewer than
    :data:`FEWEST` voxels between them are left out. The threshold stays where it is, so the number of
    voxels above it is not corrected. Above the last node with enough voxels the factor stays the same.

    Args:
        reference: Voxels of the reference showers.
        generated: Voxels of generated showers of the same incident particles.
        fitted_on: What they were, to be recorded.
        most_nodes: At most so many nodes, 2 to 128.

    Raises:
        DataError: Too few voxels above the threshold to fit anything, or two thresholds.
    """
    for name, spectrum in (("reference", reference), ("generated", generated)):
        if spectrum.total < 2 * FEWEST:
            raise DataError(
                f"spectrum correction: {spectrum.total} {name} voxels above {spectrum.threshold:g} MeV, "
                f"at least {2 * FEWEST} are needed",
                hint="give more showers, or a lower threshold",
            )
    if reference.threshold != generated.threshold:
        raise DataError(
            f"spectrum correction: reference above {reference.threshold:g} MeV, generated above "
            f"{generated.threshold:g} MeV",
            hint="count both above one threshold",
        )
    threshold, largest = generated.threshold, generated.largest
    scale = np.log(largest / threshold)
    if scale <= 0:
        raise DataError(
            f"spectrum correction: no generated voxel is above the threshold of {threshold:g} MeV",
            hint="give a lower threshold",
        )
    nodes = np.linspace(0.0, 1.0, most_nodes)
    share = _share_above(generated, threshold * np.exp(scale * nodes))
    kept = _well_filled(share, FEWEST / min(reference.total, generated.total))
    inner = np.log(_quantiles(reference, share[kept]) / threshold) / scale
    inner = np.maximum.accumulate(np.append(0.0, inner[1:]))  # against rounding
    values = np.append(inner, inner[-1] + 1.0 - nodes[kept[-1]])
    nodes = np.append(nodes[kept], 1.0)
    return SpectrumCorrection(
        threshold=threshold,
        largest=largest,
        ceiling=HEADROOM * max(reference.largest, largest, threshold * float(np.exp(scale * values[-1]))),
        nodes=tuple(nodes.tolist()),
        values=tuple(values.tolist()),
        slopes=_slopes(nodes, values),
        fitted_on=dict(fitted_on or {}),
    )


def _share_above(spectrum: FineSpectrum, energies: np.ndarray) -> np.ndarray:
    """Share of the voxels that lie above each of some energies [MeV]."""
    edges, above = spectrum.above()
    return np.asarray(np.interp(np.log(energies), np.log(edges), above / spectrum.total))


def _quantiles(spectrum: FineSpectrum, share: np.ndarray) -> np.ndarray:
    """Energies [MeV] above which a given share of the voxels lies; the inverse of :func:`_share_above`."""
    edges, above = spectrum.above()
    return np.asarray(np.exp(np.interp(-share, -above / spectrum.total, np.log(edges))))


def _well_filled(share: np.ndarray, fewest: float) -> np.ndarray:
    """Positions, the first one included, with enough voxels between them and above the last one."""
    kept = [0]
    for i in range(1, len(share) - 1):
        if share[kept[-1]] - share[i] >= fewest and share[i] >= fewest:
            kept.append(i)
    return np.array(kept)


def _slopes(nodes: np.ndarray, values: np.ndarray) -> tuple[float, ...]:
    """Derivatives of the monotone cubic interpolant (PCHIP: Fritsch and Butland, SISSC 5 (1984) 300)."""
    from scipy.interpolate import PchipInterpolator

    slopes = PchipInterpolator(nodes, values).derivative()(nodes)
    return tuple(np.maximum(slopes, 0.0).tolist())
