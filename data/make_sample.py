"""Pick the first rows of some CaloChallenge files and write them as one small file.

    python data/make_sample.py OUTPUT ROWS INPUT...

ROWS showers are taken from the front of each INPUT. Values are copied as they are. The CPU time of the
simulation is scaled with the share of rows that were taken, and the result says so.
"""

from __future__ import annotations

import sys
from pathlib import Path

import h5py
import numpy as np

KEPT = ("brem", "emax", "emin", "geant4", "geometry", "sampling_fraction", "threshold_raw_MeV")


def main(output: Path, rows: int, inputs: list[Path]) -> None:
    """Write ``rows`` showers of each input into ``output``."""
    energies, showers, seeds, cpu_s = [], [], [], 0.0
    for path in inputs:
        with h5py.File(path, "r") as file:
            energies.append(file["incident_energies"][:rows])
            showers.append(file["showers"][:rows])
            cpu_s += float(file.attrs["cpu_s"]) * rows / len(file["showers"])
            seeds.append(file.attrs["seeds"])
            attrs = {name: file.attrs[name] for name in KEPT}
    attrs["cpu_s"] = cpu_s
    attrs["cpu_s_note"] = "sum over files of (CPU seconds of the file) x (rows taken / rows in the file)"
    attrs["seeds"] = np.concatenate(seeds)
    with h5py.File(output, "w", libver="earliest") as file:
        for name, parts in (("incident_energies", energies), ("showers", showers)):
            data = np.concatenate(parts).astype(np.float32)
            chunk = (min(250, len(data)), data.shape[1])
            options = {"compression": "gzip", "compression_opts": 9, "track_times": False}
            file.create_dataset(name, data=data, chunks=chunk, **options)
        file.attrs.update(attrs)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), [Path(name) for name in sys.argv[3:]])
