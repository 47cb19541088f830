from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from caloray.errors import ConfigError, DataError
from caloray.generation.energies import (
    EnergySpec,
    EnergyStream,
    FromFile,
    Listed,
    LogUniform,
    Uniform,
    check_range,
    parse_energies,
    resolve,
)

TRAINED = (1e3, 5e4)


def test_drawn_energies_depend_on_seed_and_block_alone() -> None:
    spec = LogUniform(min=1e3, max=5e4)
    forward = [EnergyStream(spec, 3, 64).block(b) for b in range(4)]
    stream = EnergyStream(spec, 3, 64)
    backward = [stream.block(b) for b in reversed(range(4))][::-1]
    np.testing.assert_array_equal(forward, backward)
    assert len(np.unique(np.concatenate(forward))) == 4 * 64
    assert not np.array_equal(forward[0], EnergyStream(spec, 4, 64).block(0))


def test_spectra_have_their_shape_and_stay_inside() -> None:
    low, high = 1e3, 5e4
    logarithmic = EnergyStream(LogUniform(min=low, max=high), 1, 20_000).block(0)
    flat = EnergyStream(Uniform(min=low, max=high), 1, 20_000).block(0)
    for drawn, middle in ((logarithmic, np.sqrt(low * high)), (flat, (low + high) / 2)):
        assert drawn.min() >= low
        assert drawn.max() <= high
        assert abs((drawn < middle).mean() - 0.5) < 5 * 0.5 / np.sqrt(len(drawn))


def test_listed_energies_go_to_the_events_in_order() -> None:
    stream = EnergyStream(Listed(values=tuple(range(1, 11))), 0, 4)
    assert np.concatenate([stream.block(b) for b in range(4)]).tolist() == list(range(1, 11))
    cycled = EnergyStream(Listed(values=(1.0, 2.0, 3.0), repeat=True), 0, 4)
    assert np.concatenate([cycled.block(b) for b in range(3)]).tolist() == [1, 2, 3] * 4


def write(path: Path, values: np.ndarray) -> Path:
    match path.suffix:
        case ".hdf5":
            with h5py.File(path, "w") as file:
                file["incident_energies"] = values[:, None]
        case ".npy":
            np.save(path, values)
        case _:
            path.write_text("# MeV\n" + "\n".join(repr(float(value)) for value in values) + "\n\n")
    return path


@pytest.mark.parametrize("name", ["e.hdf5", "e.npy", "e.csv", "e.txt"])
def test_a_file_gives_the_same_energies_in_every_format(tmp_path: Path, name: str) -> None:
    values = np.linspace(1e3, 5e4, 10)
    spec = resolve(FromFile(path=write(tmp_path / name, values)))
    assert isinstance(spec, FromFile)
    assert spec.rows == 10
    np.testing.assert_array_equal(EnergyStream(spec, 0, 16).block(0), values)
    reference = resolve(FromFile(path=write(tmp_path / "other.npy", values)))
    assert isinstance(reference, FromFile)
    assert spec.content == reference.content


def test_a_file_that_changed_after_planning_is_refused(tmp_path: Path) -> None:
    spec = resolve(FromFile(path=write(tmp_path / "e.npy", np.full(4, 2e3))))
    write(tmp_path / "e.npy", np.full(4, 3e3))
    with pytest.raises(DataError, match="changed since the plan"):
        EnergyStream(spec, 0, 4)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0, -5.0])
def test_impossible_energies_are_refused_even_when_extrapolating(tmp_path: Path, bad: float) -> None:
    path = write(tmp_path / "e.npy", np.array([2e3, bad, 3e3]))
    with pytest.raises(DataError, match=r"e\.npy.*first in row 1"):
        check_range(FromFile(path=path), TRAINED, allow_extrapolation=True)


@pytest.mark.parametrize(
    "spec",
    [
        LogUniform(min=500, max=5e4),
        Uniform(min=1e3, max=6e4),
        Listed(values=(2e3, 9e5)),
    ],
)
def test_energies_outside_the_trained_range_need_permission(spec: EnergySpec) -> None:
    with pytest.raises(ConfigError, match="trained from 1000 to 50000 MeV"):
        check_range(spec, TRAINED, allow_extrapolation=False)
    low, high = check_range(spec, TRAINED, allow_extrapolation=True)
    assert low < high


def test_float32_edges_of_the_range_are_inside_it() -> None:
    trained = (float(np.float32(1234.567)), float(np.float32(48765.4321)))
    check_range(LogUniform(min=1234.567, max=48765.4321), trained, allow_extrapolation=False)


def test_parsing_the_option() -> None:
    assert parse_energies("log-uniform:1e3:5e4") == LogUniform(min=1e3, max=5e4)
    assert parse_energies("uniform:1e3:5e4") == Uniform(min=1e3, max=5e4)
    assert parse_energies("1000,2000") == Listed(values=(1000.0, 2000.0))
    assert parse_energies("1000,2000", repeat=True) == Listed(values=(1000.0, 2000.0), repeat=True)
    assert parse_energies("1000") == Listed(values=(1000.0,), repeat=True)


@pytest.mark.parametrize(
    "text", ["", "no-such-file.npy", "log-uniform:5e4:1e3", "log-uniform:1", "uniform:-1:5", "1,nan", "1,,2"]
)
def test_parsing_nonsense_says_what_is_possible(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_energies(text)
    assert repr(text) in caught.value.message
    assert caught.value.hint


def test_the_union_tells_its_members_by_kind_and_refuses_unknown_keys() -> None:
    adapter: TypeAdapter[EnergySpec] = TypeAdapter(EnergySpec)
    assert adapter.validate_python({"kind": "uniform", "min": 1, "max": 2}) == Uniform(min=1, max=2)
    with pytest.raises(ValidationError):
        adapter.validate_python({"kind": "uniform", "min": 1, "max": 2, "mean": 3})


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("e.csv", "1000\nenergy\n", "line 2 is not one number"),
        ("e.csv", "1000,2000\n", "line 1 is not one number"),
        ("e.csv", "", "expected one energy per row"),
        ("e.npy", "not numpy", "cannot be read"),
        ("e.hdf5", "<html>", "e.hdf5"),
        ("missing.csv", None, "no such file"),
    ],
)
def test_bad_energy_files(tmp_path: Path, name: str, content: str | None, message: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        resolve(FromFile(path=path))
    assert name in caught.value.message


def test_a_wrong_dataset_lists_what_the_file_has(tmp_path: Path) -> None:
    path = write(tmp_path / "e.hdf5", np.full(3, 2e3))
    with pytest.raises(DataError, match="it has incident_energies"):
        resolve(FromFile(path=path, dataset="energies"))


def test_a_link_out_of_the_file_is_not_followed(tmp_path: Path) -> None:
    write(tmp_path / "other.hdf5", np.full(3, 2e3))
    with h5py.File(tmp_path / "e.hdf5", "w") as file:
        file["incident_energies"] = h5py.ExternalLink("other.hdf5", "incident_energies")
    with pytest.raises(DataError):
        resolve(FromFile(path=tmp_path / "e.hdf5"))
