"""A model small enough to be trained in seconds: 3 layers of 12 voxels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from caloray.flows.maf import MAFConfig
from caloray.geometry import Geometry, Layer
from caloray.io.challenge import write_challenge
from caloray.schemes.inductive_config import InductiveConfig, InductiveFlows
from caloray.showers import Showers
from caloray.training.config import TrainingConfig
from caloray.training.schedule import OneCycle

GEOMETRY = Geometry(
    "toy",
    "cylindrical",
    tuple(
        Layer(number, tuple(np.linspace(0, 2 * np.pi, 5).tolist()), (0.0, 1.0, 2.0, 4.0)) for number in range(3)
    ),
)
_FLOW = MAFConfig(blocks=2, hidden=16)
SCHEME = InductiveConfig(flows=InductiveFlows(layer_energies=_FLOW, first_layer=_FLOW, next_layer=_FLOW))


def training(epochs: int, **changes: object) -> TrainingConfig:
    """Settings with a checkpoint every few steps."""
    fixed = {"epochs": epochs, "batch": 50, "checkpoint_steps": 5, "schedule": OneCycle(), "device": "cpu"}
    return TrainingConfig.model_validate(fixed | changes)


def write_files(folder: Path, count: int = 2, rows: int = 500) -> list[Path]:
    """CaloChallenge files of toy showers."""
    files = []
    for number in range(count):
        rng = np.random.default_rng(number)
        energies = np.exp(rng.uniform(np.log(1e3), np.log(5e4), rows))
        shares = rng.dirichlet(np.full(GEOMETRY.n_voxels, 0.7), rows)
        voxels = (shares * energies[:, None] * rng.normal(0.8, 0.05, (rows, 1))).astype(np.float32)
        voxels[voxels < 1] = 0
        files.append(folder / f"toy_{number}.hdf5")
        write_challenge(files[-1], GEOMETRY, [Showers(energies, voxels, np.arange(rows))])
    return files
