"""One Ray for all distributed tests, with a token of its own and nothing outside a temporary folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

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
