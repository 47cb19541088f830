"""Sections that all configs share: how they are checked, and which Ray to use."""

from __future__ import annotations

__all__ = ["ClusterConfig", "Section"]

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """One section of a YAML file: unknown keys are refused, values never change."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ClusterConfig(Section):
    """Which Ray to use.

    Args:
        address: "local" starts a small one on this machine; "auto" or host:port joins a running one.
            Inside a job submitted to a cluster the job's own Ray is joined whatever stands here.
        num_cpus: Logical CPUs of a local Ray; None takes the machine's.
        object_store_gb: Shared memory of a local Ray [GB].
        allow_unauthenticated: Join a Ray that other machines can reach although it asks for no token.
        max_trainers: Components that train at the same time, at most; None: as many as CPUs, GPUs and memory
            have room for on the nodes that are there. On a running cluster that grows on demand a number is
            asked for at once, whether there is room or not; with None it is asked for no more than its nodes
            hold now, and does not grow for more trainers: give a number there.
    """

    address: str = "local"
    num_cpus: int | None = Field(None, ge=1)
    object_store_gb: float = Field(1.0, gt=0)
    allow_unauthenticated: bool = False
    max_trainers: int | None = Field(None, ge=1)
