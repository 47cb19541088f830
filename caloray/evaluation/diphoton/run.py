"""The di-photon test of one or two samples: curves, fits, false splits and metrics in one record."""

from __future__ import annotations

__all__ = ["FILE_NAME", "SCHEMA", "Progress", "compare_diphotons"]

import math
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

import numpy as np

import caloray
from caloray.errors import ConfigError, GeometryError
from caloray.evaluation.diphoton.bank import Bank, Candidates, choose_candidates, gather
from caloray.evaluation.diphoton.bootstrap import binomial_errors, poisson_weights, replicate, variances
from caloray.evaluation.diphoton.curve import Curve, Way, split_rates, trace
from caloray.evaluation.diphoton.floors import (
    CURVES_PER_HALVING,
    SHARE_OF_PAIRS,
    difference_errors,
    halvings,
    pair_metrics,
)
from caloray.evaluation.diphoton.readout import Readout
from caloray.evaluation.diphoton.remarks import energy_remarks, repeat_remarks, slope_remarks
from caloray.evaluation.diphoton.settings import PairSettings
from caloray.evaluation.diphoton.shape import Shape, errors_of, shape_of, shapes_of
from caloray.geometry import Geometry
from caloray.io.source import ShowerSource

SCHEMA = "caloray-diphoton/1"
FILE_NAME = "diphoton.json"
SIDES = ("reference", "generated")
FINE = 121

Progress = Callable[[str, int, int], None]


def _require_inside(geometry: Geometry, settings: PairSettings) -> None:
    """Refuse distances at which the second photon would miss the readout."""
    edges = geometry.layers[0].first
    if max(settings.distances) > edges[-1] - edges[0]:
        raise ConfigError(
            f"distance {max(settings.distances):g} mm: {geometry.name} is {edges[-1] - edges[0]:g} mm wide",
            hint="give smaller distances; photons are resolved within a few cells",
        )


