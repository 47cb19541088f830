"""Bad CaloChallenge files: each is one line that names the file, what is wrong, and what to do."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from caloray.errors import DataError, GeometryError
from caloray.geometry import Geometry, load_geometry
from caloray.io import challenge_checks
from caloray.io.challenge import ChallengeFile
from caloray.io.known import by_name


def good(path: Path, n: int = 40, voxels: int = 368) -> Path:
    rng = np.random.default_rng(1)
    with h5py.File(path, "w") as file:
        file.create_dataset("incident_energies", data=rng.random((n, 1)) + 1)
        file.create_dataset(
            "showers",
            data=rng.random((n, voxels)),
            compression="gzip",
            maxshape=(None, voxels),
            chunks=(10, voxels),
        )
    return path


def fails(path: Path, geometry: Geometry | None = None) -> DataError:
    with pytest.raises(DataError) as caught:
        ChallengeFile.open(path, geometry)
    error = caught.value
    assert str(path) in str(error), "the file is named"
    assert "\n" not in str(error)
    assert "\n" not in error.hint
    assert error.exit_code == 65
    return error


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:22bf0c\nsize 1356475617\n"


@pytest.mark.parametrize(
    ("content", "message", "hint"),
    [
        (b"", "empty file", "download"),
        (b"<!DOCTYPE html>\n<html><body>404</body></html>", "HTML page", "web page"),
        (b"\n  <HTML><head>", "HTML page", "web page"),
        (LFS, "git-LFS pointer", "git lfs pull"),
        (b"\x1f\x8b\x08" + bytes(100), "packed archive (103 bytes)", "unpack"),
        (b"PK\x03\x04" + bytes(9), "packed archive", "unpack"),
        (b"event,energy\n1,2\n", "not HDF5 (17 bytes, starts with b'event,en')", "convert"),
        (b"\x89HDF\r", "truncated to 5 bytes", "download"),
        (b"\x89HDF\r\n\x1a\n", "cannot be read", "damaged"),
    ],
)
def test_not_an_hdf5_file(tmp_path: Path, content: bytes, message: str, hint: str) -> None:
    path = tmp_path / "a.hdf5"
    path.write_bytes(content)
    error = fails(path)
    assert message in str(error)
    assert hint in error.hint


@pytest.mark.parametrize("part", [0.05, 0.5, 0.99])
def test_truncated(tmp_path: Path, part: float) -> None:
    path = good(tmp_path / "a.hdf5")
    full = path.stat().st_size
    path.write_bytes(path.read_bytes()[: int(part * full)])
    error = fails(path)
    assert f"truncated, {int(part * full)} bytes of {full}" in str(error)
    assert "download the file again" in error.hint
    assert isinstance(error.__cause__, OSError), "the library's own text is kept as cause"
    assert error.context["expected_bytes"] == full


def test_a_published_name_brings_its_md5_and_size(tmp_path: Path) -> None:
    path = good(tmp_path / "dataset_2_1.hdf5")
    path.write_bytes(path.read_bytes()[:-1])
    known = by_name("dataset_2_1.hdf5")
    assert known is not None
    error = fails(path)
    assert f"the published file has md5 {known.md5} and 1356475617 bytes" in str(error)
    assert "caloray data pull" in error.hint
    path.write_bytes(b"")
    assert known.md5 in str(fails(path))


def test_missing_directory_and_special_files(tmp_path: Path) -> None:
    assert "no such file" in str(fails(tmp_path / "gone.hdf5"))
    assert "is a directory" in str(fails(tmp_path))
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert "not a regular file" in str(fails(pipe)), "and does not wait for a writer"


def test_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = good(tmp_path / "a.hdf5")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    error = fails(path)
    assert "cannot be read (Permission denied)" in str(error)
    assert "permissions" in error.hint


WRITER = """
import h5py, sys
file = h5py.File(sys.argv[1], "a")
print("open", flush=True)
sys.stdin.read()
"""


def test_locked_by_another_process(tmp_path: Path) -> None:
    path = good(tmp_path / "a.hdf5")
    command = [sys.executable, "-c", WRITER, str(path)]
    environment = {k: v for k, v in os.environ.items() if k != "HDF5_USE_FILE_LOCKING"}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "open\n"
        error = fails(path)
        writer.communicate("")
    assert "locked, it is open for writing" in str(error)
    assert "wait" in error.hint
    ChallengeFile.open(path).close()


KILLED = """
import h5py, numpy as np, os, sys
file = h5py.File(sys.argv[1], "w", libver="latest")
file["showers"] = np.ones((40, 368))
file.flush()
os.kill(os.getpid(), 9)
"""


def test_writer_was_killed(tmp_path: Path) -> None:
    path = tmp_path / "a.hdf5"
    subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    error = fails(path)
    assert "its writer was killed" in str(error)
    assert "make the file again" in error.hint


def rename(file: h5py.File) -> None:
    file.move("incident_energies", "energy")


def drop_all(file: h5py.File) -> None:
    file.clear()


def replace(name: str, data: object) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[name]
        file[name] = data

    return change


def group(file: h5py.File) -> None:
    del file["showers"]
    file.create_group("showers")


def huge_chunks(file: h5py.File) -> None:
    del file["showers"]
    file.create_dataset("showers", shape=(40, 368), chunks=(1_000_000, 368), maxshape=(None, 368), dtype="f4")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (rename, "no dataset incident_energies; found energy, showers, expected incident_energies, showers"),
        (drop_all, "no dataset incident_energies and no showers; found nothing"),
        (replace("incident_energies", np.ones(39)), "39 incident_energies but 40 showers"),
        (replace("incident_energies", np.ones((40, 2))), "shape (40, 2), expected (N, 1) or (N,)"),
        (replace("incident_energies", 3.0), "shape (), expected (N, 1) or (N,)"),
        (replace("incident_energies", np.ones(40, dtype=int)), "incident_energies: dtype int64"),
        (replace("incident_energies", np.array([b"x"] * 40)), "incident_energies: dtype |S1"),
        (replace("showers", np.ones(40)), "showers: shape (40,), expected (N, voxels)"),
        (replace("showers", np.ones((40, 368), dtype="i4")), "showers: dtype int32"),
        (replace("showers", np.ones((40, 368), dtype=complex)), "showers: dtype complex128"),
        (group, "showers: is a group"),
        (huge_chunks, "HDF5 chunks of 1472000000 bytes"),
    ],
)
def test_wrong_contents(tmp_path: Path, spoil: Callable[[h5py.File], None], message: str) -> None:
    path = good(tmp_path / "a.hdf5")
    with h5py.File(path, "a") as file:
        spoil(file)
    assert message in str(fails(path))


def test_transposed_showers(tmp_path: Path) -> None:
    path = good(tmp_path / "a.hdf5")
    with h5py.File(path, "a") as file:
        replace("showers", np.ones((368, 40), dtype="f4"))(file)
    assert "transposed" in fails(path).hint


def test_no_rows(tmp_path: Path) -> None:
    assert "holds no showers" in str(fails(good(tmp_path / "a.hdf5", n=0).rename(tmp_path / "b.hdf5")))


@pytest.mark.parametrize("name", ["ds1_photons", "ds1_pions", "ds2", "ds3"])
def test_wrong_voxel_count_names_the_geometry_that_fits(tmp_path: Path, name: str) -> None:
    size = load_geometry(name).n_voxels
    path = good(tmp_path / "a.hdf5", n=10, voxels=size)
    other = load_geometry("ds2" if name != "ds2" else "ds3")
    error = fails(path, other)
    assert isinstance(error, GeometryError)
    assert f"{size} voxels per shower, {other.name} has {other.n_voxels}" in str(error)
    assert f"this is the size of {name};" in error.hint


def test_unknown_voxel_count_lists_what_is_known(tmp_path: Path) -> None:
    error = fails(good(tmp_path / "a.hdf5", voxels=500))
    assert "500 voxels per shower" in str(error)
    for known in ("ds1_photons 368", "ds1_pions 533", "ds2 6480", "ds3 40500"):
        assert known in str(error)


def test_transposed_axes_are_not_flattened_silently(tmp_path: Path) -> None:
    """(45, 9, 16) is what the data set's description suggests, and it is wrong."""
    path = good(tmp_path / "a.hdf5")
    with h5py.File(path, "a") as file:
        replace("showers", np.ones((40, 45, 9, 16)))(file)
    error = fails(path)
    assert "(45, 9, 16) voxels per shower" in str(error)
    assert "transpose" in error.hint
    assert "ds2" in error.hint


