"""Ranking and promotion against references that try everything."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from caloray.tuning.ledger import Trial, TrialResult
from caloray.tuning.promotion import promotion
from caloray.tuning.ranking import best_first, best_trials, crowding, pareto_front, pareto_ranks

NAMES = ("a", "b")
POINTS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=12)


def complete(number: int, *values: float) -> TrialResult:
    return TrialResult(number, "complete", dict(zip(NAMES, map(float, values), strict=False)))


def searched(number: int, rung: int = 0, parent: int | None = None) -> Trial:
    return Trial(number, "search", {"x": number}, 1, {"c": 1}, "d", rung=rung, parent=parent)


@given(POINTS)
def test_pareto_ranks_are_the_longest_chains_of_better_points(points):
    def better(p, q):
        return p != q and p[0] <= q[0] and p[1] <= q[1]

    chain: dict = {}
    for point in sorted(set(points)):  # a better point sorts before
        chain[point] = max((chain[other] + 1 for other in chain if better(other, point)), default=0)
    assert pareto_ranks([tuple(map(float, p)) for p in points]) == [chain[p] for p in points]


@given(POINTS)
def test_the_front_is_what_none_is_better_than(points):
    results = {i: complete(i, *point) for i, point in enumerate(points)}
    front = pareto_front(results, NAMES)
    for i, (a, b) in enumerate(points):
        beaten = any(c <= a and d <= b and (c, d) != (a, b) for c, d in points)
        assert (i in front) != beaten
    assert best_first(results, NAMES)[: len(front)] != [] or not points
    assert set(best_first(results, NAMES)[: len(front)]) == set(front)


def test_crowding_of_a_small_front():
    assert crowding([(0.0, 4.0), (1.0, 2.0), (4.0, 0.0)]) == [float("inf"), 2.0, float("inf")]


def test_equal_results_stand_in_the_order_of_their_numbers():
    results = {3: complete(3, 1.0), 1: complete(1, 1.0), 2: complete(2, 0.5), 0: TrialResult(0, "failed")}
    assert best_first(results, ("a",)) == [2, 1, 3]


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.one_of(st.none(), st.just("failed"), st.integers(0, 4))), max_size=25
    ),
    st.integers(2, 4),
    st.data(),
)
def test_promotion_against_a_reference(entries, factor, data):
    trials, results = [], {}
    for number, (rung, outcome) in enumerate(entries):
        candidates = [t.number for t in trials if t.rung == rung - 1]
        parent = data.draw(st.sampled_from(candidates)) if rung and candidates else None
        trials.append(searched(number, rung if parent is not None else 0, parent))
        if outcome is not None:
            failed = outcome == "failed"
            results[number] = TrialResult(number, "failed") if failed else complete(number, outcome)
    expected = None
    for rung in (1, 0):  # Li et al. 2020, algorithm 2, get_job
        ended = [t.number for t in trials if t.rung == rung and t.number in results]
        value = {n: results[n].objectives.get("a", float("inf")) for n in ended}
        top = [n for n in ended if sum((value[m], m) < (value[n], n) for m in ended) < len(ended) // factor]
        free = [
            n
            for n in top
            if results[n].complete and not any(t.parent == n and t.rung == rung + 1 for t in trials)
        ]
        if free:
            expected = (min(free, key=lambda n: (value[n], n)), rung + 1)
            break
    assert promotion(trials, results, ("a",), 3, factor) == expected


def test_several_objectives_promote_from_the_front():
    values = list(itertools.product((1.0, 2.0, 3.0), repeat=2))
    trials = [searched(n) for n in range(9)]
    results = {n: complete(n, *value) for n, value in enumerate(values)}
    assert promotion(trials, results, NAMES, 2, 3) == (0, 1)


def test_the_best_of_a_front_is_that_of_the_first_objective():
    values = [(3.0, 1.0), (1.0, 3.0), (2.0, 2.0), (0.5, 9.0), (0.6, 9.5)]
    trials = [searched(n) for n in range(5)]
    results = {n: complete(n, *value) for n, value in enumerate(values)}
    assert [trial.number for trial in best_trials(trials, results, NAMES)] == [3, 1, 2, 0, 4]
    assert [trial.number for trial in best_trials(trials, results, NAMES[:1])] == [3, 4, 1, 2, 0]


def test_a_generation_counts_when_all_its_members_have_ended():
    trials = [searched(n) for n in range(3)] + [searched(3 + n, 1, n) for n in range(3)]
    results = {n: complete(n, float(n)) for n in range(3)} | {
        3: complete(3, 9.0),
        4: TrialResult(4, "failed"),
    }
    names = NAMES[:1]
    assert [one.number for one in best_trials(trials, results, names, 3)] == [0, 1, 2]
    assert [one.number for one in best_trials(trials, results, names)] == [3, 0, 1, 2]
    results[5] = complete(5, 8.0)
    assert [one.number for one in best_trials(trials, results, names, 3)][:2] == [5, 3]
    assert [one.number for one in best_trials(trials[:2], results, names, 3)] == [0, 1]
