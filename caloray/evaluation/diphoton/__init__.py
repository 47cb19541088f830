"""From which distance on are two photons seen as two? Turn-on curves of real, generated and mixed pairs."""

from __future__ import annotations

__all__ = ["PairSettings", "compare_diphotons"]

from caloray.evaluation.diphoton.run import compare_diphotons
from caloray.evaluation.diphoton.settings import PairSettings
