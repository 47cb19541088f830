"""The particles of a campaign, settled before anything is generated: how many, and are they what it may have.

Files and grids are brought into one form, ``particles.parquet`` in the campaign's directory, in one pass that
looks at every row. Workers read from there (:mod:`caloray.generation.particles`), so a campaign goes on when
the original file is gone. No two rows are the same particle of the same event of the same run.
"""

from __future__ import annotations

__all__ = ["PlannedParticles", "resolve_particles"]

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from caloray.atomic import digest_json, sha256_file
from caloray.errors import ConfigError, DataError, IntegrityError, StorageError
from caloray.generation.conditions import ConditionSpec, check_conditions, resolve_conditions
from caloray.generation.domain import Refused, TrainedDomain, unphysical, unphysical_reasons
from caloray.generation.energies import EnergySpec, FromTable, LogUniform, check_range
from caloray.generation.particle_sources import (
    Domain,
    FileParticles,
    GridParticles,
    ParticleIdentity,
    SpectrumIdentity,
    SpectrumParticles,
    TableIdentity,
    is_gone,
    stream_particles,
)
from caloray.generation.plan import PLAN
from caloray.generation.repeats import Order, first_repeat
from caloray.io.particle_files import file_columns
from caloray.io.particle_record import ContentDigest, ParticleRows
from caloray.io.particle_table import PARTICLES, ParticleTable, ParticleWriter, require_free_names
from caloray.preprocess.condition_range import ConditionRange, require_names
from caloray.showers import DIRECTION

SOURCE_FORMAT = 1
OTHERS = "choose another output directory, or give the particles that it was made with"
TOLD = 10_000_000
"""Rows after which a line says how far a list has come."""
POLICY = "stay inside the trained ranges (energies are in MeV), or set domain: flag or domain: skip"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PlannedParticles:
    """What a plan has to know about its particles.

    Args:
        n: How many there are.
        energies: Where their energies come from.
        conditions: Where their conditions come from; () for a list, which has them.
        identity: Where run, event, particle and pdg come from.
        unused: What the file says and the model makes no use of.
    """

    n: int
    energies: EnergySpec
    conditions: tuple[ConditionSpec, ...]
    identity: ParticleIdentity
    unused: tuple[str, ...] = ()


def resolve_particles(
    spec: SpectrumParticles | FileParticles | GridParticles,
    energy_range: tuple[float, float],
    ranges: Sequence[ConditionRange],
    directory: Path,
    domain: Domain,
    *,
    write: bool = True,
) -> PlannedParticles:
    """Check the particles of a campaign and, unless they are drawn, list them in its directory.

    A list that is there and was made of the same input is read and kept; so is that of the directory's plan
    when the file that it was made of is gone. One process at a time may call this.

    Args:
        spec: Where the particles come from.
        energy_range: Trained incident energies [MeV].
        ranges: Conditions of the model.
        directory: Of the campaign.
        domain: With "error", particles outside the trained ranges are refused here.
        write: False: everything but the file.

    Raises:
        ConfigError: Conditions that the model does not have, or lacks; particles outside the trained ranges.
        DataError: A file that cannot be read, or that holds impossible particles (the first ten are named)
            or the same particle twice.
        StorageError: The directory belongs to a plan with other particles, or cannot be written.
    """
    if isinstance(spec, SpectrumParticles):
        return _spectrum(spec, energy_range, ranges, domain)
    names = [item.name for item in ranges]
    require_free_names(names)
    guard = _Guard(_where(spec), TrainedDomain(energy_range, ranges), domain)
    if isinstance(spec, FileParticles) and is_gone(spec.path):
        left = _left(spec, names, directory, guard)
        if left is not None:
            return PlannedParticles(left.rows, left, (), TableIdentity(source=spec.kind))
    unused = _require_columns(spec, names)
    table = _listed(spec, names, directory, guard, write=write)
    return PlannedParticles(table.rows, table, (), TableIdentity(source=spec.kind), unused)


def _spectrum(
    spec: SpectrumParticles,
    energy_range: tuple[float, float],
    ranges: Sequence[ConditionRange],
    domain: Domain,
) -> PlannedParticles:
    low, high = energy_range
    energies = spec.energies or LogUniform(min=low, max=high)
    given = resolve_conditions(spec.conditions, energies, [item.name for item in ranges])
    with _hinted():
        check_range(energies, energy_range, allow_extrapolation=domain != "error")
        check_conditions(given, ranges, spec.n, allow_extrapolation=domain != "error")
    return PlannedParticles(spec.n, energies, given, SpectrumIdentity(run=spec.run, pdg=spec.pdg or 0))


