"""``caloray serve`` and ``serve deploy``: a service of bundles on Ray Serve.

:func:`build` is the builder that a deploy file names (``import_path: caloray.distributed.serve:build``);
:func:`run_service` runs the same application in the foreground, with a Ray of its own or on a running one.
"""

from __future__ import annotations

__all__ = ["APPLICATION", "application", "build", "run_service", "token_of"]

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

import ray
from ray import serve
from ray.serve.config import AutoscalingConfig, BackpressureConfig
from ray.serve.context import _get_global_client
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import LoggingConfig

from caloray.bundle import Bundle
from caloray.distributed.serve_replicas import Gateway, Generator
from caloray.distributed.session import Session
from caloray.errors import AuthError, ClusterError
from caloray.interrupt import StopRequest
from caloray.serving.access import (
    TOKEN_VARIABLE,
    digest_of,
    read_token,
    require_protection,
    warn_of_open_line,
)
from caloray.serving.endpoint import Endpoint, unsent
from caloray.serving.models import Served
from caloray.serving.settings import ServeSettings, read_settings

_LOG = logging.getLogger(__name__)
APPLICATION = "caloray"
PIECES_PER_REPLICA = 1024
"""Pieces that may be at a replica at once; its own queue decides who is next, so they should all be there."""
CONNECTIONS = 1000
_POLL = 0.2
_ANSWER = 30.0


def build(args: Mapping[str, Any]) -> serve.Application:
    """The application of a deploy file; ``args`` are the fields of :class:`ServeSettings`.

    Raises:
        ConfigError: The settings are wrong.
        BundleError: A bundle is missing or damaged.
        AuthError: ``access: token``, and there is no token; or ``access: open``, and Ray Serve listens where
            other machines reach it.
    """
    settings = read_settings(args)
    token = token_of(settings)
    host = _http_host()
    if host is not None and not settings.open_to_network:
        require_protection(host, token)
    warn_of_open_line(host or "127.0.0.1", token)
    return application(settings, token)


def _http_host() -> str | None:
    """The interface on which the cluster's Ray Serve listens; None where none runs yet."""
    if not ray.is_initialized():
        return None
    client = _get_global_client(raise_if_no_controller_running=False)
    return None if client is None else client.http_config.host


def token_of(settings: ServeSettings) -> str | None:
    """The token that the settings ask for; None where the service is to be open.

    Raises:
        AuthError: There is none.
    """
    if settings.access == "open":
        return None
    token = read_token(settings.token_file)
    if token is None:
        raise AuthError(
            "the service asks for a token, and there is none",
            hint=f"set {TOKEN_VARIABLE} or `token_file`; `access: open` does without",
        )
    return token


def application(settings: ServeSettings, token: str | None) -> serve.Application:
    """The deployments of a service, every bundle opened and verified once.

    Raises:
        BundleError: A bundle is missing or damaged.
    """
    workers = settings.workers
    served, handles = {}, {}
    for name, path in settings.bundles.items():
        bundle = Bundle.load(path, backend=workers.backend if not workers.gpus else "auto")
        smallest = bundle.block_size if workers.gpus else bundle.joint_sizes[0]
        served[name] = Served.of(name, bundle, smallest)
        handles[name] = _generator(name, settings).bind(path.absolute(), bundle.digest, workers)
    digest = None if token is None else digest_of(token)
    return _gateway(settings).bind(served, handles, settings.limits, workers, digest)


def run_service(
    session: Session,
    settings: ServeSettings,
    endpoint: Endpoint,
    token: str | None,
    stop: StopRequest,
    started: Callable[[str], None],
) -> None:
    """Serve until a stop is asked for; then finish what is under way, and stop.

    Args:
        session: An open Ray session.
        settings: What to serve.
        endpoint: Where to listen.
        token: What opens the service; None: it is open.
        stop: Asked all the time.
        started: Called with the address as soon as requests are answered.

    Raises:
        AuthError: Other machines could use the service without a token.
        BundleError: A bundle is missing or damaged.
        ClusterError: Ray has no room, or the replicas do not come up.
    """
    require_protection(endpoint.host, token)
    if serve.status().proxies:
        raise ClusterError(
            f"Ray Serve already runs on the cluster {session.address}",
            hint="add the service to it: `serve deploy configs/serve.yaml`",
        )
    workers = settings.workers
    needed = {"CPU": workers.cpus, "GPU": workers.gpus}
    copies = workers.replicas * len(settings.bundles)
    session.require({key: amount for key, amount in needed.items() if amount}, "a service", copies)
    built = application(settings, token)
    serve.start(
        proxy_location="HeadOnly",
        http_options={"host": endpoint.host, "port": endpoint.port},
        logging_config=LoggingConfig(log_level="WARNING", enable_access_log=False),
    )
    try:
        handle = _deploy(built)
        started(endpoint.url)
        while not stop.requested:
            time.sleep(_POLL)
        _drain(handle, endpoint.port, settings.drain_s)
    finally:
        if not session.owned:  # our own Ray ends as a whole
            serve.shutdown()


def _deploy(built: serve.Application) -> DeploymentHandle:
    try:
        return serve.run(built, name=APPLICATION, route_prefix="/")
    except RuntimeError as error:
        raise ClusterError(
            f"the service did not start: {str(error).strip().splitlines()[-1]:.300}",
            hint="the replicas' logs are in Ray's session directory, logs/serve",
        ) from error


def _drain(gateways: DeploymentHandle, port: int, seconds: float) -> None:
    """Let gateways refuse new requests and wait until clients have the replies to the others."""
    deadline = time.monotonic() + seconds
    while left := _under_way(gateways) or unsent(port):
        if time.monotonic() > deadline:
            _LOG.warning("%d replies were not taken after %g s and are cut", left, seconds)
            return
        time.sleep(_POLL)


def _under_way(gateways: DeploymentHandle) -> int:
    """Requests that are being answered; a gateway that died has none."""
    found = gateways.broadcast("drain").results(timeout_s=_ANSWER, return_exceptions=True)
    return sum(count for count in found if isinstance(count, int))


def _generator(name: str, settings: ServeSettings) -> Any:
    workers = settings.workers
    options: dict[str, Any] = {"num_replicas": workers.replicas}
    if workers.max_replicas and workers.max_replicas > workers.replicas:
        options = {
            "autoscaling_config": AutoscalingConfig(
                min_replicas=workers.replicas,
                max_replicas=workers.max_replicas,
                target_ongoing_requests=workers.target_pieces,
                upscale_delay_s=5.0,
                downscale_delay_s=300.0,
            )
        }
    return serve.deployment(Generator).options(
        name=f"model-{name}",
        ray_actor_options={"num_cpus": workers.cpus, "num_gpus": workers.gpus},
        max_ongoing_requests=PIECES_PER_REPLICA,
        health_check_period_s=5.0,
        health_check_timeout_s=60.0,
        graceful_shutdown_timeout_s=settings.drain_s,
        max_constructor_retry_count=3,
        **options,
    )


def _gateway(settings: ServeSettings) -> Any:
    return serve.deployment(Gateway).options(
        name="gateway",
        num_replicas=settings.gateways,
        ray_actor_options={"num_cpus": 0},
        max_ongoing_requests=CONNECTIONS,
        max_queued_requests=CONNECTIONS,
        backpressure_config=BackpressureConfig(status_code=503, retry_after_s=2.0),
        health_check_period_s=5.0,
        health_check_timeout_s=60.0,
        graceful_shutdown_timeout_s=settings.drain_s,
        max_constructor_retry_count=3,
    )
