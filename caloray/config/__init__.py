"""What a YAML file may say: a complete run, or a campaign of mass production."""

from __future__ import annotations

__all__ = [
    "MAX_YAML",
    "Campaign",
    "ClusterConfig",
    "EvaluationConfig",
    "GenerationConfig",
    "PoolConfig",
    "RunConfig",
    "Section",
    "WorkerConfig",
    "load_campaign",
    "load_config",
]

from caloray.config.campaign import Campaign, PoolConfig, load_campaign
from caloray.config.cluster import ClusterConfig, Section
from caloray.config.reading import MAX_YAML
from caloray.config.run import EvaluationConfig, GenerationConfig, RunConfig, WorkerConfig, load_config
