"""Final-state particles of HepMC3 ASCII files (also packed: ``.gz``, ``.bz2``, ``.xz``), read with pyhepmc.

Of every particle with status 1 the momentum gives the direction, energy and generated mass give the incident
energy: E - m, the kinetic energy. This is what Geant4's particle gun is told, hence what showers of a gun are
conditioned on; for photons it is the total energy. Where a particle was made and the weight of its event play
no role. pyhepmc ends quietly where a file is cut or damaged, so the text is watched on its way to it.
"""

from __future__ import annotations

__all__ = ["HEPMC", "EnergyKind", "is_hepmc", "read_hepmc"]

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np

from caloray.errors import ConfigError, DataError
from caloray.io.column_files import CHUNK
from caloray.io.given_file import require_file
from caloray.io.particle_record import ENERGY, ParticleRows
from caloray.showers import DIRECTION

HEPMC = DIRECTION
"""What a HepMC3 file says about a particle besides its energy."""
EnergyKind = Literal["kinetic", "total"]
FINAL = 1
ENDINGS = {".hepmc", ".hepmc3"}
PACKED: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
START, END = b"HepMC::Asciiv3-START_EVENT_LISTING", b"HepMC::Asciiv3-END_EVENT_LISTING"
HEAD = 4096


def is_hepmc(path: Path) -> bool:
    """Whether the name is that of a HepMC3 file."""
    plain = path.with_suffix("") if path.suffix.lower() in PACKED else path
    return plain.suffix.lower() in ENDINGS


def read_hepmc(
    path: Path,
    conditions: Sequence[str] = (),
    *,
    run: int = 1,
    pdg: Collection[int] | None = None,
    energy: EnergyKind = "kinetic",
) -> Iterator[ParticleRows]:
    """The final-state particles of a file, event by event in its order.

    The number of a particle is its position among the chosen ones of its event.

    Args:
        path: The file.
        conditions: Those components of the direction that are wanted.
        run: Number of the run, which the file does not say.
        pdg: Keep only particles of these kinds; None: all.
        energy: ``kinetic`` for E - m, ``total`` for E.

    Raises:
        ConfigError: pyhepmc is not installed.
        DataError: No such file, another format, or one that is cut or damaged; other conditions.
    """
    missing = [name for name in conditions if name not in HEPMC]
    if missing:
        raise DataError(
            f"{path}: HepMC3 says nothing about {', '.join(missing)}, only energies and directions",
            hint="give the value under particles.conditions, or the particles as a table",
        )
    held: list[_Event] = []
    for event in _events(path):
        held.append(_chosen(event, pdg))
        if sum(len(one.pdg) for one in held) >= CHUNK:
            yield _rows(held, conditions, run, energy)
            held = []
    if held:
        yield _rows(held, conditions, run, energy)


@dataclass(frozen=True)
class _Event:
    """The chosen particles of one event: (k, 5) px, py, pz, E, m [MeV] and (k,) pdg."""

    number: int
    momenta: np.ndarray
    pdg: np.ndarray


def _chosen(event: Any, pdg: Collection[int] | None) -> _Event:
    if not len(event.particles):
        return _Event(int(event.event_number), np.zeros((0, 5)), np.zeros(0, np.int32))
    every = event.numpy.particles
    kept = every.status == FINAL
    if pdg is not None:
        kept &= np.isin(every.pid, list(pdg))
    columns = (every.px, every.py, every.pz, every.e, every.generated_mass)
    mev = 1e3 if event.momentum_unit.name == "GEV" else 1.0
    return _Event(int(event.event_number), np.stack(columns, axis=1)[kept] * mev, every.pid[kept])


def _rows(events: Sequence[_Event], conditions: Sequence[str], run: int, energy: EnergyKind) -> ParticleRows:
    momenta = np.concatenate([event.momenta for event in events])
    sizes = [len(event.pdg) for event in events]
    with np.errstate(invalid="ignore"):  # a particle at rest has no direction, which its reader reports
        unit = momenta[:, :3] / np.linalg.norm(momenta[:, :3], axis=1, keepdims=True)
    return ParticleRows.of(
        {
            ENERGY: momenta[:, 3] - (momenta[:, 4] if energy == "kinetic" else 0.0),
            **{name: unit[:, DIRECTION.index(name)] for name in conditions},
            "run": np.full(len(momenta), run),
            "event": np.repeat([event.number for event in events], sizes),
            "particle": np.concatenate([np.arange(size) for size in sizes]),
            "pdg": np.concatenate([event.pdg for event in events]),
        }
    )


def _events(path: Path) -> Iterator[Any]:
    """The events of a file, each a ``pyhepmc.GenEvent``; ends well only at the end of the listing."""
    hepmc = _library()
    with _opened(path) as file:
        text = _Watched(file)
        stream = hepmc.io.pyiostream(text)
        reader = hepmc.io.ReaderAscii(stream)
        count = 0
        while True:
            event = hepmc.GenEvent()
            with _quiet(hepmc):
                sound = reader.read_event(event)
            if reader.failed():
                break
            count += 1
            yield event
        text.drain()
        if text.error is not None:
            raise DataError(f"{path}: cannot be unpacked ({text.error})", hint="the file is damaged or cut")
        if not sound or text.events != count or not text.tail.rstrip().endswith(END):
            raise DataError(
                f"{path}: event {count} (counted from 0) or the end of the listing cannot be read: the file "
                "is cut or damaged",
                hint="make or copy the file again; a generator that was stopped leaves such a file",
                events=count,
            )


class _Watched(io.RawIOBase):
    """Passes a file on and takes down how many events it begins, how it ends, and errors on the way."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__()
        self._file = file
        self.events = 0
        self.tail = b"\n"
        self.error: Exception | None = None

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill with the next bytes; none at the end, and after an error, which the library would swallow."""
        try:
            data = self._file.read(len(buffer)) if self.error is None else b""
        except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
            self.error, data = error, b""
        buffer[: len(data)] = data
        self.events += (self.tail[-2:] + data).count(b"\nE ")
        self.tail = (self.tail + data)[-HEAD:]
        return len(data)

    def drain(self) -> None:
        """Read what the library has left."""
        while self.read(1 << 20):
            pass


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    require_file(path, "file of particles")
    unpack = PACKED.get(path.suffix.lower(), open)
    try:
        with unpack(path, "rb") as file:
            head = file.read(HEAD)
            if START not in head:
                raise DataError(
                    f"{path}: not HepMC3 ASCII (no line {START.decode()} at its begin)",
                    hint="convert other formats with pyhepmc.open(..., 'w')",
                )
            file.seek(0)
            yield file
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise DataError(f"{path}: cannot be read ({error})", hint="the file is damaged or cut") from error


@contextmanager
def _quiet(hepmc: Any) -> Iterator[None]:
    """Keep the library's own messages, which name no file, off the terminal for one event."""
    setup = hepmc.Setup
    before = setup.print_errors, setup.print_warnings, setup.debug_level
    setup.print_errors, setup.print_warnings, setup.debug_level = False, False, 0
    try:
        yield
    finally:
        setup.print_errors, setup.print_warnings, setup.debug_level = before


def _library() -> Any:
    try:
        import pyhepmc
        import pyhepmc.io
    except ImportError as error:
        raise ConfigError(
            "HepMC3 files are read with pyhepmc, which is not installed",
            hint="pip install 'caloray[hepmc]', or give the particles as a table",
        ) from error
    return pyhepmc
