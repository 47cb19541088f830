"""Which data set of the CaloChallenge a leaderboard is for."""

from __future__ import annotations

__all__ = ["find_benchmark"]

import difflib

from caloray.errors import ConfigError
from caloray.evaluation.published import BENCHMARKS, Benchmark


def find_benchmark(name: str) -> Benchmark:
    """The data set of this name.

    Raises:
        ConfigError: There is none.
    """
    known = [benchmark.name for benchmark in BENCHMARKS]
    if name not in known:
        close = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5)
        meant = f"did you mean {close[0]!r}? " if close else ""
        raise ConfigError(
            f"the CaloChallenge has no data set {name!r}", hint=f"{meant}known: {', '.join(known)}"
        )
    return BENCHMARKS[known.index(name)]
