"""Numbers of parameters of the published models (arXiv:2405.20407 and the CaloChallenge's results)."""

from __future__ import annotations

import pytest

from caloray.flows.conv.build import ConvFlowConfig, build_conv, conv_parameters
from caloray.flows.conv.grid import Grid
from caloray.flows.maf import MAFConfig, count_parameters, maf_parameters
from caloray.flows.spline import SplineConfig
from caloray.rng import StreamKey

ENERGY = MAFConfig(
    blocks=6,
    hidden=64,
    hidden_layers=2,
    permutations="random",
    spline=SplineConfig(bins=8, tail_bound=13.8155),
)
ILD = ConvFlowConfig(kernels=((3, 3), (5, 5))), Grid(30, 30)
DS3 = ConvFlowConfig(kernels=((3, 5), (3, 5))), Grid(18, 50, cyclic=True, transposed=True)
DS2 = (
    ConvFlowConfig(squeeze=(3, 1), kernels=((1, 4), (3, 4))),
    Grid(9, 16, cyclic=True, transposed=True),
)


def _per_layer(model, layers):
    config, grid = model
    return [conv_parameters(config, grid, min(n, 5), scalars=2) for n in range(layers)]


def test_dataset_3_has_194964482_parameters():
    layers = _per_layer(DS3, 45)
    assert layers[:6] == [4_307_632, 4_322_920, 4_322_928, 4_322_936, 4_322_944, 4_322_952]
    assert sum(layers) == 194_517_440
    assert sum(layers) + maf_parameters(ENERGY, 45, 1) == 194_964_482


def test_ild_has_163403252_parameters():
    layers = _per_layer(ILD, 30)
    assert (layers[0], layers[1], layers[5]) == (5_421_744, 5_437_032, 5_437_064)
    assert sum(layers) + maf_parameters(ENERGY, 30, 1) == 163_403_252


def test_dataset_2_has_158017226_parameters():
    assert sum(_per_layer(DS2, 45)) + maf_parameters(ENERGY, 45, 1) == 158_017_226


@pytest.mark.parametrize("previous", [0, 2])
@pytest.mark.parametrize(
    ("squeeze", "kernels"), [((2, 2), ((3, 1),)), ((3, 1), ((2, 2), (1, 4))), ((1, 4), ((2, 2),))]
)
def test_formula_counts_what_is_built(previous, squeeze, kernels):
    config = ConvFlowConfig(blocks=2, hidden=5, squeeze=squeeze, kernels=kernels, context_channels=3)
    grid = Grid(12, 16, cyclic=True, transposed=True)
    flow = build_conv(config, grid, previous, 4, StreamKey(1, "count", ""))
    assert count_parameters(flow) == conv_parameters(config, grid, previous, 4)