def soft(file: h5py.File, _: Path) -> None:
    file["elsewhere"] = file["showers"]
    del file["showers"]
    file["showers"] = h5py.SoftLink("/elsewhere")


def external(file: h5py.File, other: Path) -> None:
    del file["showers"]
    file["showers"] = h5py.ExternalLink(str(other), "/showers")


def virtual(file: h5py.File, other: Path) -> None:
    del file["showers"]
    layout = h5py.VirtualLayout(shape=(40, 368), dtype="f8")
    layout[:] = h5py.VirtualSource(str(other), "showers", shape=(40, 368))
    file.create_virtual_dataset("showers", layout)


def raw(file: h5py.File, other: Path) -> None:
    del file["showers"]
    place = [(str(other.with_suffix(".bin")), 0, 40 * 368 * 8)]
    file.create_dataset("showers", shape=(40, 368), dtype="f8", external=place)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (soft, "link to other data, which is refused"),
        (external, "link to other data, which is refused"),
        (virtual, "data in other files, which is refused"),
        (raw, "data in other files, which is refused"),
    ],
)
def test_data_elsewhere_are_refused(
    tmp_path: Path, spoil: Callable[[h5py.File, Path], None], message: str
) -> None:
    path, other = good(tmp_path / "a.hdf5"), good(tmp_path / "b.hdf5")
    with h5py.File(path, "a") as file:
        spoil(file, other)
    assert f"{path}, showers: " in str(fails(path))
    assert message in str(fails(path))


