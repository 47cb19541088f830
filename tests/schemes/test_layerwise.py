"""The layerwise scheme: what its flows are trained on, and how it draws."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from caloray.errors import ConfigError, NumericalError
from caloray.geometry import Geometry, Layer, load_geometry
from caloray.io.store import LayerStoreBuilder
from caloray.preprocess.conditions import ConditionRange
from caloray.preprocess.statistics import TrainingStatistics
from caloray.rng import StreamKey
from caloray.schemes.build import build_scheme
from caloray.schemes.layerwise import LayerwiseScheme
from caloray.schemes.layerwise_config import LayerwiseConfig
from caloray.schemes.streams import BlockStreams

BLOCK = BlockStreams(StreamKey(1, "", ""))
CYLINDER = Geometry(
    "cylinder",
    "cylindrical",
    tuple(Layer(i, tuple(np.linspace(-np.pi, np.pi, 5)), (0.0, 1.0, 2.0)) for i in range(7)),
)
SQUARE = Geometry(
    "square",
    "cartesian",
    tuple(Layer(i, (-2.0, -1.0, 0.0, 1.0, 2.0), (-2.0, -1.0, 0.0, 1.0, 2.0)) for i in range(3)),
)
SMALL = {
    "layer_energies": {"blocks": 2, "hidden": 8},
    "layer": {"blocks": 2, "hidden": 3, "squeeze": (2, 1), "kernels": ((1, 2),), "context_channels": 4},
}


def _config(**changes) -> LayerwiseConfig:
    return LayerwiseConfig.model_validate(
        {"kind": "layerwise", "flows": SMALL, "threshold": 0.1, "voxel_noise": 0.0, **changes}
    )


def _showers(geometry, count=6, seed=0):
    rng = np.random.default_rng(seed)
    voxels = [rng.exponential(5.0, (count, size)).astype(np.float32) for size in geometry.layer_sizes]
    voxels = [v * (rng.random(v.shape) < 0.7) for v in voxels]
    return rng.uniform(1e3, 2e3, count), voxels


def _store(geometry, layers=None, count=6, seed=0):
    energies, voxels = _showers(geometry, count, seed)
    layers = tuple(range(geometry.n_layers)) if layers is None else layers
    builder = LayerStoreBuilder(geometry, layers)
    builder.add_dense(np.arange(count), energies, [voxels[layer] for layer in layers])
    return builder.build()


def _scheme(geometry=CYLINDER, statistics=None, **changes) -> LayerwiseScheme:
    store = _store(geometry)
    fitted = TrainingStatistics.of(
        store.layer_energies, store.incident_energies, voxel_maxima=store.layer_maxima
    )
    return LayerwiseScheme(_config(**changes), geometry, statistics or fitted, seed=3)


def test_components_of_both_variants():
    assert _scheme().components == ("layer_energies", *(f"layer_{n:02d}" for n in range(7)))
    assert _scheme(network="shared").components == ("layer_energies", "layers")
    assert [_scheme().component(f"layer_{n:02d}").layers for n in (0, 2, 6)] == [
        (0,),
        (0, 1, 2),
        (1, 2, 3, 4, 5, 6),
    ]
    with pytest.raises(ConfigError, match="unknown component 'layer_07'"):
        _scheme().component("layer_07")


@pytest.mark.parametrize("network", ["per-layer", "shared"])
def test_parameters_and_widths_are_those_of_what_is_built(network):
    scheme = _scheme(network=network)
    for name in scheme.components:
        part = scheme.component(name)
        flow = part.build()
        assert sum(p.numel() for p in flow.parameters()) == part.parameters
        rows = part.rows(_store(CYLINDER, part.layers))
        target, context = part.batch(_store(CYLINDER, part.layers), rows, torch.Generator().manual_seed(1))
        assert target.shape == (len(rows), part.features)
        assert context.shape == (len(rows), part.context_features)


def test_context_ends_with_the_layers_that_there_are():
    part = _scheme(SQUARE, network="shared", previous=9).component("layers")
    assert part.previous == 2
    assert part.context_features == 2 * 16 + 2 + 3


def test_target_and_context_are_the_real_layers():
    """Layer 6 of one shower: itself, the five layers before in their order, its energy, the particle."""
    scheme = _scheme()
    part = scheme.component("layer_06")
    store = _store(CYLINDER, part.layers)
    incident, voxels = _showers(CYLINDER)
    target, context = part.batch(store, part.rows(store), torch.Generator().manual_seed(1), torch.float64)
    maps = scheme.maps
    for position, layer in enumerate((1, 2, 3, 4, 5)):
        seen = maps.voxel_map.decode(context[:, 8 * position : 8 * position + 8], maps.maxima[layer])
        hit = voxels[layer] > 0
        np.testing.assert_allclose(seen.numpy()[hit], voxels[layer][hit], rtol=1e-5)
        assert (seen.numpy()[~hit] <= 0.1 * (1 + 1e-6)).all()
    drawn = maps.voxel_map.decode(target, maps.maxima[6]).numpy()
    np.testing.assert_allclose(drawn[voxels[6] > 0], voxels[6][voxels[6] > 0], rtol=1e-5)
    np.testing.assert_allclose(context[:, 40], np.log10(incident) - 4.5, rtol=1e-6)
    np.testing.assert_allclose(context[:, 41], np.log10(voxels[6].sum(axis=1) + 1e-3) - 2, rtol=1e-5)


def test_shared_flow_is_told_the_layer_and_sees_zeros_before_the_first():
    scheme = _scheme(network="shared")
    part = scheme.component("layers")
    store = _store(CYLINDER)
    rows = np.array([[2, 0], [2, 3], [4, 6]])
    _, context = part.batch(store, rows, torch.Generator().manual_seed(1))
    assert (context[0, :40] == 0).all()
    assert (context[1, :16] == 0).all()
    assert (context[1, 16:40] != 0).all()
    assert torch.equal(context[:, 42:], torch.eye(7)[[0, 3, 6]])


def test_shared_and_single_flow_see_the_same_rows():
    one, every = _scheme().component("layer_06"), _scheme(network="shared").component("layers")
    single = _store(CYLINDER, one.layers)
    rows = one.rows(single)
    same = np.stack([rows[:, 0], np.full(len(rows), 6)], axis=1)
    draws = [torch.Generator().manual_seed(5) for _ in range(2)]
    found = one.batch(single, rows, draws[0])
    expected = every.batch(_store(CYLINDER), same, draws[1])
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1][:, :42])


def test_empty_layers_are_no_rows_where_sampling_cuts_them():
    store = _store(CYLINDER)
    values = store.values.copy()
    start, stop = store.bounds[0], store.bounds[1]
    values[start:stop] = 0
    emptied = replace(store, values=values)
    for rescale, expected in (("renormalise", 6 * 7 - 1), ("none", 6 * 7)):
        part = _scheme(network="shared", rescale=rescale).component("layers")
        assert len(part.rows(emptied)) == expected


def test_rotation_turns_all_layers_of_a_row_alike_and_rows_apart():
    scheme = _scheme(augment="rotate")
    part = scheme.component("layer_01")
    store = _store(CYLINDER, part.layers)
    rows = np.repeat(part.rows(store)[:1], 64, axis=0)
    target, context = part.batch(store, rows, torch.Generator().manual_seed(1), torch.float64)
    maps = scheme.maps
    after = maps.voxel_map.decode(target, maps.maxima[1]).view(64, 4, 2)
    before = maps.voxel_map.decode(context[:, :8], maps.maxima[0]).view(64, 4, 2)
    pairs = torch.where(torch.cat([after, before], dim=2) > 0.1, torch.cat([after, before], dim=2), 0)
    reference = pairs[0]
    ways = {(s, m): torch.roll(reference.flip(0) if m else reference, s, 0) for s in range(4) for m in (0, 1)}
    matched = [[k for k, v in ways.items() if torch.allclose(v, pair, rtol=1e-5)] for pair in pairs]
    assert all(matched)
    assert len({tuple(m) for m in matched}) == 8


def _flows(scheme, seed=1):
    generator = torch.Generator().manual_seed(seed)
    flows = {}
    for name in scheme.components:
        flow = scheme.component(name).build()
        with torch.no_grad():
            for parameter in flow.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        flows[name] = flow.eval()
    return flows


@pytest.mark.parametrize("network", ["per-layer", "shared"])
def test_layers_sum_to_the_energies_drawn_for_them(network):
    scheme = _scheme(network=network)
    out = scheme.sample(_flows(scheme), np.full(20, 1500.0), BLOCK)
    assert out.voxels.dtype == np.float32
    sums = out.voxels.reshape(20, 7, 8).sum(axis=2, dtype=np.float64)
    np.testing.assert_allclose(sums, out.layer_energies, rtol=1e-5)
    assert ((out.voxels == 0) | (out.voxels >= 0.1 * (1 - 1e-6))).all()


def test_a_layer_that_is_scaled_up_gains_no_hits_from_its_filling():
    """Eight voxels, two of them hit and their sum far too small: scaling must not lift the empty six."""
    maps = _scheme().maps
    voxels = torch.tensor([[1.0, 2.0, 0, 0, 0, 0, 0, 0]], dtype=torch.float64)
    layer = torch.tensor([3])
    x = maps.encode(voxels, layer, torch.full((1, 8), 0.9), None)
    found = maps.decode(x, layer, torch.tensor([300.0], dtype=torch.float64))
    expected = torch.tensor([[100.0, 200.0, 0, 0, 0, 0, 0, 0]], dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)


def test_same_key_same_showers_other_key_others():
    scheme = _scheme()
    flows = _flows(scheme)
    one, two, other = (
        scheme.sample(flows, np.full(8, 1500.0), BlockStreams(StreamKey(seed, "", ""))).voxels
        for seed in (1, 1, 2)
    )
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)


def test_a_change_of_one_layer_reaches_the_five_after_it():
    scheme = _scheme(rescale="none")
    flows = _flows(scheme)
    before = scheme.sample(flows, np.full(8, 1500.0), BLOCK).voxels.reshape(8, 7, 8)
    with torch.no_grad():
        next(flows["layer_00"].parameters()).add_(0.5)
    after = scheme.sample(flows, np.full(8, 1500.0), BLOCK).voxels.reshape(8, 7, 8)
    assert [bool((before[:, n] != after[:, n]).any()) for n in range(6)] == [True] * 6


def test_a_negative_layer_energy_poisons_nothing():
    """Published code takes the logarithm of what its flow gives, which may be below zero."""
    maps = _scheme().maps
    scalars = maps.scalars(torch.tensor([1e3]), None, torch.tensor([-6.4e-2], dtype=torch.float64))
    assert torch.isfinite(scalars).all()
    assert float(scalars[0, -1]) == pytest.approx(-5.0)


def test_veto_draws_again_and_gives_up_after_its_attempts():
    free = _scheme()
    flows = _flows(free)
    incident = np.full(200, 1500.0)
    ratios = free.sample(flows, incident, BLOCK).layer_energies.sum(axis=1) / incident
    limit = float(np.quantile(ratios, 0.8))
    bounded = _scheme(max_ratio=limit, rescale="none")
    out = bounded.sample(flows, incident, BLOCK)
    again = out.layer_energies.sum(axis=1) / incident
    assert (again <= limit).all()
    untouched = ratios <= limit
    assert np.array_equal(again[untouched], ratios[untouched])
    assert not np.isclose(again[~untouched], ratios[~untouched]).any()
    stubborn = _scheme(max_ratio=float(ratios.min()) / 2, veto_attempts=2)
    with pytest.raises(NumericalError, match=r"component layer_energies: no shower .* below max_ratio"):
        stubborn.sample(flows, np.full(4, 1500.0), BLOCK)


def test_conditions_reach_every_flow():
    ranges = (ConditionRange("direction_x", "1", -0.5, 0.5), ConditionRange("direction_y", "1", -0.5, 0.5))
    fitted = replace(_scheme(SQUARE).statistics, conditions=ranges)
    scheme = _scheme(SQUARE, fitted, conditions=("direction_x", "direction_y"), augment="flip")
    flows = _flows(scheme)
    incident = np.full(4, 1500.0)
    first, second = (
        scheme.sample(flows, incident, BLOCK, np.tile([value, 0.1], (4, 1))) for value in (0.0, 0.3)
    )
    assert (first.layer_energies != second.layer_energies).any(axis=1).all()
    assert (first.voxels != second.voxels).any(axis=1).all()
    part = scheme.component("layer_00")
    assert part.context_features == 2 * 16 + 4  # two guides and the scalars
    with pytest.raises(ConfigError, match="0 conditions for a model with 2"):
        scheme.sample(flows, incident, BLOCK)


@pytest.mark.parametrize(
    ("geometry", "changes", "message"),
    [
        (CYLINDER, {"augment": "flip"}, "flip needs a cartesian geometry"),
        (SQUARE, {"augment": "rotate"}, "rotate needs a cylindrical geometry"),
        (SQUARE, {"conditions": ("theta",)}, "no theta"),
        (
            CYLINDER,
            {"flows": {"layer": {**SMALL["layer"], "squeeze": (2, 3)}}},
            "4 columns cannot be divided",
        ),
        (CYLINDER, {"flows": {**SMALL, "layer_energies": {"autoregressive_step": 7}}}, "leaves no group"),
    ],
)
def test_settings_that_do_not_suit_the_readout(geometry, changes, message):
    with pytest.raises(ConfigError, match=message):
        _scheme(geometry, **changes)


def test_ragged_layers_are_refused():
    geometry = load_geometry("ds1_photons")
    with pytest.raises(ConfigError, match="two or more layers of one shape"):
        build_scheme(_config(), geometry, TrainingStatistics.unfitted(), 1)


def test_statistics_without_the_largest_voxels_are_refused():
    fitted = _scheme().statistics
    assert _scheme(statistics=fitted).maps.maxima[0] == fitted.voxel_maxima[0]
    for found in ((), fitted.voxel_maxima[:3]):
        with pytest.raises(
            ConfigError, match=f"largest voxel of {len(found)} layers, geometry cylinder has 7"
        ):
            _scheme(statistics=replace(fitted, voxel_maxima=found))
    assert _scheme(statistics=TrainingStatistics.unfitted()).maps.maxima.tolist() == [1.0] * 7


@pytest.mark.parametrize(
    "changes", [{"threshold": 0.0}, {"threshold": 3e-3}, {"fill_mean": 0.05}, {"fill_std": 400.0}]
)
def test_the_filling_must_fit_below_the_threshold(changes):
    _config(fill_mean=1e-3, fill_std=0.2, threshold=4e-3)
    with pytest.raises(ValidationError, match="below the filling of empty voxels"):
        _config(**changes)


@pytest.mark.parametrize("space", ["unit", "absolute"])
def test_layer_energies_come_back_without_their_noise_on_average(space):
    """Large and small layers, empty ones, one just above the threshold; noise up to 0.05 MeV."""
    scheme = _scheme(energy_space=space, energy_noise=0.05)
    part = scheme.component("layer_energies")
    true = torch.tensor([0.3, 0.0, 0.11, 40.0, 0.0, 25.0, 0.2], dtype=torch.float64).repeat(4000, 1)
    incident = torch.full((4000,), 1500.0, dtype=torch.float64)
    noise = torch.stack([torch.randperm(4000, generator=torch.Generator().manual_seed(n)) for n in range(7)])
    noisy = true + 0.05 * (noise.T + 0.5) / 4000
    found = part.decode(part.maps.encode(noisy, incident), incident)
    assert (found[:, [1, 4]] == 0).all()
    assert (found[:, 2] >= 0.1).all()
    kept = [0, 3, 5, 6]
    torch.testing.assert_close(found[:, kept].mean(dim=0), true[0, kept], rtol=0, atol=1e-5)
