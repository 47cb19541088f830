"""The particles of a plan, block by block, and the list of those that were left out.

Drawn particles come from the energy and condition streams, listed ones from the campaign's
``particles.parquet``. Blocks may be asked for in any order, by anybody, any number of times.
"""

from __future__ import annotations

__all__ = ["ParticleBlock", "ParticleStream", "verify_particles", "write_skipped"]

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np

from caloray.atomic import sha256_file
from caloray.errors import DataError, IntegrityError
from caloray.generation.conditions import ConditionStream
from caloray.generation.domain import TrainedDomain
from caloray.generation.energies import EnergyStream, FromTable
from caloray.generation.particle_sources import SpectrumIdentity
from caloray.generation.plan import GenerationPlan
from caloray.io.particle_record import ParticleRows
from caloray.io.particle_table import ParticleTable, SkippedWriter
from caloray.preprocess.condition_range import ConditionRange, columns_of


@dataclass(frozen=True, eq=False)
class ParticleBlock:
    """The particles of one block.

    Args:
        energies: (n,) float64 [MeV] that the model is asked for.
        conditions: (n, P) float64 that the model is asked for; None for a model without.
        rows: What the list says; differs from the two only in rows that are skipped.
        outside: (n,) which lie outside the trained ranges.
        skipped: (n,) which are left out of the shard.
    """

    energies: np.ndarray
    conditions: np.ndarray | None
    rows: ParticleRows
    outside: np.ndarray
    skipped: np.ndarray

    @property
    def run(self) -> np.ndarray:
        """(n,) int64."""
        return self.rows.run

    @property
    def event(self) -> np.ndarray:
        """(n,) int64."""
        return self.rows.event

    @property
    def particle(self) -> np.ndarray:
        """(n,) int32, number within the event."""
        return self.rows.particle

    @property
    def pdg(self) -> np.ndarray:
        """(n,) int32, 0 where unknown."""
        return self.rows.pdg


class ParticleStream:
    """The particles of a plan.

    Args:
        plan: The request; its ``production`` says the policy, without one nothing is skipped.
        ranges: Conditions of the model, in its order.
        directory: Where the request is generated into.

    Raises:
        DataError: A list or file no longer holds what the plan was made with.
        IntegrityError: The campaign's list is missing or damaged.
    """

    def __init__(self, plan: GenerationPlan, ranges: Sequence[ConditionRange], directory: Path) -> None:
        self._plan = plan
        self._names = tuple(item.name for item in ranges)
        self._domain = TrainedDomain(plan.energy_range, ranges)
        self._skip = plan.production is not None and plan.production.domain == "skip"
        self._table: ParticleTable | None = None
        if isinstance(plan.energies, FromTable):
            self._table = _opened(directory / plan.energies.path, plan.energies, self._names)

    @property
    def plan(self) -> GenerationPlan:
        """The request."""
        return self._plan

    @property
    def names(self) -> tuple[str, ...]:
        """The model's conditions, in its order."""
        return self._names

    def block(self, block: int) -> ParticleBlock:
        """The particles of one block, as many as the plan has.

        Raises:
            ConfigError: Drawn directions that are not of length 1.
            IntegrityError: The list is damaged.
        """
        rows = self._drawn(block) if self._table is None else self._listed(self._table, block)
        outside = self._domain.outside(rows)
        skipped = outside if self._skip else np.zeros(len(rows), dtype=bool)
        if skipped.any():
            energies, table = self._domain.inside(rows)
            return ParticleBlock(energies, table, rows, outside, skipped)
        columns = [rows.conditions[name] for name in self._names]
        table = np.stack(columns, axis=1) if columns else None
        return ParticleBlock(rows.energies, table, rows, outside, skipped)

    def reasons(self, rows: ParticleRows) -> list[str]:
        """For each particle what lies outside the trained ranges; "" where nothing does."""
        return self._domain.reasons(rows)

    def _span(self, block: int) -> tuple[int, int]:
        first = block * self._plan.block_size
        return first, min(first + self._plan.block_size, self._plan.n)

    def _listed(self, table: ParticleTable, block: int) -> ParticleRows:
        return table.read(*self._span(block))

    def _drawn(self, block: int) -> ParticleRows:
        first, stop = self._span(block)
        count = stop - first
        energies, conditions = self._streams
        production = self._plan.production
        known = None if production is None else production.particles
        identity = known if isinstance(known, SpectrumIdentity) else SpectrumIdentity()
        return ParticleRows(
            energies.block(block)[:count],
            run=np.full(count, identity.run),
            event=np.arange(first, stop),
            particle=np.zeros(count),
            pdg=np.full(count, identity.pdg),
            conditions=columns_of(self._names, conditions.block(block, count)),
        )

    @cached_property
    def _streams(self) -> tuple[EnergyStream, ConditionStream]:
        plan = self._plan
        return (
            EnergyStream(plan.energies, plan.seed, plan.block_size),
            ConditionStream(plan.conditions, self._names, plan.seed, plan.block_size),
        )

    def close(self) -> None:
        """Close the list."""
        if self._table is not None:
            self._table.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def write_skipped(stream: ParticleStream, blocks: Iterable[int], path: Path) -> int:
    """List the particles that were left out, with their shower ids and the reasons, for the full simulation.

    Args:
        stream: The particles of the campaign.
        blocks: The blocks to look through, ascending; blocks without such particles may be left out.
        path: The file; it is written also when there is nothing to list.

    Returns:
        How many there are.

    Raises:
        StorageError: The disk is full or not writable.
        IntegrityError: The list is damaged.
    """
    with SkippedWriter(path, stream.names) as writer:
        for index in blocks:
            block = stream.block(index)
            ids = stream.plan.kept(index)
            at = ids - index * stream.plan.block_size
            left = block.skipped[at]
            if left.any():
                rows = block.rows.select(at[left])
                writer.append(ids[left], rows, stream.reasons(rows))
        return writer.rows


def verify_particles(plan: GenerationPlan, directory: Path) -> None:
    """Compare the list in a campaign's directory with the plan; a campaign of drawn particles has none.

    Raises:
        IntegrityError: It is missing, damaged, or not the one of the plan.
    """
    if not isinstance(plan.energies, FromTable):
        return
    path = directory / plan.energies.path
    try:
        with _opened(path, plan.energies, plan.energies.conditions) as table:
            table.verify()
    except DataError as error:
        raise IntegrityError(error.message, hint=error.hint) from error
    found = sha256_file(path)
    if plan.energies.sha256 not in {"", found}:
        raise IntegrityError(
            f"{path}: sha256 {found[:12]}, planned {plan.energies.sha256[:12]}",
            hint="remove it and run the same command again, or copy the directory again",
        )


def _opened(path: Path, spec: FromTable, names: Sequence[str]) -> ParticleTable:
    table = ParticleTable(path)
    if (table.content, table.rows, table.conditions) != (spec.content, spec.rows, tuple(names)):
        found = table.content[:12]
        table.close()
        raise DataError(
            f"{path}: these are not the particles that the plan was made with ({found}, planned "
            f"{spec.content[:12]})",
            hint="put the file back, or generate into another directory",
        )
    return table
