"""The launcher file is accepted by Ray's own validation and keeps the cluster closed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]


@pytest.fixture
def cluster() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "cluster.yaml").read_text())


def test_ray_accepts_it(cluster):
    util = pytest.importorskip("ray.autoscaler._private.util")
    prepared = util.prepare_config(cluster)
    util.validate_config(prepared)
    (node,) = prepared["available_node_types"].values()
    assert node["max_workers"] == len(cluster["provider"]["worker_ips"])


def test_validation_would_notice_a_typing_error(cluster):
    util = pytest.importorskip("ray.autoscaler._private.util")
    cluster["head_start_ray_comands"] = []
    with pytest.raises(Exception, match="head_start_ray_comands"):
        util.validate_config(util.prepare_config(cluster))


def test_every_start_needs_the_token(cluster):
    commands = [*cluster["head_start_ray_commands"], *cluster["worker_start_ray_commands"]]
    starts = [command for command in commands if "ray start" in command]
    assert len(starts) == 2
    assert all("RAY_AUTH_MODE=token" in command for command in starts)
    assert cluster["file_mounts"]["~/.ray/auth_token"]


def test_nothing_listens_on_every_interface(cluster):
    assert "0.0.0.0" not in yaml.safe_dump(cluster)
    (head,) = [command for command in cluster["head_start_ray_commands"] if "--head" in command]
    assert "--dashboard-host=127.0.0.1" in head
