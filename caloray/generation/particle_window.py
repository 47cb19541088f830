"""The particles of a sample whose showers are made elsewhere, from any event on, a few blocks at a time."""

from __future__ import annotations

__all__ = ["ParticleWindow", "open_window"]

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from caloray.errors import ConfigError
from caloray.generation.conditions import (
    ConditionSpec,
    ConditionStream,
    check_conditions,
    resolve_conditions,
)
from caloray.generation.energies import EnergySpec, EnergyStream, LogUniform, check_range, resolve
from caloray.generation.plan import count_events
from caloray.preprocess.condition_range import ConditionRange, columns_of

BLOCKS = 64


@dataclass(frozen=True)
class ParticleWindow:
    """Events ``first`` to ``n - 1`` of a sample.

    Args:
        energies: Where incident energies come from, resolved.
        conditions: Where the conditions come from, resolved.
        names: The model's conditions, in its order.
        n: Events of the whole sample.
        first: The first event that is wanted.
        seed: Of the sample.
        block_size: Events of a block.
    """

    energies: EnergySpec
    conditions: tuple[ConditionSpec, ...]
    names: tuple[str, ...]
    n: int
    first: int
    seed: int
    block_size: int

    def __len__(self) -> int:
        """Number of events."""
        return self.n - self.first

    def parts(self) -> Iterator[tuple[int, np.ndarray, dict[str, np.ndarray]]]:
        """Number of the first event, incident energies (k,) [MeV] and conditions (k,) by name, part by part.

        They are those that ``caloray generate`` gives to the same events.
        """
        energies = EnergyStream(self.energies, self.seed, self.block_size)
        conditions = ConditionStream(self.conditions, self.names, self.seed, self.block_size)
        size = self.block_size * BLOCKS
        for start in range(self.first // size * size, self.n, size):
            stop = min(start + size, self.n)
            blocks = range(start // self.block_size, -(-stop // self.block_size))
            values = np.concatenate([energies.block(block) for block in blocks])[: stop - start]
            tables = [conditions.block(block, self.block_size) for block in blocks]
            held = [table for table in tables if table is not None]
            table = np.concatenate(held)[: stop - start] if held else None
            rows = slice(max(0, self.first - start), None)
            columns = columns_of(self.names, table)
            yield max(start, self.first), values[rows], {name: columns[name][rows] for name in columns}


def open_window(
    energies: EnergySpec | None,
    conditions: Sequence[ConditionSpec],
    n: int | None,
    *,
    energy_range: tuple[float, float],
    ranges: Sequence[ConditionRange],
    block_size: int,
    seed: int = 0,
    first: int = 0,
) -> ParticleWindow:
    """Check what is asked of a model that is elsewhere, as :func:`caloray.generation.plan.make_plan` does.

    Args:
        energies: Log-uniform over the trained range when omitted.
        conditions: What is not given is taken from the file of energies, if that is one of particles.
        n: Events of the whole sample; may be left out when a list or file of energies tells it.
        energy_range: Incident energies that the model was trained on [MeV].
        ranges: Its conditions.
        block_size: Events of its blocks.
        seed: Of the sample.
        first: The first event that is wanted.

    Raises:
        ConfigError: A number, energy range, condition or list that does not fit.
        DataError: Energies that are not positive numbers.
    """
    low, high = energy_range
    spec = resolve(energies if energies is not None else LogUniform(min=low, max=high))
    total = count_events(spec, n)
    if not 0 <= first < total:
        raise ConfigError(
            f"first event {first} of {total}", hint=f"events are numbered from 0 to {total - 1}"
        )
    names = tuple(item.name for item in ranges)
    try:
        check_range(spec, energy_range, allow_extrapolation=False)
        given = resolve_conditions(conditions, spec, names)
        check_conditions(given, ranges, total, allow_extrapolation=False)
    except ConfigError as error:
        if "--allow-extrapolation" not in error.hint:
            raise
        hint = "stay inside the trained range (energies are in MeV); a service makes no exceptions"
        raise ConfigError(error.message, hint=hint) from error
    return ParticleWindow(spec, given, names, total, first, seed, block_size)