def test_damage_inside_is_found_while_reading(tmp_path: Path) -> None:
    path = good(tmp_path / "a.hdf5")
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = bytes(64)
    path.write_bytes(content)
    with (
        ChallengeFile.open(path) as file,
        pytest.raises(DataError, match=r"a\.hdf5: rows \d+ to \d+ cannot be read") as caught,
    ):
        list(file.chunks(10))
    assert "damaged" in caught.value.hint
    assert "\n" not in str(caught.value)


def test_flipped_bytes_anywhere_never_end_in_another_error(tmp_path: Path) -> None:
    """Whatever byte is wrong: a DataError, or showers of the right shape."""
    path = good(tmp_path / "a.hdf5", n=4)
    content = path.read_bytes()
    for place in [*range(0, 800, 31), *range(885, 895), *range(900, len(content), 397)]:
        spoiled = bytearray(content)
        spoiled[place] ^= 0xFF
        path.write_bytes(spoiled)
        try:
            with ChallengeFile.open(path) as file:
                assert all(chunk.voxels.shape[1] == 368 for chunk in file.chunks(2))
        except DataError as error:
            assert str(path) in str(error)  # noqa: PT017 - either outcome is right


def test_a_refused_file_is_closed_again(tmp_path: Path) -> None:
    path = good(tmp_path / "a.hdf5", voxels=500)
    fails(path)
    with h5py.File(path, "a") as file:
        assert len(file) == 2


def test_hdf5_after_a_user_block_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "a.hdf5"
    with h5py.File(path, "w", userblock_size=1024) as file:
        file["incident_energies"] = np.ones((3, 1))
        file["showers"] = np.ones((3, 368))
    challenge_checks.check_file(path)
    with ChallengeFile.open(path) as opened:
        assert opened.n_showers == 3