@contextmanager
def _hinted() -> Iterator[None]:
    """Campaigns have a policy where `caloray generate` has an option."""
    try:
        yield
    except ConfigError as error:
        if "--allow-extrapolation" not in error.hint:
            raise
        raise ConfigError(error.message, hint=POLICY, **error.context) from error


def _where(spec: FileParticles | GridParticles) -> str:
    return str(spec.path) if isinstance(spec, FileParticles) else "grid of particles"


def _require_columns(spec: FileParticles | GridParticles, names: Sequence[str]) -> tuple[str, ...]:
    """Refuse a source that does not give the model's conditions; return what it gives beyond them."""
    if isinstance(spec, GridParticles):
        direction = tuple(name for name in DIRECTION if name in names)
        if spec.theta is not None and not direction:
            raise ConfigError(
                f"grid of particles: theta gives a direction, but the model has no condition "
                f"{', '.join(DIRECTION)}; it has {', '.join(names) or 'none'}",
                hint="leave theta and phi out of particles",
            )
        require_names(names, (*(direction if spec.theta is not None else ()), *spec.conditions))
        return ()
    held = file_columns(spec.path).conditions
    require_names(names, (*spec.conditions, *(name for name in held if name in names)))
    return tuple(name for name in held if name not in names or name in spec.conditions)


class _Guard:
    """Looks at every row of a list on its way.

    Args:
        where: What the list is, for messages.
        domain: The trained ranges.
        policy: What is done about rows outside them.
    """

    def __init__(self, where: str, domain: TrainedDomain, policy: Domain) -> None:
        self._where = where
        self._domain = domain
        self._policy = policy
        self._order = Order()

    def watch(self, chunks: Iterator[ParticleRows], use: Callable[[ParticleRows], None]) -> int:
        """Pass every piece on to ``use``; the number of rows.

        Raises:
            DataError: Unphysical rows, after the last one.
            ConfigError: Rows outside the trained ranges, where the policy is "error".
        """
        done, wrong, outside = 0, Refused(), Refused()
        self._order = Order()
        for rows in chunks:
            self._order.add(rows)
            wrong.add(done, rows, unphysical(rows), unphysical_reasons)
            if self._policy == "error":
                outside.add(done, rows, self._domain.outside(rows), self._domain.reasons)
            use(rows)
            if (done + len(rows)) // TOLD > done // TOLD:
                _log.info("%s: %d particles so far", self._where, done + len(rows))
            done += len(rows)
        if wrong.count:
            raise DataError(
                f"{self._where}: {wrong.count} of {done} particles are impossible: {wrong}",
                hint="energies are above zero and in MeV, conditions numbers, directions unit vectors",
                rows=wrong.rows,
            )
        if outside.count:
            raise ConfigError(
                f"{self._where}: {outside.count} of {done} particles are outside the trained ranges: "
                f"{outside}",
                hint=POLICY,
                rows=outside.rows,
            )
        return done

    def require_distinct(self, again: Callable[[], Iterator[ParticleRows]], count: int) -> None:
        """Refuse the list that was watched last if it names a particle twice; in bounded memory.

        Args:
            again: Begins to read that list; only called where it does not ascend.
            count: Its rows.

        Raises:
            DataError: Naming the first particle that comes again, and both rows.
        """
        if self._order.ascending:
            return
        _log.info("%s: not in order, so looked through for a particle that comes twice", self._where)
        repeat = first_repeat(again, count)
        if repeat is not None:
            run, event, particle = repeat.key
            raise DataError(
                f"{self._where}: run {run}, event {event}, particle {particle} stands in row {repeat.first} "
                f"and again in row {repeat.second}",
                hint="number events and their particles; where there is no column 'particle', the rows of an "
                "event stand together",
                rows=[repeat.first, repeat.second],
            )