def compare_diphotons(
    reference: ShowerSource,
    generated: ShowerSource | None = None,
    settings: PairSettings | None = None,
    *,
    names: tuple[str, str] = SIDES,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Overlay pairs of showers and find from which distance on they are seen as two.

    Two different showers are drawn, one is moved by the distance, both are summed in cells of 5 mm, cells
    below the threshold are cut, the layers are summed and the image is smoothed; a pair is resolved when
    exactly two local maxima remain. A stand-in for a reconstruction: it ignores the depth of the showers.

    Args:
        reference: Geant4 showers of a Cartesian grid, entering at x = y = 0.
        generated: What is to be judged; without it there is one curve and no metric.
        settings: Default settings when omitted.
        names: What to call the samples in the record.
        progress: Called with (stage, done, in all).

    Returns:
        A JSON-able record (keys in the code below); the same samples and settings give the same one.

    Raises:
        GeometryError: Not a Cartesian grid of square cells, or different geometries.
        DataError: Fewer than 20 showers near an energy.
        ConfigError: Settings that do not fit the geometry.
    """
    settings = PairSettings() if settings is None else settings
    readout = Readout.of(reference.geometry, settings)
    _require_inside(reference.geometry, settings)
    sources = [reference] if generated is None else [reference, generated]
    _same_geometry(sources, names)
    banks = [
        gather(source, settings.energies, stage=name, progress=progress)
        for source, name in zip(sources, SIDES, strict=False)
    ]
    chosen, windows, warnings = choose_candidates(
        banks, names[: len(banks)], settings.energies, settings.window
    )
    warnings += energy_remarks(banks, chosen, names, settings) + repeat_remarks(banks, names)
    sides = [part.shifted(rows) for part, rows in zip(chosen, (0, len(banks[0])), strict=False)]
    bank = Bank.joined(banks)
    test = _Test(bank, sides, readout, settings, _Meter(progress, _work(settings, len(sides))))
    found = test.run()
    return {
        "schema": SCHEMA,
        "caloray": caloray.__version__,
        **_grid(reference, readout),
        "settings": settings.model_dump(mode="json"),
        "windows": list(windows),
        "generated": None,
        **{
            side: _side(source, name, bank, part, test.rates, settings)
            for side, source, name, part in zip(SIDES, sources, names, sides, strict=False)
        },
        **found,
        "warnings": warnings + test.warnings,
    }


class _Test:
    """Curves and what follows from them."""

    def __init__(
        self, bank: Bank, sides: list[Candidates], readout: Readout, settings: PairSettings, meter: _Meter
    ) -> None:
        self.bank, self.sides, self.readout, self.settings, self.meter = bank, sides, readout, settings, meter
        everyone = Candidates(*(np.concatenate([getattr(s, n) for s in sides]) for n in ("first", "second")))
        self.rates = split_rates(bank, everyone, readout)
        self.weights = poisson_weights(len(bank), settings.seed, settings.replicas)
        self.warnings: list[str] = []

    def run(self) -> dict[str, Any]:
        """The keys curves, differences and metrics of the record."""
        curves = {name: self._curve(name, ways) for name, ways in _ways(self.sides).items()}
        drawn = replicate(curves, len(self.bank), self.settings.seed, self.settings.replicas)
        shapes, samples = {}, {}
        for name, curve in curves.items():
            side = self.sides[-1 if name.startswith("generated") else 0]
            shapes[name] = shape_of(curve, self.rates, side)
            samples[name] = shapes_of(curve, drawn[name], self.weights, self.rates, side)
            self.warnings += slope_remarks(name, curve, shapes[name])
        record = {"curves": [self._curve_record(curves[n], shapes[n], samples[n]) for n in curves]}
        return record | self._differences(curves, shapes, samples)

    def _curve(self, name: str, ways: Sequence[Way]) -> Curve:
        return trace(name, self.bank, ways, self.readout, self.settings, self.meter.advance)

    def _curve_record(self, curve: Curve, shape: Shape, samples: Sequence[Shape]) -> dict[str, Any]:
        return {
            "name": curve.name,
            "pairs": curve.pairs,
            "resolved": [int(count) for count in curve.resolved.sum(axis=1)],
            "probability": curve.probability.tolist(),
            "binomial": binomial_errors(curve).tolist(),
            "error": np.sqrt(variances(curve, len(self.bank))).tolist(),
            "near": curve.near.tolist(),
            "fit": _fit_record(shape, samples),
            "band": _band(curve, shape, samples),
        }

    def _differences(
        self, curves: dict[str, Curve], shapes: dict[str, Shape], samples: dict[str, list[Shape]]
    ) -> dict[str, Any]:
        if len(self.sides) == 1:
            return {"differences": [], "metrics": []}
        first, *others = curves
        differences = [
            {
                "name": name,
                "minus": first,
                "delta": (shapes[name].probability - shapes[first].probability).tolist(),
                "error": difference_errors(
                    curves[name], curves[first], samples[name], samples[first]
                ).tolist(),
            }
            for name in others
        ]
        real, new = self.sides
        halves = halvings(self.bank, real, new, self.rates, self.readout, self.settings, self.meter.advance)
        showers = tuple(len(np.union1d(side.first, side.second)) for side in self.sides)
        metrics = pair_metrics(curves, shapes, samples, halves, self.settings, (showers[0], showers[1]))
        return {"differences": differences, "metrics": [metric.to_dict() for metric in metrics]}


class _Meter:
    """Adds up pairs for the caller's progress."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def advance(self, pairs: int) -> None:
        self._done += pairs
        if self._progress is not None:
            self._progress("pairs", self._done, self._total)


def _work(settings: PairSettings, sides: int) -> int:
    whole = settings.pairs * len(settings.distances)
    if sides == 1:
        return whole
    half = settings.pairs // SHARE_OF_PAIRS * len(settings.distances)
    return 3 * whole + CURVES_PER_HALVING * settings.halvings * half


def _ways(sides: Sequence[Candidates]) -> dict[str, list[Way]]:
    real, new = sides[0], sides[-1]
    ways = {"reference-reference": [(real.first, real.second)]}
    if len(sides) > 1:
        ways["generated-generated"] = [(new.first, new.second)]
        ways["reference-generated"] = [(real.first, new.second), (new.first, real.second)]
    return ways


def _same_geometry(sources: Sequence[ShowerSource], names: Sequence[str]) -> None:
    first, last = sources[0].geometry, sources[-1].geometry
    if first.digest != last.digest:
        raise GeometryError(
            f"{names[0]} is of geometry {first.name}, {names[1]} of {last.name}; expected one geometry",
            hint="compare showers of the same readout",
        )


def _side(
    source: ShowerSource, name: str, bank: Bank, part: Candidates, rates: np.ndarray, settings: PairSettings
) -> dict[str, Any]:
    photons = []
    for wanted, rows in zip(settings.energies, (part.first, part.second), strict=True):
        photons.append(
            {
                "energy": wanted,
                "showers": len(rows),
                "mean_energy": float(bank.incident[rows].mean()),
                "false_split": float(rates[rows].mean()),
                "false_split_error": float(rates[rows].std(ddof=1) / math.sqrt(len(rows))),
            }
        )
    return {"name": name, "digest": source.digest, "showers": source.n_showers, "photons": photons}


def _grid(source: ShowerSource, readout: Readout) -> dict[str, Any]:
    return {
        "geometry": {"name": source.geometry.name, "digest": source.geometry.digest},
        "cell_mm": readout.pitch * readout.granularity,
        "granularity": readout.granularity,
    }


def _fit_record(shape: Shape, samples: Sequence[Shape]) -> dict[str, Any] | None:
    if shape.fit is None:
        return None
    record: dict[str, Any] = {
        name: {"value": getattr(shape, name), "error": errors_of(attrgetter(name), samples)}
        for name in ("d50", "width", "plateau")
    }
    return record | {"base": shape.fit.base, "residual": shape.fit.residual}


def _band(curve: Curve, shape: Shape, samples: Sequence[Shape]) -> dict[str, list[float]] | None:
    """The fitted curve on a fine axis, with the central 68 % of the fits to the bootstrap samples."""
    fits = [sample.fit for sample in samples if sample.fit is not None]
    if shape.fit is None or len(fits) < len(samples) // 2:
        return None
    x = np.linspace(curve.distances[0], curve.distances[-1], FINE)
    low, high = np.quantile([fit(x) for fit in fits], (0.16, 0.84), axis=0)
    columns = {"distance": x, "value": shape.fit(x), "low": low, "high": high}
    return {name: np.round(column, 6).tolist() for name, column in columns.items()}
