"""How good are generated showers? Histograms, separation powers and means, each with its floor or error."""

from __future__ import annotations

__all__ = ["Results", "default_threshold", "evaluate", "separation_power"]

from caloray.evaluation.axes import default_threshold
from caloray.evaluation.results import Results
from caloray.evaluation.run import evaluate
from caloray.evaluation.separation import separation_power
