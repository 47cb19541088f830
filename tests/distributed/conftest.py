"""One Ray for all distributed tests, with a token of its own and nothing outside a temporary folder."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from caloray.config import RunConfig
from caloray.geometry import load_geometry
from caloray.io.challenge import write_challenge
from caloray.io.ingest import IngestConfig, ingest
from caloray.showers import Showers

os.environ.update(
    RAY_USAGE_STATS_ENABLED="0",
    RAY_TRAIN_HEALTH_CHECK_INTERVAL_S="0.1",
    RAY_TRAIN_METRICS_ENABLED="0",
    RAY_TRAIN_ENABLE_PREEMPTION_WATCHER="0",
    RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S="30",
    OMP_NUM_THREADS="1",
)


@dataclass(frozen=True)
class LocalRay:
    """Cluster settings of the tests."""

    address: str = "local"
    num_cpus: int | None = 4
    object_store_gb: float = 0.3
    allow_unauthenticated: bool = False


@pytest.fixture(scope="session")
def ray_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A HOME for Ray's token, so that the user's own is left alone."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.delenv("RAY_AUTH_MODE", raising=False)
        yield home


@pytest.fixture(scope="session")
def ray_cluster(ray_home: Path) -> Iterator[ModuleType]:
    """The connected ``ray`` module."""
    import ray

    from caloray.distributed.session import connect

    with connect(LocalRay()):
        yield ray


@dataclass(frozen=True)
class Toy:
    """A run small enough to be trained in seconds: 1,000 showers of 3 layers of 12 voxels, ingested once."""

    folder: Path

    def config(self, output: Path, **changes: object) -> RunConfig:
        """A run config whose shards are already there; ``changes`` are dotted names with ``__`` for dots."""
        flow = {"blocks": 2, "hidden": 16}
        training = {"epochs": 6, "batch": 50, "checkpoint_steps": 5, "device": "cpu"}
        names = ("layer_energies", "first_layer", "next_layer")
        value: dict[str, object] = {
            "name": "toy",
            "output": output,
            "data": {
                "files": sorted(self.folder.glob("*.hdf5")),
                "geometry": str(self.folder / "toy.yaml"),
                "rows_per_shard": 250,
                "split": {"train": 0.7, "validation": 0.1, "test": 0.2},
            },
            "scheme": {"flows": dict.fromkeys(names, flow), "threshold": 1.0},
            "training": {name: dict(training) for name in names},
            "workers": {name: {"cpus": 0.5} for name in names},
            "block_size": 32,
            "cluster": {"num_cpus": 4, "object_store_gb": 0.3},
            "tracking": {"enabled": False},
        }
        for dotted, item in changes.items():
            *path, last = dotted.split("__")
            section: Any = value
            for key in path:
                section = section.setdefault(key, {})
            section[last] = item
        config = RunConfig.model_validate(value)
        if not (output / "shards").exists():
            shutil.copytree(self.folder / "shards", output / "shards")
        return config

    def trained_alone(self, config: RunConfig, component: str, output: Path) -> str:
        """Digest of a component's weights after training in this process, without Ray."""
        from caloray.distributed.jobs import identity_of
        from caloray.io.manifest import Manifest
        from caloray.io.store import LayerStore
        from caloray.preprocess.statistics import TrainingStatistics
        from caloray.schemes.build import build_scheme
        from caloray.training.run import TrainRequest, train_component

        shards = config.output / "shards"
        manifest = Manifest.load(shards)
        geometry = manifest.readout

        def store(split: str, layers: Sequence[int]) -> LayerStore:
            return LayerStore.from_shards([shards / e.path for e in manifest.of(split)], geometry, layers)

        everything = store("train", range(geometry.n_layers))
        statistics = TrainingStatistics.of(
            everything.layer_energies,
            everything.incident_energies,
            voxel_maxima=everything.layer_maxima.tolist(),
        )
        part = build_scheme(config.scheme, geometry, statistics, config.seed).component(component)
        request = TrainRequest(
            part,
            config.training_of(component),
            output,
            config.seed,
            identity_of(config, manifest, component),
        )
        return train_component(request, store("train", part.layers), store("validation", part.layers)).sha256


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    """Toy files and shards; two geant-like files of 500 showers."""
    folder = tmp_path_factory.mktemp("toy")
    (folder / "toy.yaml").write_text(
        "kind: cylindrical\nlayers:\n  - {ids: 0-2, alpha: 4, r: {bins: 3, width: 5}}\n"
    )
    geometry = load_geometry(str(folder / "toy.yaml"))
    for number in range(2):
        rng = np.random.default_rng(number)
        energies = np.exp(rng.uniform(np.log(1e3), np.log(5e4), 500))
        shares = rng.dirichlet(np.full(geometry.n_voxels, 0.7), 500)
        voxels = (shares * energies[:, None] * rng.normal(0.8, 0.05, (500, 1))).astype(np.float32)
        voxels[voxels < 1] = 0
        write_challenge(folder / f"toy_{number}.hdf5", geometry, [Showers(energies, voxels, np.arange(500))])
    ingest(_data(folder), folder / "shards")
    return Toy(folder)


def _data(folder: Path) -> IngestConfig:
    (folder / "empty" / "shards").mkdir(parents=True)
    return Toy(folder).config(folder / "empty").data


@pytest.fixture(scope="module")
def tuning() -> Any:
    """The module ``tune_toy``."""
    spec = importlib.util.spec_from_file_location("tune_toy", Path(__file__).with_name("tune_toy.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["tune_toy"] = module
    spec.loader.exec_module(module)
    return module
