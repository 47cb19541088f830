"""Which metric sees which defect, and at what significance: Geant4 against distorted Geant4.

    python benchmarks/power.py data/electrons_*.hdf5 --showers 4000

The showers of the files are shuffled and cut into three disjoint samples: the reference, the showers that
each distortion starts from, and a training set. "none" is the control: nothing should be seen.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from caloray.evaluation.run import evaluate
from caloray.evaluation.settings import MetricSettings
from caloray.geometry import Geometry
from caloray.io.source import open_source
from caloray.rng import StreamKey
from caloray.showers import Showers

LAYER = 12
SEEN = 5.0


@dataclass
class Held:
    """Showers in memory, offered like a file."""

    showers: Showers
    geometry: Geometry
    seed: int = 0

    def draws(self, purpose: str) -> np.random.Generator:
        """Random numbers for one distortion."""
        return StreamKey(self.seed, "benchmark", purpose).generator()

    @property
    def n_showers(self) -> int:
        """Number of showers."""
        return len(self.showers)

    @property
    def digest(self) -> str:
        """sha256 of the voxels."""
        return hashlib.sha256(self.showers.voxels.tobytes()).hexdigest()

    @property
    def conditions(self) -> dict[str, str]:
        """Nothing but the energy is known of these particles."""
        return {}

    def chunks(self, rows: int = 1000) -> Iterator[Showers]:
        """All showers, ``rows`` at a time."""
        for start in range(0, len(self.showers), rows):
            yield self.showers.select(slice(start, start + rows))


Distortion = Callable[[Held], np.ndarray]


def none(base: Held) -> np.ndarray:
    """Nothing."""
    return base.showers.voxels


def scale(base: Held) -> np.ndarray:
    """All energies 2 % higher."""
    return base.showers.voxels * np.float32(1.02)


def response(base: Held) -> np.ndarray:
    """The response of every shower 5 % further from the mean response at its energy."""
    voxels, energies = base.showers.voxels, base.showers.incident_energies
    ratio = voxels.sum(axis=1, dtype=np.float64) / energies
    trend = np.polynomial.Polynomial.fit(np.log(energies), ratio, 2)(np.log(energies))
    factor: np.ndarray = (trend + 1.05 * (ratio - trend)) / ratio
    return voxels * factor[:, None].astype(np.float32)


def wider(base: Held) -> np.ndarray:
    """All radii 5 % larger: a voxel moves out a ring with the share of its area that would leave its ring."""
    out = np.zeros_like(base.showers.voxels)
    for position, layer in enumerate(base.geometry.layers):
        shape = (-1, *layer.shape)
        block = base.showers.voxels[:, base.geometry.span(position)].reshape(shape)
        edges = 1.05 * np.asarray(layer.second)
        inside = np.clip((edges[1:] / 1.05) ** 2 - edges[:-1] ** 2, 0, None)
        leaves = 1 - inside / np.diff(edges**2)
        moves = (base.draws(f"wider/{position}").random(block.shape, dtype=np.float32) < leaves) & (block > 0)
        target = np.where(moves, 0, block)
        target[:, :, 1:] += np.where(moves, block, 0)[:, :, :-1]
        out[:, base.geometry.span(position)] = target.reshape(len(out), -1)
    return out


def dead(base: Held) -> np.ndarray:
    """One layer reads nothing."""
    out = base.showers.voxels.copy()
    out[:, base.geometry.span(LAYER)] = 0
    return out


def shuffled(base: Held) -> np.ndarray:
    """The voxels of one layer change places: its energy and its hits stay."""
    out = base.showers.voxels.copy()
    span = base.geometry.span(LAYER)
    out[:, span] = base.draws("shuffled").permuted(out[:, span], axis=1)
    return out


DISTORTIONS: dict[str, Distortion] = {
    "none": none,
    "energy +2%": scale,
    "response width +5%": response,
    "shower width +5%": wider,
    f"layer {LAYER} dead": dead,
    f"layer {LAYER} shuffled": shuffled,
}
COPY = "copy of training"


def significances(
    reference: Held, generated: Held, training: Held, settings: MetricSettings, seed: int
) -> dict[str, float]:
    """Significance of every metric and of every observable's separation power."""
    data = evaluate(reference, generated, training=training, metrics=settings, seed=seed).data
    found = {row["name"]: row["significance"] for row in data["metrics"]}
    for name in ("e_ratio_mean", "e_ratio_width", "hits_mean"):
        ratio = data["summary"][name]["ratio"]
        found[f"{name}, |ratio - 1| / error"] = abs(ratio["value"] - 1) / ratio["error"]
    found |= {f"separation {row['observable']}": row["significance"] for row in data["separations"]}
    return {name: value for name, value in found.items() if value is not None}


def split(paths: Sequence[Path], showers: int, seed: int) -> tuple[Held, Held, Held]:
    """Reference, base of the distortions and training set, disjoint."""
    parts = [part for path in paths for part in open_source(path).chunks(2000)]
    every = Showers.concatenate(parts)
    if len(every) < 3 * showers:
        raise SystemExit(f"{len(every)} showers in the files, {3 * showers} are needed; lower --showers")
    order = StreamKey(seed, "benchmark", "power").generator().permutation(len(every))
    geometry = open_source(paths[0]).geometry

    def take(rows: np.ndarray) -> Held:
        chosen = every.select(rows)
        return Held(Showers(chosen.incident_energies, chosen.voxels, rows), geometry, seed)

    return take(order[:showers]), take(order[showers : 2 * showers]), take(order[2 * showers :])


def distort(name: str, base: Held, training: Held) -> Held:
    """The generated sample of one column."""
    if name == COPY:
        return Held(training.showers.select(slice(0, base.n_showers)), base.geometry)
    one = base.showers
    return Held(Showers(one.incident_energies, DISTORTIONS[name](base), one.ids), base.geometry)


def show(table: dict[str, dict[str, float]]) -> None:
    """Markdown: one row per metric, one column per distortion."""
    columns = list(table)
    names = list(dict.fromkeys(name for column in table.values() for name in column))
    print("| significance of | " + " | ".join(columns) + " |")
    print("|---|" + "---|" * len(columns))
    for name in names:
        values = [table[column].get(name) for column in columns]
        cells = ["-" if v is None else f"**{v:+.1f}**" if v > SEEN else f"{v:+.1f}" for v in values]
        print(f"| {name} | " + " | ".join(cells) + " |")
    for column in columns:
        best = sorted(table[column].items(), key=lambda item: -item[1])[:3]
        print(f"{column}: " + ", ".join(f"{name} {value:+.1f}" for name, value in best))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", type=Path, nargs="+", help="Geant4 showers, CaloChallenge HDF5")
    parser.add_argument("--showers", type=int, default=4000, help="showers per sample")
    parser.add_argument("--classifiers", choices=["none", "trees", "laptop", "official"], default="trees")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", help="these distortions")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    options = parser.parse_args()
    reference, base, training = split(options.files, options.showers, options.seed)
    settings = MetricSettings(classifiers=options.classifiers)
    table = {}
    for name in options.only or [*DISTORTIONS, COPY]:
        generated = distort(name, base, training)
        table[name] = significances(reference, generated, training, settings, options.seed)
        print(f"{name}: done", file=sys.stderr, flush=True)
    show(table)
    if options.json:
        options.json.write_text(json.dumps(table, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
