"""From the names of steps to fitted steps."""

from __future__ import annotations

__all__ = ["fit_steps", "parse_steps"]

from collections.abc import Mapping

import numpy as np

from caloray.calibration.generated import Generated
from caloray.calibration.reference import Reference, Tell
from caloray.errors import ConfigError
from caloray.geometry import Geometry
from caloray.postprocess.fit import fit_spectrum
from caloray.postprocess.histogram import FineSpectrum
from caloray.postprocess.renormalise import Renormalise
from caloray.postprocess.steps import VERSIONS, PostProcessing, apply


def parse_steps(text: str) -> tuple[str, ...]:
    """Names of steps from ``renormalise,spectrum,...``.

    Raises:
        ConfigError: An unknown name, no name, or two spectrum corrections.
    """
    names = tuple(word.strip() for word in text.split(","))
    unknown = [name for name in names if name not in VERSIONS]
    if unknown:
        raise ConfigError(
            f"--steps {text!r}: no step {unknown[0]!r}", hint=f"known steps: {', '.join(VERSIONS)}"
        )
    if names.count("spectrum") > 1:
        raise ConfigError(f"--steps {text!r}: spectrum can be fitted once only", hint="leave one of them out")
    return names


def fit_steps(
    names: tuple[str, ...],
    threshold: float,
    reference: Reference | None,
    generated: Generated | None,
    fitted_on: Mapping[str, str | int | float],
    tell: Tell,
) -> PostProcessing:
    """Fit steps one after the other, each to showers that the steps before it have passed.

    Args:
        names: What :func:`parse_steps` gave.
        threshold: Readout threshold [MeV] of all steps.
        reference: Reference showers; only ``spectrum`` needs them.
        generated: Showers of the model; likewise.
        fitted_on: What is recorded of the data, besides numbers of showers and voxels.
        tell: Is told about the progress.

    Raises:
        ConfigError: A step needs showers and there are none.
        DataError: Too few voxels to fit.
    """
    steps: PostProcessing = ()
    for name in names:
        if name == "renormalise":
            steps = (*steps, Renormalise(threshold=threshold))
            continue
        if reference is None or generated is None:
            raise ConfigError("step spectrum is fitted to reference showers", hint="give --reference")
        spectrum, showers = _spectrum(steps, threshold, generated, reference.source.geometry, tell)
        facts = {
            **fitted_on,
            "reference_showers": len(reference.fit),
            "reference_voxels": reference.spectrum.total,
            "generated_showers": showers,
            "generated_voxels": spectrum.total,
        }
        steps = (*steps, fit_spectrum(reference.spectrum, spectrum, facts))
    return steps


def _spectrum(
    steps: PostProcessing, threshold: float, generated: Generated, geometry: Geometry, tell: Tell
) -> tuple[FineSpectrum, int]:
    spectrum, showers = FineSpectrum(threshold), 0
    for piece in generated.pieces(held_out=False):
        voxels = apply(steps, piece.voxels, piece.layer_energies, geometry)
        valid = np.isfinite(voxels).all(axis=1)
        spectrum.add(voxels[valid])
        showers += int(valid.sum())
        tell("generated, fit", len(voxels))
    return spectrum, showers
