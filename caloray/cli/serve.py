"""``caloray serve``: showers over HTTP."""

from __future__ import annotations

__all__ = ["EXAMPLE", "serve"]

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from caloray.cli.console import note, say
from caloray.flows.names import Backend

if TYPE_CHECKING:
    from caloray.serving.endpoint import Endpoint
    from caloray.serving.settings import ServeSettings

EXAMPLE = "Example: caloray serve runs/demo/bundle --port 8000"

Bundles = Annotated[
    list[str], typer.Argument(metavar="BUNDLE...", help="Bundle directories, or NAME=DIRECTORY.")
]
Host = Annotated[str, typer.Option(help="Interface; any but a loopback address asks for a token.")]
TokenFile = Annotated[Path | None, typer.Option(help="File with the token; else CALORAY_SERVE_TOKEN counts.")]
Replicas = Annotated[int, typer.Option(min=1, help="Processes that sample each model.")]
MaxReplicas = Annotated[
    int | None, typer.Option(min=1, help="Start up to so many under load; as many as --replicas if omitted.")
]
Cpus = Annotated[float, typer.Option(min=0.01, help="Logical CPUs of each of them.")]
Gpus = Annotated[float, typer.Option(min=0, help="GPUs (or a fraction) of each of them.")]
Inverter = Annotated[
    Backend, typer.Option(help="What inverts the flows; `caloray doctor` says which there are.")
]
MaxShowers = Annotated[int | None, typer.Option(min=1, help="Most showers of one request; 10000 if omitted.")]
MaxRequests = Annotated[
    int | None, typer.Option(min=1, help="Requests at the same time; more get 503. 64 if omitted.")
]
Drain = Annotated[
    float, typer.Option(min=0, help="Seconds that requests under way have when the service is stopped.")
]
Address = Annotated[
    str, typer.Option(help="Ray to serve on: local (a Ray of our own), auto, or host:port of a running one.")
]


def serve(
    bundles: Bundles,
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="TCP port.")] = 8000,
    token_file: TokenFile = None,
    replicas: Replicas = 1,
    max_replicas: MaxReplicas = None,
    cpus: Cpus = 1.0,
    gpus: Gpus = 0.0,
    backend: Inverter = "auto",
    max_showers: MaxShowers = None,
    max_requests: MaxRequests = None,
    drain: Drain = 60.0,
    address: Address = "local",
) -> None:
    """Serve showers of one or more bundles over HTTP until the process is told to stop.

    SIGTERM or Ctrl-C let requests under way finish. The address shows a page that draws showers; /docs tells
    the interface. Settings beyond these options are those of a deploy file, see configs/serve.yaml.
    """
    from caloray.serving.access import read_token, require_protection, warn_of_open_line
    from caloray.serving.endpoint import Endpoint

    limits = {"max_showers": max_showers, "max_requests": max_requests}
    workers = {
        "replicas": replicas,
        "max_replicas": max_replicas,
        "cpus": cpus,
        "gpus": gpus,
        "backend": backend,
    }
    token = read_token(token_file)
    require_protection(host, token)
    settings = _settings(bundles, token, limits, workers, drain)
    endpoint = Endpoint(host, port)
    endpoint.require_free()
    warn_of_open_line(host, token)
    _run(settings, endpoint, token, address)


def _settings(
    bundles: list[str],
    token: str | None,
    limits: dict[str, Any],
    workers: dict[str, Any],
    drain: float,
) -> ServeSettings:
    from caloray.serving.bundles import require_intact
    from caloray.serving.settings import name_bundles, read_settings

    named = name_bundles(bundles)
    settings = read_settings(
        {
            "bundles": named,
            "access": "open" if token is None else "token",
            "limits": {key: value for key, value in limits.items() if value is not None},
            "workers": workers,
            "drain_s": drain,
        },
        hint=f"bundles are given as NAME=DIRECTORY, limits as options; {EXAMPLE}",
    )
    require_intact(settings.bundles)
    return settings


def _run(settings: ServeSettings, endpoint: Endpoint, token: str | None, address: str) -> None:
    from caloray.config import ClusterConfig
    from caloray.distributed.serve import run_service
    from caloray.distributed.session import connect
    from caloray.interrupt import watch_signals

    workers = settings.workers
    wanted = workers.cpus * (workers.max_replicas or workers.replicas) * len(settings.bundles)
    note("starting Ray Serve ...")

    def started(url: str) -> None:
        say(f"serving {', '.join(settings.bundles)} at {url}")
        note("a page to look at showers: " + url + "/ ; the interface: " + url + "/docs ; Ctrl-C stops")
        if token is None:
            note("open to every program of this machine (no token)")

    cluster = ClusterConfig(address=address, num_cpus=_cpus(wanted, address))
    with connect(cluster) as session, watch_signals() as stop:
        run_service(session, settings, endpoint, token, stop, started)
    note("stopped")


def _cpus(wanted: float, address: str) -> int | None:
    """Logical CPUs of a Ray of our own: at least as many as the replicas were given."""
    import math
    import os

    return max(os.cpu_count() or 1, math.ceil(wanted)) if address == "local" else None
