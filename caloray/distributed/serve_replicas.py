"""The processes of the service: generators that hold a model each, and gateways that answer HTTP."""

from __future__ import annotations

__all__ = ["Gateway", "Generator"]

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from ray import serve
from ray.serve.handle import DeploymentHandle

from caloray.distributed.serve_app import Backstage, make_app
from caloray.distributed.serve_calls import Calls
from caloray.errors import BundleError, ServiceError
from caloray.serving.guard import Guard
from caloray.serving.metrics import Family, ServiceMetrics
from caloray.serving.models import Served
from caloray.serving.pieces import Made, PieceOrder
from caloray.serving.service import Limits, ShowerService
from caloray.serving.settings import ReplicaSettings

SNAPSHOT_TIMEOUT = 5.0
CROWD_SHARE = 4
"""How much smaller batches are while several requests wait; a quarter costs about a fifth more per shower."""


class Generator:
    """One replica of one model: samples the pieces of all requests that it is given, together.

    Args:
        path: The bundle, on a file system that all nodes see.
        digest: Which bundle it has to be.
        settings: How to sample.
    """

    def __init__(self, path: Path, digest: str, settings: ReplicaSettings) -> None:
        from caloray.bundle import Bundle
        from caloray.serving.batching import JointSampler

        bundle = Bundle.load(path, "cuda" if settings.gpus else "cpu", settings.backend)
        if bundle.digest != digest:
            raise BundleError(
                f"{path}: bundle {bundle.digest[:12]}, but the service was started with {digest[:12]}",
                hint="start the service again after a bundle was replaced",
            )
        self._sampler = JointSampler(
            bundle,
            batch_rows=bundle.block_size,
            crowd_rows=max(bundle.block_size // CROWD_SHARE, bundle.joint_sizes[0]),
            max_attempts=settings.max_attempts,
            linger=settings.linger_ms / 1e3,
        )
        self._digest = digest
        self._patience = settings.piece_timeout_s

    async def make(self, digest: str, order: PieceOrder, owner: str) -> Made:
        """The showers of one piece.

        Args:
            digest: Which bundle the gateway promised; during an update gateways and generators may differ.
            order: The piece.
            owner: Name of the request that it belongs to.

        Raises:
            ServiceError: This replica has another bundle.
            NumericalError: A shower stays invalid.
        """
        if digest != self._digest:
            raise ServiceError("the service is being updated: this replica has another bundle")
        return await self._sampler.make(order, owner)

    def check_health(self) -> None:
        """Let Ray Serve replace a replica whose sampler hangs.

        Raises:
            ServiceError: A batch takes longer than any piece may.
        """
        if self._sampler.busy_for > self._patience:
            raise ServiceError(f"one batch has been sampled for {self._sampler.busy_for:.0f} s")

    async def ping(self) -> int:
        """The replica's process id, as a sign of life."""
        return os.getpid()


@serve.ingress()
class Gateway:
    """One process that answers HTTP.

    Args:
        models: What is served, by name.
        generators: The replicas of each model.
        limits: What is taken on.
        settings: How pieces are made.
        token_digest: Hash of the token; None: the service is open.
    """

    def __init__(
        self,
        models: Mapping[str, Served],
        generators: Mapping[str, DeploymentHandle],
        limits: Limits,
        settings: ReplicaSettings,
        token_digest: str | None,
    ) -> None:
        metrics = ServiceMetrics()
        self._everybody: DeploymentHandle | None = None
        self._calls = Calls(generators, settings.piece_timeout_s, metrics)
        self._service = ShowerService(models, self._calls.make, limits, token_digest, metrics)

    def __serve_build_asgi_app__(self) -> Guard:
        """The web application."""
        return make_app(self._service, Backstage(self._calls.ready, self._snapshots))

    async def snapshot(self) -> list[Family]:
        """What this process counted."""
        return self._service.metrics.snapshot()

    async def drain(self) -> int:
        """Take no more requests; the number of those that are still being answered."""
        self._service.draining = True
        return self._service.under_way

    async def _snapshots(self) -> Sequence[Sequence[Family]]:
        """What all gateways counted."""
        if self._everybody is None:
            context = serve.get_replica_context()
            self._everybody = serve.get_deployment_handle(context.deployment, context.app_name)
        found = await self._everybody.broadcast("snapshot").results_async(
            timeout_s=SNAPSHOT_TIMEOUT, return_exceptions=True
        )
        counted = [snapshot for snapshot in found if not isinstance(snapshot, BaseException)]
        return counted or [await self.snapshot()]
