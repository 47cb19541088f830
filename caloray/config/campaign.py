"""The campaign file: one YAML file is one mass production."""

from __future__ import annotations

__all__ = ["Campaign", "PoolConfig", "load_campaign"]

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from caloray.config.cluster import ClusterConfig, Section
from caloray.config.reading import read_settings
from caloray.flows.names import Backend
from caloray.generation.campaign import CampaignRequest
from caloray.tracking import TrackingConfig


class PoolConfig(Section):
    """The workers of a campaign.

    Args:
        count: How many; None: as many as the cluster has room for, and more as it grows; 0: no Ray, the
            showers are made in the driver's process.
        cpus: CPUs of each.
        gpus: GPUs of each; fractions share one. With ``count: 0`` anything above 0 means the driver's GPU.
        backend: What inverts the flows; "auto" takes the fastest exact one that each machine has.
        max_restarts: Workers that may die before the campaign gives up. Nodes that are taken away do not
            count.
    """

    count: int | None = Field(None, ge=0)
    cpus: float = Field(1.0, gt=0)
    gpus: float = Field(0.0, ge=0)
    backend: Backend = "auto"
    max_restarts: int = Field(20, ge=0)


class Campaign(CampaignRequest):
    """What is produced, by whom and where.

    Args:
        workers: Who makes the showers.
        tracking: MLflow.
        cluster: Ray.
    """

    workers: PoolConfig = PoolConfig()
    tracking: TrackingConfig = TrackingConfig()
    cluster: ClusterConfig = ClusterConfig()


def load_campaign(path: Path, overrides: Sequence[str] = ()) -> Campaign:
    """Read a campaign file.

    Args:
        path: YAML file.
        overrides: ``dotted.name=value`` items, the value in YAML.

    Raises:
        ConfigError: Unreadable file, unknown key (with a suggestion), or a value out of range.
    """
    return read_settings(path, Campaign, overrides, "caloray config schema --campaign")
