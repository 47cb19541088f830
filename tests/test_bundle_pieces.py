"""Pieces of blocks drawn together: every row has the bits of its block, whatever stands beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from caloray.bundle import Bundle, Piece, save_bundle
from caloray.bundle.pieces import Packing
from caloray.errors import ConfigError, NumericalError
from caloray.flows.names import Backend
from caloray.geometry import Geometry, Layer
from caloray.preprocess.statistics import TrainingStatistics
from caloray.schemes.build import SchemeConfig, build_scheme
from caloray.schemes.component import Sampled
from caloray.schemes.inductive_config import InductiveConfig
from caloray.schemes.layerwise_config import LayerwiseConfig

BLOCK = 96
CELLS = Geometry(
    "cells",
    "cylindrical",
    tuple(Layer(i, tuple(np.linspace(-np.pi, np.pi, 17)), tuple(np.arange(10.0))) for i in range(3)),
)
MAF = {"blocks": 2, "hidden": 64}
CONV = {"blocks": 2, "hidden": 8, "squeeze": (3, 2), "kernels": ((1, 2),), "context_channels": 8}
INDUCTIVE = {"flows": {"layer_energies": MAF, "first_layer": MAF, "next_layer": MAF}}
LAYERWISE = {"kind": "layerwise", "flows": {"layer_energies": MAF, "layer": CONV}, "threshold": 0.1}
NAMES = ("theta", "age")
ADDRESSES = ((7, 0, 0), (7, 12, 0), (2**64 - 1, 0, 3))
"""Seed, block and attempt."""


def _statistics() -> TrainingStatistics:
    draws = np.random.default_rng(1)
    voxels = draws.exponential(20.0, (50, 3, 144))
    values = {"theta": draws.uniform(0, 0.8, 50), "age": draws.uniform(1, 2, 50)}
    units = {"theta": "rad", "age": "ns"}
    maxima = voxels.max(axis=(0, 2))
    incident = draws.uniform(5e3, 2e4, 50)
    return TrainingStatistics.of(voxels.sum(axis=2), incident, values, units, voxel_maxima=maxima)


def _save(path: Path, config: SchemeConfig, block_size: int = BLOCK) -> Path:
    """A bundle of untrained flows with real widths: 144 voxels, 64 hidden units, 8 channels."""
    statistics = _statistics()
    scheme = build_scheme(config, CELLS, statistics, 3)
    draws = torch.Generator().manual_seed(1)
    weights = {name: scheme.component(name).build().state_dict() for name in scheme.components}
    for state in weights.values():
        for name, value in state.items():
            if name.endswith(("weight", "bias")) and value.is_floating_point():
                value.add_(0.1 * torch.randn(value.shape, generator=draws))
    return save_bundle(
        path,
        config=config,
        geometry=CELLS,
        statistics=statistics,
        seed=3,
        weights=weights,
        block_size=block_size,
    ).path


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A bundle of each scheme; a part of the layerwise one's layer energies is vetoed."""
    directory = tmp_path_factory.mktemp("pieces")
    inductive = InductiveConfig.model_validate({**INDUCTIVE, "conditions": NAMES})
    free = LayerwiseConfig.model_validate({**LAYERWISE, "conditions": NAMES})
    path = _save(directory / "free", free)
    whole = Whole(Bundle.load(path), ADDRESSES)
    ratios = [m.layer_energies.sum(axis=1) / e for m, e in zip(whole.made, whole.energies, strict=True)]
    bounded = free.model_copy(update={"max_ratio": float(np.quantile(ratios, 0.7))})
    shared = bounded.model_copy(update={"network": "shared"})
    return {
        "inductive": _save(directory / "inductive", inductive),
        "layerwise": _save(directory / "layerwise", bounded),
        "shared": _save(directory / "shared", shared),
    }


class Whole:
    """Whole blocks of a bundle, to be compared with pieces of them."""

    def __init__(self, bundle: Bundle, addresses: tuple[tuple[int, int, int], ...]) -> None:
        self.bundle, self.addresses = bundle, addresses
        draws = np.random.default_rng(2)
        size = bundle.block_size
        self.energies = [draws.uniform(5e3, 2e4, size) for _ in addresses]
        self.tables = [
            np.stack([draws.uniform(0, 0.8, size), draws.uniform(1, 2, size)], axis=1) for _ in addresses
        ]
        self.made = [
            bundle.make_block(energies, *address, conditions)
            for address, energies, conditions in zip(addresses, self.energies, self.tables, strict=True)
        ]

    def piece(self, which: int, start: int, stop: int) -> Piece:
        """The request for some rows of a block."""
        seed, block, attempt = self.addresses[which]
        rows = slice(start, stop)
        return Piece(
            seed, block, self.energies[which][rows], start, attempt, conditions=self.tables[which][rows]
        )

    def random(self, draws: np.random.Generator, total: int) -> list[tuple[int, int, int]]:
        """Pieces of about ``total`` rows, half of them single ones."""
        pieces: list[tuple[int, int, int]] = []
        while sum(stop - start for _, start, stop in pieces) < total:
            start = int(draws.integers(self.bundle.block_size))
            longest = min(self.bundle.block_size - start, 20)
            length = 1 if draws.random() < 0.5 else int(draws.integers(1, longest + 1))
            pieces.append((int(draws.integers(len(self.made))), start, start + length))
        return pieces

    def check(self, pieces: list[tuple[int, int, int]]) -> None:
        """Draw them together and compare every bit."""
        found = self.bundle.make_pieces([self.piece(*piece) for piece in pieces])
        assert len(found) == len(pieces)
        for (which, start, stop), piece in zip(pieces, found, strict=True):
            _same_bits(piece, self.made[which].take(slice(start, stop)), f"{which}: rows {start} to {stop}")


