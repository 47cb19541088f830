"""Which trial deserves the next longer training: asynchronous successive halving.

Reference: Li et al., "A system for massively parallel hyperparameter tuning" (MLSys 2020), algorithm 2. What
a promoted trial does differs: its training is a complete one with the longer schedule.
"""

from __future__ import annotations

__all__ = ["promotion"]

from collections.abc import Mapping, Sequence

from caloray.tuning.ledger import Trial, TrialResult
from caloray.tuning.ranking import best_first


def promotion(
    trials: Sequence[Trial], results: Mapping[int, TrialResult], names: Sequence[str], rungs: int, factor: int
) -> tuple[int, int] | None:
    """The next promotion, the highest rung first.

    Of the ``n`` trials of a rung that have ended, the best ``n // factor`` may go on; one that is not
    complete counts among the ``n`` but is never promoted.

    Args:
        trials: All of the campaign.
        results: By number.
        names: Of the objectives.
        rungs: How many rungs there are.
        factor: One in so many is promoted.

    Returns:
        Number of the trial and the rung that it goes to; None where nothing is due.
    """
    searched = [trial for trial in trials if trial.kind == "search"]
    promoted = {trial.parent for trial in searched}
    for rung in reversed(range(rungs - 1)):
        ended = {t.number: results[t.number] for t in searched if t.rung == rung and t.number in results}
        for number in best_first(ended, names)[: len(ended) // factor]:
            if number not in promoted:
                return number, rung + 1
    return None
