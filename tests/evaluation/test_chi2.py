"""chi2 of two histograms: formula, its distribution, correlated voxels, and its floor."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from caloray.evaluation.chi2 import chi2_record, e_ratio_metric, two_sample_chi2
from caloray.evaluation.halves import Halves
from caloray.evaluation.passes import InProcess, PassSettings
from caloray.evaluation.results import separation_table
from caloray.evaluation.run import evaluate as evaluate_fully
from caloray.evaluation.settings import QUICK
from caloray.showers import Showers

evaluate = partial(evaluate_fully, metrics=QUICK)


def test_formula_against_the_contingency_table() -> None:
    """With unequal totals it is Pearson's chi2 of the 2 x B table."""
    first, second = np.array([20, 40, 33, 11]), np.array([55, 71, 60, 40])
    expected = stats.chi2_contingency(np.stack([first, second]), correction=False)
    assert two_sample_chi2(first, second) == (pytest.approx(expected.statistic, rel=1e-12), expected.dof)


def test_thin_bins_are_joined() -> None:
    first, second = np.array([0, 1, 9, 20, 2, 3, 1]), np.array([1, 2, 8, 20, 2, 2, 0])
    joined = two_sample_chi2(np.array([10, 20, 6]), np.array([11, 20, 4]))
    assert two_sample_chi2(first, second) == joined
    assert joined is not None
    assert joined[1] == 2


def test_nothing_to_compare() -> None:
    some = np.array([3, 4])
    assert two_sample_chi2(some, np.zeros(2, dtype=int)) is None
    assert two_sample_chi2(some, some) is None  # one group
    assert two_sample_chi2(np.zeros(2, dtype=int), np.zeros(2, dtype=int)) is None


def test_one_per_degree_of_freedom() -> None:
    rng, p = np.random.default_rng(0), np.geomspace(1, 0.01, 30)
    pairs = [
        two_sample_chi2(rng.multinomial(3000, p / p.sum()), rng.multinomial(900, p / p.sum()))
        for _ in range(300)
    ]
    values = [stats.chi2.sf(*pair) for pair in pairs if pair is not None]
    assert stats.kstest(values, "uniform").pvalue > 1e-3


def test_records_of_geant4_against_itself(halves: Any) -> None:
    record = evaluate(*halves).data["histograms"]
    known = [h for h in record if h["chi2_per_ndf"] is not None]
    assert len(known) > 0.9 * len(record)
    for h in known:
        assert h["chi2_per_ndf"] == pytest.approx(h["chi2"] / h["ndf"])
        assert h["chi2_floor"] is not None
    layers = [h for h in known if h["observable"] == "layer_energy"]
    assert np.mean([h["chi2_floor"] for h in layers]) == pytest.approx(1.0, abs=0.1)
    spectrum = next(h for h in known if h["observable"] == "voxel_energy")
    assert spectrum["chi2_significance"] is None  # too skewed for spreads
    assert spectrum["chi2_rank"][1] == 20
    # Taken as independent, the voxels of a shower would look very different from sample to sample.
    counts = [np.array(spectrum[side]["counts"]) for side in ("reference", "generated")]
    naive = np.sum((counts[0] - counts[1]) ** 2 / (counts[0] + counts[1] + 1e-9)) / spectrum["ndf"]
    assert naive > 3 * spectrum["chi2_per_ndf"]


def test_metric_of_the_response(halves: Any, source: Any) -> None:
    reducer, settings = InProcess(), PassSettings(0.0152, halves=Halves(0, 20))
    axes, first, _ = reducer.reference(halves[0], settings)
    second, _ = reducer.generated(halves[1], axes, settings)
    same = e_ratio_metric(axes, first, second)
    assert same is not None
    assert same.floor == pytest.approx(1.0, abs=0.25)
    assert same.significance is not None
    assert abs(same.significance) < 4
    old = halves[1].showers
    scaled = source(
        Showers(old.incident_energies, old.voxels * np.float32(1.05), old.ids), halves[1].geometry
    )
    shifted = e_ratio_metric(axes, first, reducer.generated(scaled, axes, settings)[0])
    assert shifted is not None
    assert shifted.significance is not None
    assert shifted.significance > 5


def test_correlated_response_needs_three_halvings(halves: Any) -> None:
    reducer, settings = InProcess(), PassSettings(0.0152, halves=Halves(0, 2))
    axes, first, _ = reducer.reference(halves[0], settings)
    assert e_ratio_metric(axes, first, first) is None


@dataclass(frozen=True)
class Counts:
    """As much of a sample as chi2 and separation powers look at: layers that know nothing of each other."""

    axes: list[Any]
    whole: np.ndarray
    halves: np.ndarray
    n: int

    @property
    def n_half(self) -> np.ndarray:
        return np.full(self.halves.shape[1], self.n // 2)

    def counts(self, axis: int) -> np.ndarray:
        return np.asarray(self.whole[axis])

    def half_counts(self, axis: int) -> np.ndarray:
        return np.asarray(self.halves[axis])


def independent(observable: str, layers: int, tilt: float, seed: int, n: int = 2000) -> Counts:
    rng = np.random.default_rng(seed)
    p = np.linspace(1 - tilt, 1 + tilt, 20) / 20
    whole = np.zeros((layers, 22), dtype=int)
    whole[:, 1:-1] = rng.multinomial(n, p, size=layers)
    halves = np.stack([rng.multivariate_hypergeometric(one, n // 2, size=20) for one in whole])
    axes = [SimpleNamespace(observable=observable, layer=i) for i in range(layers)]
    return Counts(axes, whole, halves, n)


def row_of(first: Any, second: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    layers = range(len(first.axes))
    blank = {"separation": None, "significance": None}
    sides = {side: {"counts": [1], "underflow": 0, "overflow": 0} for side in ("reference", "generated")}
    records = [blank | sides | chi2_record(first, second, i) for i in layers]
    return separation_table(first.axes, records, first, second.n)[0], records


def test_the_mean_over_layers_has_the_spread_of_the_mean() -> None:
    first = independent("hits", 45, 0.0, 1)
    row, records = row_of(first, independent("hits", 45, 0.0, 2))
    single = np.mean([record["chi2_floor_spread"] for record in records])
    assert row["chi2_per_ndf"] == pytest.approx(np.mean([record["chi2_per_ndf"] for record in records]))
    assert row["chi2_floor"] == pytest.approx(np.mean([record["chi2_floor"] for record in records]))
    assert row["chi2_floor_spread"] == pytest.approx(single / np.sqrt(45), rel=0.5)
    assert abs(row["chi2_significance"]) < 4
    # A small tilt that no layer shows clearly: all of them together do.
    row, records = row_of(first, independent("hits", 45, 0.15, 3))
    assert np.median([record["chi2_significance"] for record in records]) < 3
    assert row["chi2_significance"] > 5
    assert row["chi2_rank"] == [20, 20]


def test_one_histogram_is_its_own_mean() -> None:
    first = independent("hits", 1, 0.0, 1)
    row, records = row_of(first, independent("hits", 1, 0.0, 2))
    assert {key: row[key] for key in row if key.startswith("chi2")} == {
        key: records[0][key] for key in row if key.startswith("chi2")
    }