class _Unwritten:
    """Takes the place of a :class:`ParticleWriter` where nothing may be written."""

    def __init__(self, names: Sequence[str]) -> None:
        self._digest = ContentDigest(names)

    @property
    def content(self) -> str:
        return self._digest.hexdigest()

    def append(self, rows: ParticleRows) -> None:
        self._digest.update(rows)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def _listed(
    spec: FileParticles | GridParticles,
    names: Sequence[str],
    directory: Path,
    guard: _Guard,
    *,
    write: bool,
) -> FromTable:
    """The list of a campaign: the one that is there, or a new one."""
    path = directory / PARTICLES
    source = _source(spec, names)
    planned = _planned_content(directory)
    kept, found = _kept(path, names)
    if kept is not None and found == source and planned in {None, kept.content}:
        with ParticleTable(path) as table:
            rows = guard.watch(table.chunks(), lambda _: None)
            if planned is None:
                guard.require_distinct(table.chunks, rows)
        return kept
    if kept is not None and kept.content != planned:
        kept = None
    write = write and kept is None
    with ParticleWriter(path, names, source) if write else _Unwritten(names) as sink:
        rows = guard.watch(stream_particles(spec, names), sink.append)
        content = sink.content
        if planned not in {None, content}:
            raise StorageError(
                f"{directory}: belongs to a plan with other particles",
                hint=OTHERS,
                found=planned,
                expected=content,
            )
        if planned is None and not write:
            guard.require_distinct(lambda: stream_particles(spec, names), rows)
    if kept is not None:
        return kept
    if planned is None and write:
        _require_distinct_list(path, guard)
    file = sha256_file(path) if write else ""
    return FromTable(rows=rows, content=content, sha256=file, conditions=tuple(names))


def _require_distinct_list(path: Path, guard: _Guard) -> None:
    """Remove a list that was just written, and say why, if it names a particle twice."""
    try:
        with ParticleTable(path) as table:
            guard.require_distinct(table.chunks, table.rows)
    except DataError:
        path.unlink()
        raise


def _left(spec: FileParticles, names: Sequence[str], directory: Path, guard: _Guard) -> FromTable | None:
    """The list of the directory's plan, for a campaign whose file is gone; None where there is none."""
    planned = _planned_content(directory)
    kept, _ = _kept(directory / PARTICLES, names) if planned else (None, "")
    if kept is None or kept.content != planned:
        return None
    require_names(names, (*spec.conditions, *(name for name in names if name not in spec.conditions)))
    fitting = [spec.n in {None, kept.rows}]
    with ParticleTable(directory / PARTICLES) as table:
        guard.watch(table.chunks(), lambda rows: fitting.append(_could_be_of(spec, rows)))
    if not all(fitting):
        raise StorageError(f"{directory}: belongs to a plan with other particles", hint=OTHERS, found=planned)
    _log.warning(
        "%s: no such file; going on with its %d particles in %s", spec.path, kept.rows, directory / PARTICLES
    )
    return kept


def _could_be_of(spec: FileParticles, rows: ParticleRows) -> bool:
    """Whether particles are of the kinds and have the conditions that all particles of a request have."""
    kinds = spec.pdg is None or bool(np.isin(rows.pdg, spec.pdg).all())
    return kinds and all((rows.conditions[name] == value).all() for name, value in spec.conditions.items())


def _kept(path: Path, names: Sequence[str]) -> tuple[FromTable | None, str]:
    """The list that is there, if it is whole and fits the model, and where it came from."""
    if not path.exists():
        return None, ""
    try:
        with ParticleTable(path) as table:
            table.verify()
            if table.conditions != tuple(names) or not table.rows:
                return None, ""
            rows, content, source = table.rows, table.content, table.source
    except (IntegrityError, DataError) as error:
        _log.warning("%s; it is made again", error.message)
        return None, ""
    file = sha256_file(path)
    return FromTable(rows=rows, content=content, sha256=file, conditions=tuple(names)), source


def _planned_content(directory: Path) -> str | None:
    """Content of the list that the directory's plan was made with; None without a plan, "" without a list."""
    try:
        energies = json.loads((directory / PLAN).read_bytes())["plan"]["energies"]
        return str(energies.get("content", "")) if energies["kind"] == "table" else ""
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return ""  # whoever opens the directory says what is wrong with its plan


def _source(spec: FileParticles | GridParticles, names: Sequence[str]) -> str:
    """What a list was made of: the source and its content, wherever it lies."""
    value = {"format": SOURCE_FORMAT, "conditions": list(names), **spec.model_dump(mode="json")}
    if isinstance(spec, FileParticles):
        value["path"] = "".join(spec.path.suffixes[-2:]).lower()
        try:
            value["sha256"] = sha256_file(spec.path)
        except OSError as error:
            reason = error.strerror or str(error)
            raise DataError(f"{spec.path}: cannot be read ({reason})", hint="check the path") from error
    return digest_json(value)
