"""HepMC3 files written by pyhepmc, read back as particles, compared with what was written."""

from __future__ import annotations

import gzip
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caloray.errors import ConfigError, DataError
from caloray.io import hepmc
from caloray.io.particle_files import file_columns, file_particles
from caloray.io.particle_record import ParticleRows
from caloray.showers import DIRECTION

pyhepmc = pytest.importorskip("pyhepmc")

ELECTRON, PION = 0.51099895, 139.57039
# (px, py, pz [MeV], mass [MeV], pdg, status) of each particle of each event
EVENTS = {
    4: [(3e3, 0, 4e3, 0.0, 22, 1), (0, 0, 2e4, PION, 211, 1), (1e3, -2e3, 2e3, ELECTRON, 11, 1)],
    9: [(0, 0, 1e3, PION, 111, 2), (-6e2, 0, 8e2, ELECTRON, -11, 1)],
    10: [(0, 50.0, 1e3, PION, -211, 1)],
}


def write(path: Path, unit: str = "GEV", events: dict[int, Sequence[Any]] = EVENTS) -> Path:
    """Every particle comes from the beam's vertex."""
    scale = 1e-3 if unit == "GEV" else 1.0
    with pyhepmc.open(path, "w") as file:
        for number, particles in events.items():
            event = pyhepmc.GenEvent(getattr(pyhepmc.Units, unit), pyhepmc.Units.MM)
            event.event_number = number
            vertex = pyhepmc.GenVertex((1, 2, 3, 4))
            vertex.add_particle_in(pyhepmc.GenParticle((0, 0, scale * 1e6, scale * 1e6), 2212, 4))
            for px, py, pz, mass, pdg, status in particles:
                energy = math.sqrt(px**2 + py**2 + pz**2 + mass**2)
                momentum = tuple(scale * value for value in (px, py, pz, energy))
                particle = pyhepmc.GenParticle(momentum, pdg, status)
                particle.generated_mass = scale * mass
                vertex.add_particle_out(particle)
            event.add_vertex(vertex)
            file.write(event)
    return path


def read(path: Path, *names: str, **options: Any) -> ParticleRows:
    return ParticleRows.concatenate(list(file_particles(path, names, **options)))


FINAL = [(n, i, p) for n, ps in EVENTS.items() for i, p in enumerate(p for p in ps if p[5] == 1)]


@pytest.mark.parametrize("unit", ["GEV", "MEV"])
@pytest.mark.parametrize("name", ["e.hepmc", "e.hepmc3", "e.hepmc.gz", "e.HEPMC3.xz"])
def test_energies_and_directions_of_the_final_state(tmp_path: Path, unit: str, name: str) -> None:
    found = read(write(tmp_path / name, unit), *DIRECTION, run=5)
    lengths = [math.hypot(*p[:3]) for _, _, p in FINAL]
    totals = [math.hypot(length, p[3]) for length, (_, _, p) in zip(lengths, FINAL, strict=True)]
    kinetic = [total - p[3] for total, (_, _, p) in zip(totals, FINAL, strict=True)]
    np.testing.assert_allclose(found.energies, kinetic, rtol=1e-12)
    for axis, name_ in enumerate(DIRECTION):
        expected = [p[axis] / length for length, (_, _, p) in zip(lengths, FINAL, strict=True)]
        np.testing.assert_allclose(found.conditions[name_], expected, rtol=1e-12)
    assert found.run.tolist() == [5] * 5
    assert found.event.tolist() == [4, 4, 4, 9, 10]
    assert found.particle.tolist() == [0, 1, 2, 0, 0]
    assert found.pdg.tolist() == [22, 211, 11, -11, -211]
    total = read(tmp_path / name, energy="total")
    np.testing.assert_allclose(total.energies, totals, rtol=1e-12)
    assert total.conditions == {}


def test_the_photon_by_hand(tmp_path: Path) -> None:
    """Momentum (3, 0, 4) GeV: 5 GeV at 36.87 degrees."""
    found = read(write(tmp_path / "e.hepmc"), *DIRECTION).select(slice(0, 1))
    assert found.energies[0] == pytest.approx(5000, rel=1e-14)
    assert [found.conditions[name][0] for name in DIRECTION] == pytest.approx([0.6, 0, 0.8], rel=1e-14)


