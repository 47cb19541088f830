"""A detector of 3 layers x (4 alpha x 3 r), synthetic showers and flows that train in a second.

As a program (``toy_model.py DIRECTORY EPOCHS``) it trains one component, to be killed from outside.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from caloray.atomic import digest_json, sha256_file
from caloray.bundle import Bundle, save_bundle
from caloray.bundle_file import DETERMINING
from caloray.flows.maf import MAFConfig
from caloray.geometry import Geometry, Layer
from caloray.io.store import LayerStore, LayerStoreBuilder
from caloray.preprocess.statistics import TrainingStatistics
from caloray.schemes.inductive import COMPONENTS, InductiveScheme
from caloray.schemes.inductive_config import InductiveConfig
from caloray.showers import Showers
from caloray.training.config import TrainingConfig
from caloray.training.run import TrainRequest, train_component

ALPHA = tuple(2 * math.pi * i / 4 for i in range(5))
GEOMETRY = Geometry("toy", "cylindrical", tuple(Layer(i, ALPHA, (0.0, 1.0, 2.0, 4.0)) for i in range(3)))
RAGGED = Geometry(
    "ragged",
    "cylindrical",
    (Layer(0, ALPHA, (0.0, 1.0)), Layer(1, ALPHA, (0.0, 1.0, 2.0)), Layer(2, ALPHA, (0.0, 1.0))),
)
FLOW = MAFConfig(blocks=2, hidden=16)
FLOWS = {"layer_energies": FLOW, "first_layer": FLOW, "next_layer": FLOW}
PUBLISHED = {
    "voxel_space": "share",
    "energy_space": "absolute",
    "energy_context": "logit",
    "max_layer_energy": 6.5e4,
    "rescale": "published",
}


def showers(count: int = 200, seed: int = 0, geometry: Geometry = GEOMETRY) -> Showers:
    """Sparse showers; every tenth one has an empty last layer."""
    rng = np.random.default_rng(seed)
    incident = np.exp(rng.uniform(np.log(1e3), np.log(5e4), count))
    voxels = rng.dirichlet(np.full(geometry.n_voxels, 0.5), count) * incident[:, None]
    voxels *= rng.normal(0.8, 0.05, (count, 1))
    voxels[voxels < 20] = 0
    voxels[::10, geometry.span(geometry.n_layers - 1)] = 0
    return Showers(incident, voxels.astype(np.float32), np.arange(count) + 1000 * seed)


def store_of(
    sample: Showers, geometry: Geometry = GEOMETRY, layers: tuple[int, ...] | None = None
) -> LayerStore:
    """The training feed of some showers."""
    chosen = layers if layers is not None else tuple(range(geometry.n_layers))
    builder = LayerStoreBuilder(geometry, chosen)
    columns = [sample.voxels[:, geometry.span(layer)] for layer in chosen]
    builder.add_dense(sample.ids, sample.incident_energies, columns)
    return builder.build()


def statistics(sample: Showers | None = None) -> TrainingStatistics:
    """Extremes of some showers."""
    sample = sample or showers()
    return TrainingStatistics.of(sample.layer_energies(GEOMETRY), sample.incident_energies)


def config(**changes: Any) -> InductiveConfig:
    """Settings of the scheme with small flows."""
    return InductiveConfig.model_validate({"flows": FLOWS, **changes})


def scheme(**changes: Any) -> InductiveScheme:
    """The scheme with small flows, fitted to :func:`showers`."""
    return InductiveScheme(config(**changes), GEOMETRY, statistics(), seed=1)


def training(**changes: Any) -> TrainingConfig:
    """Two epochs of four steps with a checkpoint after every second."""
    fixed = {"epochs": 2, "batch": 50, "checkpoint_steps": 2, "validation_rows": 60, "device": "cpu"}
    return TrainingConfig.model_validate({**fixed, **changes})


def request(
    directory: Path, name: str = "first_layer", scheme_changes: Any = None, **changes: Any
) -> TrainRequest:
    """Training of one component."""
    component = scheme(**(scheme_changes or {})).component(name)
    return TrainRequest(component, training(**changes), directory, seed=1, identity={"data": "toy"})


def weights(seed: int = 0, **changes: Any) -> dict[str, dict[str, torch.Tensor]]:
    """State dicts of untrained flows, shaken so that their output is not the noise itself."""
    built = {name: scheme(**changes).component(name).build().state_dict() for name in COMPONENTS}
    draws = torch.Generator().manual_seed(seed)
    for state in built.values():
        for name, value in state.items():
            if name.endswith(("weight", "bias")):
                value.add_(0.3 * torch.randn(value.shape, generator=draws))
    return built


def bundle(directory: Path, seed: int = 0, **changes: Any) -> Bundle:
    """A bundle of untrained flows, block size 8."""
    return save_bundle(
        directory,
        config=config(**changes),
        geometry=GEOMETRY,
        statistics=statistics(),
        seed=1,
        weights=weights(seed, **changes),
        block_size=8,
        info={"data": "toy"},
    )


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a folder by its relative name."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def edit(folder: Path, change: Callable[[dict[str, Any]], object], *, seal: bool = True) -> None:
    """Change bundle.json as somebody would who knows the format."""
    value = json.loads((folder / "bundle.json").read_text())
    change(value)
    if seal:
        value.pop("sha256", None)
        value["digest"] = digest_json({name: value.get(name) for name in DETERMINING})
        value["sha256"] = digest_json(value)
    (folder / "bundle.json").write_text(json.dumps(value))


def reseal(folder: Path, name: str) -> None:
    """Give a changed component the hash and size that its file now has."""
    file = folder / "components" / f"{name}.safetensors"

    def change(value: dict) -> None:
        value["components"][name] |= {"sha256": sha256_file(file), "bytes": file.stat().st_size}

    edit(folder, change)


def main(directory: Path, epochs: int) -> None:
    """Train the first layer in ``directory``."""
    torch.set_num_threads(1)
    sample = showers()
    train_component(request(directory, epochs=epochs), store_of(sample), store_of(showers(60, 1)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
