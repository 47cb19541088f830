"""Lists of particles as text: every cell in its column, or one line that says why not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caloray.errors import DataError
from caloray.io.energies import read_energies
from caloray.io.particle_files import file_columns, file_particles
from caloray.io.particle_record import ParticleRows
from caloray.io.particles import read_particles


def listed(path: Path, content: str | bytes, *names: str) -> ParticleRows:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return ParticleRows.concatenate(list(file_particles(path, names)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("event,energy,pdg\n5,4000,22\n,4000,22,5\n", "line 3 is not 3 numbers: ',4000,22,5'"),
        ("event,energy,pdg\n,4000,22\n", "line 2, event: the cell is empty"),
        ("energy,event\n1000,1\n2000,,7\n", "line 3 is not 2 numbers"),
        ("energy,event,pdg\n2000,,7\n", "line 2, event: the cell is empty"),
        ("energy,event\n2000,\n", "line 2, event: the cell is empty"),
        ("energy,event\n2000, # later\n", "line 2, event: the cell is empty"),
        (",energy,event\n0,1500,2000\n", "column 1 of the header ',energy,event' has no name"),
        ("energy,event,\n1500,2000,\n", "column 3 of the header 'energy,event,' has no name"),
        ('energy,event\n"1500,7\n', "line 2: '\"1500,7' \\(unexpected end of data"),
        ('"energy,event\n1500,7\n', "names no columns"),
        ("energy event\n1500,7\n", "line 2 is not 2 numbers: '1500,7'"),
        ("energy,event,pdg\n1500 7\n", "line 2 is not 3 numbers: '1500 7'"),
    ],
)
def test_cells_do_not_move_into_other_columns(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as refused:
        listed(tmp_path / "p.csv", content)
    assert str(refused.value).startswith(f"{tmp_path / 'p.csv'}: ")
    assert "\n" not in str(refused.value)
    assert refused.value.exit_code == 65


def test_an_index_of_pandas_is_told_how_to_go(tmp_path: Path) -> None:
    with pytest.raises(DataError) as refused:
        listed(tmp_path / "p.csv", ",energy,event\n0,1500,2000\n")
    assert "index=False" in refused.value.hint


def test_an_empty_cell_of_a_column_that_nobody_reads(tmp_path: Path) -> None:
    found = listed(tmp_path / "p.csv", "note,energy,event\n,1500,7\nodd,1600,8\n")
    assert (found.energies.tolist(), found.event.tolist()) == ([1500, 1600], [7, 8])
    with pytest.raises(DataError, match="line 2, note: the cell is empty"):
        listed(tmp_path / "p.csv", "note,energy\n,1500\n", "note")


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfenergy,event\n1500,7\n",
        '"energy","event"\n"1500","7"\n',
        '"energy" "event"\n1500 7\n',
        "energy\tevent\r\n1500\t7\r\n",
        "  energy ,  event\n\n 1500 ,7  # the last one\n",
        'name,energy,event\n"e-, from a decay",1500,7\n',
        "energy, event\n1500 7\n",
        "# made by hand\nenergy   event\n1500     7",
    ],
)
def test_ways_to_write_the_same_particle(tmp_path: Path, content: str | bytes) -> None:
    found = listed(tmp_path / "p.csv", content)
    assert (found.energies.tolist(), found.event.tolist()) == ([1500], [7])


@pytest.mark.parametrize(
    "content", [b"\xef\xbb\xbf1500\n1600\n", "1500,\n1600,,\n", "# energy\n1500\n1600\n"]
)
def test_ways_to_write_energies_alone(tmp_path: Path, content: str | bytes) -> None:
    assert listed(tmp_path / "p.txt", content).energies.tolist() == [1500, 1600]
    assert read_energies(tmp_path / "p.txt").tolist() == [1500, 1600]
    assert read_particles(tmp_path / "p.txt").energies.tolist() == [1500, 1600]


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        ("energy;event\n1500;7\n", "not by ';'"),
        ("energy; event\n1500; 7\n", "not by ';'"),
        ("Energy,event\n1500,7\n", "rename 'Energy' to 'energy'"),
        ("'energy' event\n1500 7\n", "rename \"'energy'\" to"),
        ("energy event,pdg\n1500 7,22\n", "not by both"),
        ("e_inc,event\n1500,7\n", "name the column of incident energies"),
        ("# energy event\n1500 7\n", "take the '#' away"),
    ],
)
def test_headers_that_are_nearly_right(tmp_path: Path, content: str, hint: str) -> None:
    with pytest.raises(DataError) as refused:
        listed(tmp_path / "p.csv", content)
    assert hint in refused.value.hint


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("energy,event\n2_000,7\n", "line 2, energy: '2_000' is not a number"),
        ("energy,event\n2000,1_0\n", "line 2, event: '1_0' is not a number"),
        ("2000\n2_000\n", "line 2, energy: '2_000' is not a number"),
        ("2_000\n", "line 1, energy: '2_000' is not a number"),
    ],
)
def test_numbers_of_a_programming_language(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        listed(tmp_path / "p.csv", content)
    if not content.startswith("energy"):
        with pytest.raises(DataError, match="2_000"):
            read_energies(tmp_path / "p.csv")


CELLS = st.text(alphabet='1.5e,"# \t;_-', max_size=8)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.lists(CELLS, max_size=4).map(",".join), max_size=4), st.sampled_from(["energy,event,age", ""])
)
def test_any_text_is_read_or_refused_in_one_line(
    tmp_path_factory: Any, lines: list[str], header: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_text("\n".join([header, *lines]))
    told = ""
    try:
        found = [rows.energies for rows in file_particles(path, file_columns(path).conditions)]
        assert all(values.dtype == np.float64 for values in found)
    except DataError as error:
        told = str(error)
    assert "\n" not in told