def test_chosen_kinds_are_numbered_among_themselves(tmp_path: Path) -> None:
    found = read(write(tmp_path / "e.hepmc"), pdg=[11, -11])
    assert found.pdg.tolist() == [11, -11]
    assert found.event.tolist() == [4, 9]
    assert found.particle.tolist() == [0, 0]
    assert len(read(tmp_path / "e.hepmc", pdg=[13])) == 0


def test_pieces_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = read(write(tmp_path / "e.hepmc"), *DIRECTION)
    monkeypatch.setattr(hepmc, "CHUNK", 2)
    parts = list(file_particles(tmp_path / "e.hepmc", DIRECTION))
    assert [len(part) for part in parts] == [3, 2]
    again = ParticleRows.concatenate(parts)
    for name, values in whole.columns().items():
        np.testing.assert_array_equal(again.columns()[name], values)


def test_what_a_file_says() -> None:
    assert file_columns(Path("x.hepmc3.bz2")).conditions == DIRECTION
    assert not hepmc.is_hepmc(Path("x.gz"))


def test_other_conditions_are_not_in_the_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="HepMC3 says nothing about age"):
        read(write(tmp_path / "e.hepmc"), "age")


def test_events_without_particles_are_passed_over(tmp_path: Path) -> None:
    text = write(tmp_path / "e.hepmc").read_text()
    start = text.index("E 9 ")
    (tmp_path / "e.hepmc").write_text(text[:start] + "E 8 0 0\nU GEV MM\n" + text[start:])
    assert read(tmp_path / "e.hepmc").event.tolist() == [4, 4, 4, 9, 10]


def cut(text: str, kind: str) -> str:
    match kind:
        case "in a line":
            return text[:-80]
        case "in an event":
            return text[: text.rindex("P 2 ")]
        case "between events":
            return text[: text.rindex("E 10 ")]
        case "end mark":
            return text[: text.rindex("HepMC")]
        case "too few":
            return text.replace("E 9 1 3", "E 9 1 4")
        case _:
            return text.replace("Asciiv3", "IO_GenEvent")


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("in a line", r"event 2 \(counted from 0\) or the end of the listing"),
        ("in an event", "event 2 "),
        ("between events", "event [12] "),
        ("end mark", "event [23] "),
        ("too few", "event 1 "),
        ("format", "not HepMC3 ASCII"),
    ],
)
def test_cut_and_damaged_files_are_refused(tmp_path: Path, kind: str, message: str, packed: bool) -> None:
    text = cut(write(tmp_path / "e.hepmc").read_text(), kind)
    path = tmp_path / ("d.hepmc.gz" if packed else "d.hepmc")
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    with pytest.raises(DataError, match=message) as refused:
        read(path)
    assert str(refused.value).startswith(f"{path}: ")


@pytest.mark.parametrize("at", [30, 120, -20])
def test_damaged_archives_are_refused(tmp_path: Path, at: int) -> None:
    data = bytearray(write(tmp_path / "e.hepmc.gz").read_bytes())
    data[at] ^= 0xFF
    (tmp_path / "e.hepmc.gz").write_bytes(bytes(data))
    with pytest.raises(DataError, match=r"e\.hepmc\.gz"):
        read(tmp_path / "e.hepmc.gz")
    (tmp_path / "e.hepmc.gz").write_bytes(bytes(data[:100]))
    with pytest.raises(DataError, match=r"e\.hepmc\.gz"):
        read(tmp_path / "e.hepmc.gz")


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file of particles"):
        read(tmp_path / "e.hepmc")


def test_without_the_library_the_hint_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "e.hepmc")
    monkeypatch.setitem(__import__("sys").modules, "pyhepmc", None)
    with pytest.raises(ConfigError, match="pyhepmc, which is not installed") as refused:
        read(tmp_path / "e.hepmc")
    assert "caloray[hepmc]" in refused.value.hint
