"""The sample data: what its note says, and the script that made it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from caloray.atomic import sha256_file
from caloray.io.challenge import ChallengeFile
from caloray.io.summary import check_file, summarise

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "data" / "geant4_par04_ds2.hdf5"
NOTE = (ROOT / "data" / "README.md").read_text()
REFERENCE = Path(os.environ.get("CALORAY_REFERENCE", ROOT.parent / "shared")) / "data" / "par04_1-50GeV"


def test_the_note_is_about_this_file() -> None:
    assert re.findall(r"[0-9a-f]{64}", NOTE) == [sha256_file(SAMPLE)]
    facts = summarise(SAMPLE)
    assert (facts["showers"], facts["geometry"]["name"]) == (1500, "ds2")
    assert f"is {facts['statistics']['ratio_mean']:.3f} on average" in NOTE
    assert f"width of {facts['statistics']['ratio_std']:.3f}" in NOTE
    assert f"`cpu_s` ({facts['attrs']['cpu_s']:.0f} s)" in NOTE
    assert facts["statistics"]["voxel_min"] == pytest.approx(0.0005 / 0.033, rel=1e-2)
    assert check_file(SAMPLE) == (1500, [])


def test_energies_are_log_uniform_from_1_to_50_gev() -> None:
    with ChallengeFile.open(SAMPLE) as file:
        energies = np.sort(file.read(0, 1500).incident_energies)
    assert energies[0] >= 1000
    assert energies[-1] <= 50_000
    distribution = np.log(energies / 1000) / np.log(50)
    distance = np.abs(distribution - (np.arange(1500) + 0.5) / 1500).max()
    assert distance < 1.63 / 1500**0.5  # Kolmogorov-Smirnov, 1 %


@pytest.mark.skipif(
    not REFERENCE.is_dir(), reason="the simulation's own output is not here (CALORAY_REFERENCE)"
)
def test_rows_are_those_of_the_simulation() -> None:
    with h5py.File(SAMPLE) as sample:
        for part in (0, 1):
            with h5py.File(REFERENCE / f"electrons_ds2_{part:02d}.hdf5") as original:
                rows = slice(750 * part, 750 * (part + 1))
                assert np.array_equal(sample["showers"][rows], original["showers"][:750])
                energies = original["incident_energies"][:750].astype(np.float32)
                assert np.array_equal(sample["incident_energies"][rows], energies)


def test_the_script(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    kept = ("brem", "emax", "emin", "geant4", "geometry", "sampling_fraction", "threshold_raw_MeV")
    inputs = [tmp_path / "a.hdf5", tmp_path / "b.hdf5"]
    for seed, path in enumerate(inputs):
        with h5py.File(path, "w") as file:
            file["showers"] = rng.random((20, 12), dtype="f4")
            file["incident_energies"] = rng.uniform(1e3, 2e3, (20, 1))
            file.attrs.update(dict.fromkeys(kept, 1.0), cpu_s=10.0, seeds=[seed])
    script = [sys.executable, ROOT / "data" / "make_sample.py", tmp_path / "out.hdf5", "5", *inputs]
    subprocess.run(script, check=True)
    with h5py.File(tmp_path / "out.hdf5") as out, h5py.File(inputs[1]) as second:
        assert out["showers"].shape == (10, 12)
        assert out["showers"].dtype == out["incident_energies"].dtype == np.float32
        assert np.array_equal(out["showers"][5:], second["showers"][:5])
        assert out.attrs["cpu_s"] == 5.0
        assert out.attrs["seeds"].tolist() == [0, 1]
