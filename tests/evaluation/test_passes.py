"""Threads, what is held in memory and what is read twice: nothing of it shows in the outcome."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from caloray.errors import NumericalError
from caloray.evaluation import hold
from caloray.evaluation.axes import default_threshold
from caloray.evaluation.halves import Halves
from caloray.evaluation.passes import InProcess, PassSettings, find_extremes, new_extremes, reduce_reference
from caloray.evaluation.sample import Sample
from caloray.evaluation.table import Table
from caloray.showers import Showers


def equal_samples(first: Sample, second: Sample) -> None:
    assert first.n == second.n
    for a, b in zip(first.axes, second.axes, strict=True):
        assert a.name == b.name
        np.testing.assert_array_equal(a.edges, b.edges)
    for i in range(len(first.axes)):
        np.testing.assert_array_equal(first.counts(i), second.counts(i))
        np.testing.assert_array_equal(first.half_counts(i), second.half_counts(i))
    for read in (
        lambda s: s.n_half,
        lambda s: s.voxel_squares,
        lambda s: s.histograms.half_voxel_squares,
        lambda s: s.energies,
        lambda s: s.average_shower(),
        lambda s: s.average_voxels(),
        lambda s: np.concatenate(s.sums()),
        lambda s: np.array([*s.incident_sums(), *s.ratio_moments()]),
    ):
        assert read(first).tobytes() == read(second).tobytes()


def equal_tables(first: Table, second: Table) -> None:
    assert first.n == second.n
    assert first.ids.tobytes() == second.ids.tobytes()
    assert first.rows.tobytes() == second.rows.tobytes()


@pytest.fixture(scope="module")
def plain(halves: Any) -> Any:
    """The reference in one thread, in the order and the chunks of the source."""
    cut = default_threshold(halves[0].geometry)
    return reduce_reference(halves[0], PassSettings(cut, 3, Halves(3, 6), threads=1))


@pytest.mark.parametrize(("threads", "rows", "held"), [(3, 50, 1 << 30), (1, 113, 0), (2, 70, 400_000)])
def test_threads_and_memory_change_nothing(
    halves: Any, source: Any, plain: Any, monkeypatch: pytest.MonkeyPatch, threads: int, rows: int, held: int
) -> None:
    monkeypatch.setattr(hold, "HELD_BYTES", held)
    monkeypatch.setattr(hold, "COUNT_ROWS", 100)
    order = np.random.default_rng(threads).permutation(750)
    half = source(halves[0].showers.select(order), halves[0].geometry, rows=rows)
    stages: list[str] = []
    settings = PassSettings(default_threshold(half.geometry), 3, Halves(3, 6), threads=threads)
    axes, sample, table = InProcess().reference(half, settings, lambda stage, *_: stages.append(stage))
    assert len(axes) == len(plain[0])
    equal_samples(sample, plain[1])
    equal_tables(table, plain[2])
    chunks = -(-750 // rows)
    assert len(stages) == chunks * (1 if held >= 1 << 30 else 2)  # read once, or twice


def test_a_capped_table_leaves_the_counts_alone(halves: Any, plain: Any) -> None:
    settings = PassSettings(default_threshold(halves[0].geometry), 3, Halves(3, 6), most=100)
    _, sample, table = reduce_reference(halves[0], settings)
    equal_samples(sample, plain[1])
    assert len(table) == 100
    rows = np.searchsorted(plain[2].ids, table.ids)
    assert table.rows.tobytes() == plain[2].rows[rows].tobytes()


def test_extremes_of_parts(halves: Any, source: Any) -> None:
    half, settings = halves[0], PassSettings(0.0)
    whole, joined = find_extremes(half, settings), new_extremes(half.geometry, settings)
    for a, b in reversed(list(itertools.pairwise((0, 200, 201, 750)))):
        joined.merge(find_extremes(source(half.showers.select(slice(a, b)), half.geometry), settings))
    assert whole.voxel == joined.voxel == half.showers.voxels.max()
    assert whole.incident == joined.incident
    assert whole.hits == joined.hits == (half.showers.voxels > 0).sum(axis=1).max()
    np.testing.assert_array_equal(whole.layers, joined.layers)
    np.testing.assert_array_equal(whole.layer_hits, joined.layer_hits)
    assert whole.range("r90") == joined.range("r90")


def test_average_voxels(halves: Any, plain: Any) -> None:
    voxels = halves[0].showers.voxels
    kept = np.where(voxels < default_threshold(halves[0].geometry), 0, voxels)
    np.testing.assert_allclose(
        plain[1].average_voxels(), kept.mean(axis=0, dtype=np.float64), rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_of_a_thread_arrives(halves: Any, source: Any, threads: int) -> None:
    voxels = halves[0].showers.voxels.copy()
    voxels[333, 7] = np.nan
    showers = Showers(halves[0].showers.incident_energies, voxels, halves[0].showers.ids)
    bad = source(showers, halves[0].geometry, rows=20)
    with pytest.raises(NumericalError, match="not finite"):
        reduce_reference(bad, PassSettings(0.0, threads=threads))
