"""Models with a direction: widths, contexts of batches, and showers that follow their particle."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from caloray.bundle import Bundle, save_bundle, verify_bundle
from caloray.errors import ConfigError
from caloray.flows.maf import count_parameters
from caloray.rng import StreamKey
from caloray.schemes.inductive import COMPONENTS, InductiveScheme
from caloray.showers import DIRECTION, Showers

KEY = StreamKey(3, "", "", 5)
ENERGIES = np.geomspace(2e3, 4e4, 8)
NAMES = (*DIRECTION, "age")


@pytest.fixture(scope="module")
def tilted(toy):
    """Toy showers that lean, with their conditions."""
    plain = toy.showers(60)
    rng = np.random.default_rng(5)
    theta, phi = rng.uniform(0, 0.8, 60), rng.uniform(0, 2 * np.pi, 60)
    values = np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta), rng.uniform(1, 2, 60)
    conditions = dict(zip(NAMES, values, strict=True))
    return Showers(plain.incident_energies, plain.voxels, plain.ids, conditions)


@pytest.fixture(scope="module")
def statistics(toy, tilted):
    return type(toy.statistics()).of(
        tilted.layer_energies(toy.GEOMETRY), tilted.incident_energies, tilted.conditions, {"age": "ns"}
    )


@pytest.fixture(scope="module")
def weights(toy, statistics):
    scheme = InductiveScheme(toy.config(conditions=NAMES), toy.GEOMETRY, statistics, 1)
    draws = torch.Generator().manual_seed(1)
    states = {name: scheme.component(name).build().state_dict() for name in COMPONENTS}
    for state in states.values():
        for name, value in state.items():
            if name.endswith(("weight", "bias")):
                value.add_(0.3 * torch.randn(value.shape, generator=draws))
    return states


@pytest.fixture
def bundle(toy, statistics, weights, tmp_path) -> Bundle:
    return save_bundle(
        tmp_path / "bundle",
        config=toy.config(conditions=NAMES),
        geometry=toy.GEOMETRY,
        statistics=statistics,
        seed=1,
        weights=weights,
        block_size=8,
    )


def store_of(toy, sample):
    from caloray.io.store import LayerStoreBuilder

    builder = LayerStoreBuilder(toy.GEOMETRY, (0, 1, 2))
    columns = [sample.voxels[:, toy.GEOMETRY.span(layer)] for layer in range(3)]
    builder.add_dense(sample.ids, sample.incident_energies, columns, sample.conditions)
    return builder.build()


@pytest.mark.parametrize("name", COMPONENTS)
def test_every_context_begins_with_energy_and_conditions(toy, tilted, statistics, name):
    scheme = InductiveScheme(toy.config(conditions=NAMES), toy.GEOMETRY, statistics, 1)
    part, plain = scheme.component(name), toy.scheme().component(name)
    assert part.context_features == plain.context_features + 4
    flow = part.build()
    assert count_parameters(flow) == part.parameters
    store = store_of(toy, tilted)
    rows = part.rows(store)[:23]
    target, context = part.batch(store, rows, torch.Generator().manual_seed(1))
    assert context.shape == (23, part.context_features)
    expected = np.stack([tilted.conditions[n][rows[:, 0]] for n in NAMES], axis=1)
    low, high = (np.array([getattr(c, end) for c in statistics.conditions]) for end in ("low", "high"))
    np.testing.assert_allclose(context[:, 1:5], 2 * (expected - low) / (high - low) - 1, atol=1e-6)
    assert context[:, 1:5].abs().max() <= 1 + 1e-6
    without = [0, *range(5, context.shape[1])]
    same, old = plain.batch(store, rows, torch.Generator().manual_seed(1))
    assert torch.equal(context[:, 0], old[:, 0])
    assert context[:, without].shape == old.shape
    assert target.shape == same.shape
    assert flow.log_prob(target, context).isfinite().all()


def test_a_model_without_conditions_is_dumped_as_before(toy, bundle):
    assert "conditions" not in toy.config().model_dump(mode="json")
    assert toy.config(conditions=("age",)).model_dump(mode="json")["conditions"] == ["age"]
    assert "conditions" in (bundle.path / "bundle.json").read_text()


def test_a_plain_bundle_says_nothing_of_conditions(toy, bundle_path):
    assert "conditions" not in (bundle_path / "bundle.json").read_text()
    found = Bundle.load(bundle_path)
    assert found.condition_names == ()
    assert found.condition_ranges == {}
    with pytest.raises(ConfigError, match="no condition age; it has none"):
        found.sample([5e3], conditions={"age": [1.0]})
    with pytest.raises(ConfigError, match="the model has none"):
        found.sample_block(ENERGIES, 1, 0, conditions=np.zeros((8, 1)))


def test_the_bundle_records_names_units_and_ranges(bundle, statistics, tilted):
    assert bundle.condition_names == NAMES
    assert [(c.name, c.unit) for c in bundle.conditions] == [(n, "1") for n in DIRECTION] + [("age", "ns")]
    for name, values in tilted.conditions.items():
        assert bundle.condition_ranges[name] == (values.min(), values.max())
    assert bundle.file.statistics == statistics
    golden = bundle.file.golden
    for name, (low, high) in bundle.condition_ranges.items():
        assert len(golden.conditions[name]) == len(golden.energies)
        assert low <= min(golden.conditions[name]) <= max(golden.conditions[name]) <= high
    assert verify_bundle(bundle.path).identical
    assert Bundle.load(bundle.path).digest == bundle.digest


def test_showers_follow_their_particle_and_nothing_else(bundle, tilted):
    conditions = {name: values[:12] for name, values in tilted.conditions.items()}
    energies = np.geomspace(2e3, 4e4, 12)
    first = bundle.sample(energies, seed=1, conditions=conditions)
    assert np.isfinite(first.voxels).all()
    assert set(first.conditions) == set(NAMES)
    again = bundle.sample(energies, seed=1, conditions=dict(reversed(conditions.items())))
    assert again.voxels.tobytes() == first.voxels.tobytes()
    changed = {name: values.copy() for name, values in conditions.items()}
    changed["age"][9] += 0.1 if changed["age"][9] < 1.5 else -0.1
    other = bundle.sample(energies, seed=1, conditions=changed).voxels
    assert (other == first.voxels).all(axis=1).tolist() == [i != 9 for i in range(12)]


def test_requests_that_do_not_fit_the_model(bundle):
    good = {"direction_x": [0.0], "direction_y": [0.0], "direction_z": [1.0], "age": [1.5]}
    bundle.sample([5e3], conditions=good)
    for change, message in (
        ({"age": [9.0]}, r"age: 9 ns is outside the trained range"),
        ({"direction_z": [0.1]}, r"direction_z: 0\.1 is outside"),
        ({"direction_z": [0.9]}, r"length 0\.9"),
        ({"age": [1.5, 1.6]}, "2 values for 1 showers"),
        ({"spin": [1.0]}, "no condition spin"),
    ):
        with pytest.raises(ConfigError, match=message):
            bundle.sample([5e3], conditions={**good, **change})
    with pytest.raises(ConfigError, match="needs a value of direction_x, direction_y, direction_z, age"):
        bundle.sample([5e3])
    with pytest.raises(ConfigError, match="conditions: none; the model has direction_x"):
        bundle.sample_block(ENERGIES, 1, 0)


def test_conditions_that_the_data_do_not_have(toy, statistics):
    with pytest.raises(ConfigError, match=r"have no spin; they have direction_x, .*age"):
        InductiveScheme(toy.config(conditions=("spin",)), toy.GEOMETRY, statistics, 1)
    with pytest.raises(ConfigError, match="they have no conditions"):
        InductiveScheme(toy.config(conditions=("age",)), toy.GEOMETRY, toy.statistics(), 1)


def test_rotation_does_not_turn_a_direction(toy, statistics):
    with pytest.raises(ConfigError, match=r"rotate .*direction_x, direction_y") as caught:
        InductiveScheme(toy.config(conditions=NAMES, augment="rotate"), toy.GEOMETRY, statistics, 1)
    assert "augment: none" in caught.value.hint
    turned = toy.config(conditions=("direction_z",), augment="rotate")
    assert InductiveScheme(turned, toy.GEOMETRY, statistics, 1).conditions == ("direction_z",)
    unknown = toy.config(conditions=("direction_z", "age"), augment="rotate")
    with pytest.raises(ConfigError, match="not their condition age"):
        InductiveScheme(unknown, toy.GEOMETRY, statistics, 1)


def test_sizes_can_be_told_before_there_are_data(toy, statistics):
    config = toy.config(conditions=NAMES)
    unfitted = InductiveScheme(config, toy.GEOMETRY, type(statistics).unfitted(NAMES), 1)
    fitted = InductiveScheme(config, toy.GEOMETRY, replace(statistics, showers=1), 1)
    for name in COMPONENTS:
        assert unfitted.component(name).parameters == fitted.component(name).parameters
