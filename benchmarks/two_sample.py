"""Do two back-ends draw from the same distribution? Chi-squared tests on many showers, with the floor.

    python benchmarks/two_sample.py runs/par04_ds2/bundle native torch [--showers 100000] [--floors 4]

The first back-end draws several samples, the second one, each with random streams of its own. The first's
samples among each other give the floor: what two samples of one back-end show. Every histogram of the
evaluation is compared (bins with fewer than ten entries are joined with their neighbours). Under the
hypothesis that both samples have one distribution, chi2 / ndf is 1 and the smallest of n p-values about 1/n;
as the histograms are correlated, how far both scatter is read from the floor.
"""

from __future__ import annotations

import argparse
import time
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats

from caloray.atomic import write_json
from caloray.bundle import Bundle
from caloray.evaluation.axes import Axis, build_axes, default_threshold
from caloray.evaluation.extremes import Extremes
from caloray.evaluation.quantities import Seen
from caloray.evaluation.sample import Sample
from caloray.rng import StreamKey
from caloray.schemes.streams import BlockStreams
from caloray.showers import Showers

BLOCK = 2000
LEAST = 10


def energies(bundle: Bundle, seed: int, block: int, count: int) -> np.ndarray:
    low, high = bundle.energy_range
    generator = StreamKey(seed, "two-sample", "energies", block).generator()
    return np.exp(generator.uniform(np.log(low), np.log(high), count))


def draw(bundle: Bundle, seed: int, showers: int, axes: tuple[Axis, ...], threshold: float) -> Sample:
    """Boil a sample down to its histograms, block by block."""
    sample = Sample(bundle.geometry, axes, threshold)
    start = time.process_time()
    for block, first in enumerate(range(0, showers, BLOCK)):
        incident = energies(bundle, seed, block, min(BLOCK, showers - first))
        streams = BlockStreams(StreamKey(seed, "", "", block, 0))
        voxels = bundle.scheme.sample(bundle.flows, incident, streams).voxels
        voxels = np.where(voxels < threshold, 0, voxels)
        drawn = Showers(incident, voxels, first + np.arange(len(incident)))
        sample.add(Seen.of(drawn, bundle.geometry, threshold))
        if block % 10 == 0:
            spent = time.process_time() - start
            print(
                f"{bundle.backend}, seed {seed}: {first + len(incident)} showers, {spent:.0f} s", flush=True
            )
    return sample


def histograms(bundle: Bundle, threshold: float) -> tuple[Axis, ...]:
    """Axes whose ranges come from a few showers of the bundle itself."""
    extremes = Extremes(bundle.geometry)
    incident = energies(bundle, 99, 0, BLOCK)
    voxels = bundle.scheme.sample(bundle.flows, incident, BlockStreams(StreamKey(99, "", "", 0, 0))).voxels
    extremes.add(Seen.of(Showers(incident, voxels, np.arange(BLOCK)), bundle.geometry, threshold))
    return build_axes(bundle.geometry, threshold, extremes)


def chi_squared(first: Sample, second: Sample, axis: int) -> dict[str, Any] | None:
    """Homogeneity of one histogram; the voxels of a shower are correlated, so their variance is measured."""
    a, b = first.counts(axis).astype(float), second.counts(axis).astype(float)
    var_a, var_b = (
        (first.voxel_squares, second.voxel_squares)
        if first.axes[axis].observable == "voxel_energy"
        else (a, b)
    )
    joined = _join(a + b)
    a, b, var_a, var_b = (np.bincount(joined, weights=w) for w in (a, b, var_a, var_b))
    if len(a) < 2:
        return None
    ratio = first.n / second.n
    value = float(((a - ratio * b) ** 2 / (var_a + ratio**2 * var_b)).sum())
    degrees = len(a) - 1
    return {"chi2": value, "ndf": degrees, "p": float(stats.chi2.sf(value, degrees))}


def _join(counts: np.ndarray) -> np.ndarray:
    """Number of the group of each bin; a group ends when it has enough entries, the rest joins the last."""
    groups, group, held = np.zeros(len(counts), dtype=np.int64), 0, 0.0
    for i, count in enumerate(counts):
        groups[i] = group
        held += count
        if held >= LEAST:
            group, held = group + 1, 0.0
    return np.minimum(groups, max(group - 1, 0))


def compare(first: Sample, second: Sample) -> dict[str, Any]:
    tests: dict[str, list[dict[str, Any]]] = {}
    for index, axis in enumerate(first.axes):
        if axis.observable != "incident_energy" and (test := chi_squared(first, second, index)) is not None:
            tests.setdefault(axis.observable, []).append(test)
    p = np.array([test["p"] for group in tests.values() for test in group])
    return {
        "tests": len(p),
        "smallest_p": float(p.min()),
        "below_0.01": int((p < 0.01).sum()),
        "chi2": sum(test["chi2"] for group in tests.values() for test in group),
        "ndf": sum(test["ndf"] for group in tests.values() for test in group),
        "observables": tests,
    }


def table(results: dict[str, list[dict[str, Any]]]) -> str:
    lines = [
        "| samples | pairs | histograms | chi2 / ndf of each pair | smallest p x n | p < 0.01 (expected) |"
    ]
    lines.append("|---|---|---|---|---|---|")
    for name, pairs in results.items():
        ratios = ", ".join(f"{pair['chi2'] / pair['ndf']:.3f}" for pair in pairs)
        smallest = ", ".join(f"{pair['smallest_p'] * pair['tests']:.2f}" for pair in pairs)
        expected = 0.01 * pairs[0]["tests"]
        below = ", ".join(str(pair["below_0.01"]) for pair in pairs)
        cells = (name, len(pairs), pairs[0]["tests"], ratios, smallest, f"{below} ({expected:.1f})")
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("backends", nargs=2)
    parser.add_argument("--showers", type=int, default=100_000)
    parser.add_argument("--floors", type=int, default=4, help="samples of the first back-end")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    one, two = (Bundle.load(options.bundle, backend=name) for name in options.backends)
    threshold = default_threshold(one.geometry)
    axes = histograms(one, threshold)
    own = [draw(one, 1 + i, options.showers, axes, threshold) for i in range(options.floors)]
    other = draw(two, 1000, options.showers, axes, threshold)
    results = {
        f"{one.backend}, {one.backend} (floor)": [compare(a, b) for a, b in combinations(own, 2)],
        f"{one.backend}, {two.backend}": [compare(a, other) for a in own],
    }
    print(table(results))
    if options.json:
        numerics = {"first": one.numerics, "second": two.numerics}
        write_json(options.json, {"showers": options.showers, **numerics, "results": results})


if __name__ == "__main__":
    main()
