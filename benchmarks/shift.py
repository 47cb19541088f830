"""What a shift by a part of a cell does to showers of whole cells, and to showers of sub-cells.

    python benchmarks/shift.py --geant4 photons_0deg_0*.hdf5 [--coarse model_1x.hdf5] [--fine model_9x.hdf5]
                               [--readouts true_0*.hdf5] -o runs/shift

Geant4 showers of sub-cells (9x) are summed into cells whose edge is a part of a cell away from the entry:
exact where the shift is a whole number of sub-cells. Beside them: the showers of a 1x model, made for an
entry at the corner of a cell, shifted after the fact; and those of a 9x model, placed. For a model that is
not given Geant4 itself stands in, which shows what a perfect model would lose. With ``--readouts``, Geant4
hits summed into shifted cells by the simulation itself (datasets ``showers`` (N, 30, 90, 90) and ``readouts``
(K, N, 30, 30, 30), attribute ``offsets`` (K, 2) in cells), shifts by parts of a sub-cell are tested as well.

Compared are halves of the showers, drawn ten times: Geant4 of one half with a model of the other. The floor
is Geant4 of one half with Geant4 of the other.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from shift_features import EDGES, Features, measure
from shift_figure import draw

from caloray.atomic import write_json
from caloray.evaluation.separation import separation_power
from caloray.geometry import Geometry
from caloray.io.source import open_source
from caloray.placement import Placement, PlaceSettings, regular_cells
from caloray.placement.grid import box_geometry, square_pitch
from caloray.report.style import save
from caloray.rng import StreamKey
from caloray.showers import Showers

THRESHOLD = 0.1
SUB_CELLS = 3
Shifts = tuple[tuple[float, float], ...]
SHIFTS: Shifts = ((0.0, 0.0), (1 / 3, 0.0), (1 / 3, 1 / 3), (2 / 3, 0.0), (2 / 3, 1 / 3))
HALVINGS = 10
BINS = 30
ROWS = 50


@dataclass(frozen=True)
class Way:
    """A way to get the readout of a shifted shower.

    Args:
        name: In the table.
        start: "fine" (sub-cells) or "coarse" (cells).
        points: Whether energy goes to random points instead of being split by area.
        steps: Steps per cell to which the shift is rounded; 0: none.
        mixed: Whether the entry is drawn uniformly, as in the training of a model that knows no entry.
    """

    name: str
    start: str
    points: bool = False
    steps: int = 0
    mixed: bool = False


@dataclass(frozen=True)
class Grids:
    """Sub-cells and cells of one study.

    Args:
        fine: Geometry of the sub-cells.
        coarse: Cells of 3 x 3 of them.
        cells: Cells along x and y.
        width: Of a cell [mm].
    """

    fine: Geometry
    coarse: Geometry
    cells: int
    width: float

    @staticmethod
    def of(path: Path) -> Grids:
        """Those of a file of sub-cell showers."""
        fine = open_source(path).geometry
        cells, width = fine.layers[0].shape[0] // SUB_CELLS, SUB_CELLS * square_pitch(fine, "be shifted")
        return Grids(fine, box_geometry(fine, cells, width), cells, width)


WAYS = (
    Way("1x, not shifted", "coarse", steps=1),
    Way("1x, split by area", "coarse"),
    Way("1x, random points", "coarse", points=True),
    Way("1x, entry unknown", "fine", points=True, mixed=True),
    Way("9x, whole sub-cells", "fine", steps=SUB_CELLS),
    Way("9x, split by area", "fine"),
    Way("9x, random points", "fine", points=True),
)


def placement(way: Way, grids: Grids, shift: tuple[float, float], seed: int) -> Placement:
    """How a way shifts by a part (x, y) of a cell."""
    geometry = grids.fine if way.start == "fine" else grids.coarse
    granularity = SUB_CELLS if way.start == "fine" else 1
    at = [round(way.steps * part) / way.steps if way.steps else part for part in shift]
    settings = PlaceSettings.of(
        impact="uniform" if way.mixed else "fixed",
        at=(at[0] * grids.width, at[1] * grids.width),
        box=grids.cells,
        points=way.points,
        granularity=granularity,
        threshold=THRESHOLD,
        seed=seed,
    )
    return Placement(geometry, settings, regular_cells(geometry, granularity))


def coarsened(showers: Showers, grids: Grids) -> Showers:
    """Sub-cells summed into whole cells, the entry at the corner of a cell, nothing cut."""
    n = grids.cells
    cells = showers.voxels.reshape(len(showers), -1, n, SUB_CELLS, n, SUB_CELLS).sum(axis=(3, 5), dtype="f8")
    return Showers(showers.incident_energies, cells.reshape(len(showers), -1), showers.ids)


def read(paths: list[Path], geometry: Geometry) -> Iterator[Showers]:
    """All showers of the files, with event numbers that differ between files."""
    first = 0
    for path in paths:
        source = open_source(path)
        if source.geometry.digest != geometry.digest:
            raise SystemExit(f"{path}: geometry {source.geometry.name}, expected {geometry.name}")
        for showers in source.chunks(ROWS):
            yield Showers(showers.incident_energies, showers.voxels, showers.ids + first)
        first += source.n_showers


def features_of(
    paths: list[Path], kind: str, grids: Grids, shifts: Shifts, seed: int
) -> dict[tuple[str, int], Features]:
    """Features per way and shift of showers of sub-cells ("fine") or cells ("coarse")."""
    parts: dict[tuple[str, int], list[Features]] = {}
    geometry = grids.fine if kind == "fine" else grids.coarse
    for showers in read(paths, geometry):
        starts = {kind: showers}
        if kind == "fine":
            starts["coarse"] = coarsened(showers, grids)
        for way in WAYS:
            if way.start not in starts:
                continue
            for number, shift in enumerate(shifts):
                hits, _ = placement(way, grids, shift, seed).place(starts[way.start])
                placed = hits.dense(grids.coarse)
                parts.setdefault((way.name, number), []).append(measure(placed, grids.coarse))
    return {key: Features.joined(found) for key, found in parts.items()}


def true_features(paths: list[Path], coarse: Geometry) -> tuple[Shifts, dict[int, Features]]:
    """Readouts that the simulation itself has summed, and their shifts in cells."""
    parts: dict[int, list[Features]] = {}
    shifts: list[tuple[float, float]] = []
    for path in paths:
        with h5py.File(path) as file:
            shifts = [(float(x), float(y)) for x, y in file.attrs["offsets"]]
            energies = np.asarray(file["incident_energies"]).reshape(-1)
            for number in range(len(shifts)):
                voxels = np.asarray(file["readouts"][number]).reshape(len(energies), -1)
                voxels[voxels < THRESHOLD] = 0
                showers = Showers(energies, voxels, np.arange(len(energies)))
                parts.setdefault(number, []).append(measure(showers, coarse))
    return tuple(shifts), {number: Features.joined(found) for number, found in parts.items()}


def separations(truth: Features, model: Features, halves: list[np.ndarray]) -> dict[str, np.ndarray]:
    """(halvings,) separation power of each observable: Geo half against the other half of the model."""
    edges = truth.edges(BINS)
    one, other = truth.binned(edges), model.binned(edges)
    found: dict[str, np.ndarray] = {}
    for name in one:
        values = []
        for half in halves:
            rest = ~half if len(half) == len(model) else _some(len(model), int((~half).sum()), len(values))
            p, q = one[name].histogram(half), other[name].histogram(rest)
            columns = [separation_power(a, b) for a, b in zip(p, q, strict=True)]
            values.append(np.mean([value for value in columns if value is not None]))
        found[name] = np.array(values)
    return found


def _some(n: int, wanted: int, number: int) -> np.ndarray:
    """Mask of ``wanted`` of n rows (all, if there are fewer)."""
    chosen = StreamKey(0, "shift", "rows", number).generator().permutation(n)[:wanted]
    return np.isin(np.arange(n), chosen)


def halvings(n: int, seed: int) -> list[np.ndarray]:
    """Ten random halves as masks."""
    drawn = (StreamKey(seed, "shift", "halves", i).generator().permutation(n) for i in range(HALVINGS))
    return [order < n // 2 for order in drawn]


def study(
    truth: dict[int, Features],
    models: dict[tuple[str, int], Features],
    shifts: Shifts,
    seed: int,
) -> list[dict[str, Any]]:
    """One row per shift, way and observable: separation power, its spread, the floor."""
    halves = halvings(len(truth[0]), seed)
    rows = []
    for number, shift in enumerate(shifts):
        floors = separations(truth[number], truth[number], halves)
        for way in WAYS:
            found = separations(truth[number], models[way.name, number], halves)
            means = models[way.name, number].means(), truth[number].means()
            rows += [
                {
                    "shift": list(shift),
                    "way": way.name,
                    "observable": name,
                    "value": float(values.mean()),
                    "spread": float(values.std(ddof=1)),
                    "floor": float(floors[name].mean()),
                    "floor_spread": float(floors[name].std(ddof=1)),
                    "ratio_of_means": means[0][name] / means[1][name],
                }
                for name, values in found.items()
            ]
    return rows


def show(rows: list[dict[str, Any]], title: str) -> None:
    """Tables in Markdown: one per observable, ways down, shifts across."""
    shifts = list(dict.fromkeys(tuple(row["shift"]) for row in rows))
    for name in dict.fromkeys(row["observable"] for row in rows):
        print(f"\n{title}: {name}\n")
        print("| way | " + " | ".join(f"{x:.3g}, {y:.3g}" for x, y in shifts) + " |")
        print("|---|" + "---|" * len(shifts))
        mine = [row for row in rows if row["observable"] == name]
        floor = [next(row for row in mine if tuple(row["shift"]) == shift) for shift in shifts]
        print("| floor | " + " | ".join(f"{r['floor']:.2e} ± {r['floor_spread']:.0e}" for r in floor) + " |")
        for way in WAYS:
            cells = [r for r in mine if r["way"] == way.name]
            text = (
                f"{r['value']:.2e} ({r['value'] / r['floor']:.1f}; {r['ratio_of_means']:.3f})" for r in cells
            )
            print(f"| {way.name} | " + " | ".join(text) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--geant4", nargs="+", type=Path, required=True, help="Geant4 showers of sub-cells")
    parser.add_argument("--coarse", nargs="*", type=Path, default=[], help="showers of a 1x model")
    parser.add_argument("--fine", nargs="*", type=Path, default=[], help="showers of a 9x model")
    parser.add_argument("--readouts", nargs="*", type=Path, default=[], help="Geant4 with true readouts")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    grids = Grids.of(arguments.geant4[0])
    models = features_of(arguments.geant4, "fine", grids, SHIFTS, arguments.seed)
    truth = {number: models["9x, whole sub-cells", number] for number in range(len(SHIFTS))}
    for kind, paths in (("coarse", arguments.coarse), ("fine", arguments.fine)):
        if paths:
            given = features_of(paths, kind, grids, SHIFTS, arguments.seed)
            models |= {key: found for key, found in given.items() if _start(key[0]) == kind}
        else:
            print(f"{kind}: no model given; Geant4 itself stands in for a perfect one")
    record: dict[str, Any] = {
        "showers": len(truth[0]),
        "stand_in": {"coarse": not arguments.coarse, "fine": not arguments.fine},
        "rows": study(truth, models, SHIFTS, arguments.seed),
    }
    show(record["rows"], "Geant4 summed from sub-cells")
    if arguments.readouts:
        shifts, true = true_features(arguments.readouts, grids.coarse)
        inner = features_of(arguments.readouts, "fine", grids, shifts, arguments.seed)
        record["true_rows"] = study(true, inner, shifts, arguments.seed)
        show(record["true_rows"], "Geant4 read out with shifted cells")
    spectra = {way.name: models[way.name, 1].spectrum.sum(axis=0).tolist() for way in WAYS} | {
        "Geant4": truth[1].spectrum.sum(axis=0).tolist(),
        "edges": EDGES.tolist(),
    }
    write_json(arguments.output / "shift.json", record | {"spectra": spectra})
    save(draw(record, spectra), arguments.output / "shift")


def _start(name: str) -> str:
    """Which model a way starts from; the one with unknown entry is always Geant4's."""
    way = next(way for way in WAYS if way.name == name)
    return "" if way.mixed else way.start


if __name__ == "__main__":
    main()
