"""Bundles: one trained model, whole, in a directory that anyone can check and sample from.

A bundle holds ``bundle.json`` (scheme, fitted preprocessing, geometry, hashes, provenance), one
safetensors file of weights per component and ``golden.safetensors``, a few showers with the request that
made them. Nothing in it is executable and nothing is unpickled; masks and degrees are rebuilt from the
config, permutations are stored.

    from caloray.bundle import Bundle
    bundle = Bundle.load("runs/demo/bundle")
    showers = bundle.sample([1000.0, 5000.0], seed=1)
    showers.voxels.sum(axis=1)
"""

from __future__ import annotations

from caloray.bundle.golden import make_golden, verify_bundle
from caloray.bundle.model import Bundle
from caloray.bundle.pieces import Piece
from caloray.bundle.saving import save_bundle
from caloray.bundle_file import GoldenReport

__all__ = ["Bundle", "GoldenReport", "Piece", "make_golden", "save_bundle", "verify_bundle"]
