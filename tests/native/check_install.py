"""Is an installed caloray whole? ``python check_install.py native`` (or ``torch``: without a library).

Inverts a small flow and compares; the wheel builder and the tests of wheels run it outside the checkout.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

import caloray
from caloray.flows.masked import MaskedSpline
from caloray.flows.spline import SplineConfig
from caloray.native import library


def main(expected: str) -> str:
    """Where caloray was found, if everything is as expected."""
    found = "torch" if library.load() is None else "native"
    if found != expected:
        raise SystemExit(f"expected {expected}, found {found}: {library.why_not()}")
    torch.manual_seed(1)
    block = MaskedSpline(12, 32, 3, 2, SplineConfig()).eval()
    noise, context = torch.randn(20, 12), torch.randn(20, 3)
    results = {}
    for backend in ("auto", "torch", *(["native"] if found == "native" else [])):
        block.backend = backend
        results[backend], _ = block.inverse(noise, context)
    again, _ = block(results["auto"], context)
    for name, other in {"noise": noise, **results}.items():
        difference = float((other - (again if name == "noise" else results["auto"])).abs().max())
        if not difference < 1e-3:
            raise SystemExit(f"{name} is off by {difference}")
    return str(Path(caloray.__file__).parent)


if __name__ == "__main__":
    sys.stdout.write(f"{main(sys.argv[1])}\n")
