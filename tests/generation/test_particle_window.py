"""The particles of a window are those of the whole sample."""

from __future__ import annotations

import numpy as np
import pytest

from caloray.errors import ConfigError
from caloray.generation.condition_words import parse_conditions
from caloray.generation.conditions import ConditionStream
from caloray.generation.energies import EnergyStream, Listed, LogUniform, parse_energies
from caloray.generation.particle_window import open_window
from caloray.preprocess.condition_range import ConditionRange

MODEL = {"energy_range": (1e3, 5e4), "block_size": 8}
RANGES = (ConditionRange("tilt", "rad", -1.0, 1.0), ConditionRange("depth", "mm", 0.0, 5.0))


def collect(window):
    parts = list(window.parts())
    firsts = [first for first, _, _ in parts]
    energies = np.concatenate([values for _, values, _ in parts])
    names = parts[0][2]
    conditions = {name: np.concatenate([held[name] for _, _, held in parts]) for name in names}
    assert firsts == np.cumsum([window.first] + [len(values) for _, values, _ in parts])[:-1].tolist()
    return energies, conditions


@pytest.mark.parametrize("first", [0, 1, 8, 511, 512, 513, 1199])
def test_drawn_energies_are_those_of_the_sample(first):
    window = open_window(None, (), 1200, ranges=(), seed=5, first=first, **MODEL)
    stream = EnergyStream(LogUniform(min=1e3, max=5e4), 5, 8)
    whole = np.concatenate([stream.block(block) for block in range(150)])
    energies, conditions = collect(window)
    assert len(window) == 1200 - first
    np.testing.assert_array_equal(energies, whole[first:])
    assert conditions == {}


@pytest.mark.parametrize("first", [0, 7, 600])
def test_conditions_too(first):
    specs = parse_conditions(["tilt=-1:1", "depth=2.5"])
    window = open_window(None, specs, 777, ranges=RANGES, seed=2, first=first, **MODEL)
    stream = ConditionStream(specs, ("tilt", "depth"), 2, 8)
    whole = np.concatenate([stream.block(block, 8) for block in range(98)])[:777]
    _, conditions = collect(window)
    np.testing.assert_array_equal(conditions["tilt"], whole[first:, 0])
    np.testing.assert_array_equal(conditions["depth"], np.full(777 - first, 2.5))


def test_listed_energies_tell_their_number():
    window = open_window(parse_energies("2000,3000,4000"), (), None, ranges=(), first=1, **MODEL)
    energies, _ = collect(window)
    assert energies.tolist() == [3000.0, 4000.0]
    again = open_window(Listed(values=(2e3, 3e3), repeat=True), (), 5, ranges=(), first=2, **MODEL)
    assert collect(again)[0].tolist() == [2e3, 3e3, 2e3]


@pytest.mark.parametrize(
    ("energies", "conditions", "n", "first", "message"),
    [
        (None, (), None, 0, "how many showers"),
        (None, (), 5, 5, "first event 5 of 5"),
        (None, (), 5, -1, "first event -1"),
        ("1,2", (), None, 0, "trained from 1000 to 50000"),
        ("2000", ("tilt=0", "depth=7"), 3, 0, "depth"),
        ("2000", ("tilt=0",), 3, 0, "depth"),
    ],
)
def test_what_the_model_cannot_do(energies, conditions, n, first, message):
    spec = None if energies is None else parse_energies(energies)
    ranges = RANGES if conditions else ()
    with pytest.raises(ConfigError, match=message) as caught:
        open_window(spec, parse_conditions(conditions), n, ranges=ranges, first=first, **MODEL)
    assert "--allow-extrapolation" not in caught.value.hint