def _same_bits(found: Sampled, expected: Sampled, what: str) -> None:
    for name in ("voxels", "layer_energies", "vetoes", "log_prob"):
        one, other = getattr(found, name), getattr(expected, name)
        assert (one is None) == (other is None), f"{what}: {name}"
        if one is not None:
            assert one.dtype == other.dtype
            assert one.tobytes() == other.tobytes(), f"{what}: {name}"


@pytest.mark.parametrize("scheme", ["inductive", "layerwise", "shared"])
def test_pieces_have_the_bits_of_their_blocks(saved: dict[str, Path], scheme: str) -> None:
    """Many compositions of every size of batch; with the back-end that is there."""
    bundle = Bundle.load(saved[scheme])
    whole = Whole(bundle, ADDRESSES)
    if scheme != "inductive":
        assert (whole.made[0].vetoes > 0).any()
    draws = np.random.default_rng(5)
    for size in bundle.joint_sizes:
        for total in (1, size - 1, size):
            whole.check(whole.random(draws, total))
    whole.check([(which, row, row + 1) for row in (0, 40, BLOCK - 1) for which in (0, 1, 2)])
    whole.check([(0, 0, BLOCK), (1, 3, BLOCK - 2), (0, 5, 9), (2, 0, BLOCK)])


@pytest.mark.parametrize(
    ("scheme", "backend"), [("inductive", "torch"), ("inductive", "jacobi"), ("layerwise", "torch")]
)
def test_back_ends_of_torch_keep_rows_at_their_places(
    saved: dict[str, Path], scheme: str, backend: Backend
) -> None:
    whole = Whole(Bundle.load(saved[scheme], backend=backend), ADDRESSES[:2])
    assert whole.bundle.joint_sizes == (BLOCK,)
    whole.check([(0, 0, 1), (1, 0, 1), (0, 17, 30), (1, 90, BLOCK), (1, 25, 27), (0, 50, 51)])


def test_a_block_of_any_size_can_be_cut(saved: dict[str, Path], tmp_path: Path) -> None:
    config = Bundle.load(saved["inductive"]).file.scheme
    whole = Whole(Bundle.load(_save(tmp_path / "odd", config, block_size=9)), ADDRESSES)
    whole.check([(0, 0, 1), (0, 1, 9), (1, 8, 9), (2, 0, 9), (1, 2, 5), (0, 0, 1)])
    assert whole.bundle.make_pieces([]) == []


def test_a_piece_that_fails_leaves_its_neighbours_alone(saved: dict[str, Path]) -> None:
    """Alone it says nothing of the block either, which would be told to be unusable as a whole."""
    for scheme in ("inductive", "layerwise"):
        whole = Whole(Bundle.load(saved[scheme]), ADDRESSES[:1])
        lost = Piece(7, 0, np.array([np.nan]), 3, conditions=np.array([[0.1, 1.5]]))
        found = whole.bundle.make_pieces([whole.piece(0, 0, 4), lost, whole.piece(0, 50, 60)])
        _same_bits(found[0], whole.made[0].take(slice(0, 4)), "before")
        _same_bits(found[2], whole.made[0].take(slice(50, 60)), "behind")
        (alone,) = whole.bundle.make_pieces([lost])
        for failed in (found[1], alone):
            assert np.isnan(failed.voxels).any()
            assert np.isnan(failed.log_prob).all()
        with pytest.raises(NumericalError, match="no finite number in block 0, seed 7"):
            whole.bundle.make_block(np.full(2, np.nan), 7, 0, conditions=np.array([[0.1, 1.5]] * 2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"energies": np.zeros(0)}, "a piece of 0 rows from row 0 of a block on"),
        ({"start": 95}, "a piece of 2 rows from row 95 "),
        ({"start": -1}, "a piece of 2 rows from row -1 "),
        ({"conditions": None}, "conditions: none; the model has theta, age"),
        ({"conditions": np.zeros((3, 2))}, r"shape \(3, 2\)"),
    ],
)
def test_pieces_that_no_block_has_are_refused(
    saved: dict[str, Path], change: dict[str, Any], message: str
) -> None:
    bundle = Bundle.load(saved["inductive"])
    fields = {"energies": np.full(2, 1e4), "conditions": np.full((2, 2), 1.5), **change}
    with pytest.raises(ConfigError, match=message):
        bundle.make_pieces([Piece(1, 0, **fields)])


def test_the_native_back_end_takes_batches_of_any_multiple() -> None:
    assert Packing.of("native", 256, 144) == Packing(tuple(range(16, 257, 16)), anywhere=True)
    assert Packing.of("native", 256, 625) == Packing(tuple(range(32, 257, 32)), anywhere=True)
    assert Packing.of("native", 16, 12) == Packing((16,), anywhere=True)
    assert Packing.of("native", 100, 144) == Packing((100,), anywhere=False)
    assert Packing.of("native-bf16", 256, 144) == Packing((256,), anywhere=False)


@given(st.lists(st.integers(0, 63), min_size=1, max_size=200), st.booleans())
def test_every_row_is_asked_for_once_and_stands_where_it_may(values: list[int], anywhere: bool) -> None:
    rows, packing = np.array(values), Packing((32, 64) if anywhere else (64,), anywhere=anywhere)
    asked = []
    for chosen, places in packing.batches(rows):
        assert len(chosen) in packing.sizes
        assert set(chosen) == set(chosen[places])
        if not anywhere:
            assert np.array_equal(rows[chosen[places]], places)
        asked += chosen[places].tolist()
    assert sorted(asked) == list(range(len(rows)))
    if not anywhere:
        assert len(list(packing.batches(rows))) == np.unique(rows, return_counts=True)[1].max()
