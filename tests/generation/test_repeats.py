"""Particles that a list names twice are found whatever the order of its rows, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caloray.errors import DataError
from caloray.generation import particle_lists, repeats
from caloray.generation.particle_lists import resolve_particles
from caloray.generation.particle_sources import FileParticles, GridParticles
from caloray.generation.repeats import Order, first_repeat
from caloray.io.particle_record import ParticleRows
from caloray.io.particle_table import PARTICLES

Keys = list[tuple[int, int, int]]
KEYS = st.lists(st.tuples(st.integers(-1, 1), st.integers(-2, 2), st.integers(0, 3)), max_size=40)
WIDE = st.lists(st.tuples(st.integers(), st.integers(), st.integers(0, 9)), max_size=5)


def pieces(keys: Keys, size: int = 7) -> Iterator[ParticleRows]:
    table = np.array(keys, dtype=np.int64).reshape(-1, 3)
    for start in range(0, len(table), size):
        run, event, particle = table[start : start + size].T
        yield ParticleRows(np.ones(len(run)), run, event, particle, np.zeros(len(run)))


def by_hand(keys: Keys) -> tuple[int, int] | None:
    seen: dict[tuple[int, int, int], int] = {}
    for row, key in enumerate(keys):
        if key in seen:
            return seen[key], row
        seen[key] = row
    return None


@settings(max_examples=200, deadline=None)
@given(KEYS, st.integers(1, 9), st.sampled_from([1, 3, 100]))
def test_the_first_repeat_is_found(keys: Keys, size: int, limit: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(repeats, "LIMIT", limit)
        found = first_repeat(lambda: pieces(keys, size), len(keys))
    expected = by_hand(keys)
    assert (found and (found.first, found.second)) == expected
    if found is not None:
        assert found.key == keys[found.second]


@settings(max_examples=100, deadline=None)
@given(KEYS, st.integers(1, 9), st.booleans())
def test_only_lists_without_repeats_ascend(keys: Keys, size: int, ordered: bool) -> None:
    keys = sorted(set(keys)) if ordered else keys
    order = Order()
    for rows in pieces(keys, size):
        order.add(rows)
    assert order.ascending == all(before < after for before, after in pairwise(keys))


def test_large_numbers_and_equal_rows_stay_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeats, "LIMIT", 10)
    held: list[int] = []
    original = repeats._searched
    monkeypatch.setattr(repeats, "_searched", lambda table: (held.append(table.shape[1]), original(table))[1])
    far = [(1 << 62, -(1 << 62) + i, i % 3) for i in range(300)][::-1]
    assert first_repeat(lambda: pieces(far), len(far)) is None
    same = [(1, 2, 3)] * 300
    found = first_repeat(lambda: pieces(same), len(same))
    assert found is not None
    assert (found.first, found.second, found.key) == (0, 1, (1, 2, 3))
    assert max(held) <= 2 * 10 + 7


def table(path: Path, **columns: list[int]) -> Path:
    n = len(next(iter(columns.values())))
    pq.write_table(pa.table({"energy": np.linspace(1e3, 2e3, n), **columns}), path)
    return path


@pytest.mark.parametrize("write", [True, False])
@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"run": [1, 1, 1], "event": [1, 2, 1], "particle": [0, 0, 0]},
            "run 1, event 1, particle 0 stands in row 0 and again in row 2",
        ),
        ({"event": [1, 2, 1]}, "run 1, event 1, particle 0 stands in row 0 and again in row 2"),
        (
            {"event": [4, 4], "particle": [1, 1]},
            "run 1, event 4, particle 1 stands in row 0 and again in row 1",
        ),
    ],
)
def test_a_list_that_names_a_particle_twice(
    tmp_path: Path, write: bool, columns: dict[str, list[int]], message: str
) -> None:
    path = table(tmp_path / "p.parquet", **columns)
    for _ in range(2):
        with pytest.raises(DataError, match=message) as refused:
            resolve_particles(
                FileParticles(path=path), (1e3, 2e3), (), tmp_path / "out", "error", write=write
            )
        assert str(refused.value).startswith(f"{path}: ")
        assert refused.value.context["rows"] in ([0, 2], [0, 1])
        assert not (tmp_path / "out" / PARTICLES).exists()


def test_other_orders_and_other_runs_are_none_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    searches: list[int] = []
    monkeypatch.setattr(
        particle_lists,
        "first_repeat",
        lambda again, count: (searches.append(count), first_repeat(again, count))[1],
    )
    shuffled = table(tmp_path / "s.parquet", event=[3, 1, 2, 2], particle=[0, 0, 1, 0])
    runs = table(tmp_path / "r.parquet", run=[1, 1, 2, 2], event=[0, 1, 0, 1])
    for path in (shuffled, runs):
        found = resolve_particles(FileParticles(path=path), (1e3, 2e3), (), tmp_path / path.stem, "error")
        assert found.n == 4
    resolve_particles(GridParticles(energies=(1e3,), repeat=9), (1e3, 2e3), (), tmp_path / "g", "error")
    assert searches == [4]
