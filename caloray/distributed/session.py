"""The connection to Ray: a small one of our own on this machine, or a cluster that already runs.

Whoever reaches the ports of a Ray without authentication can run code on it (CVE-2023-48022), so a session
refuses a Ray that other machines can reach and that asks nobody for a token.
"""

from __future__ import annotations

__all__ = ["ClusterSettings", "Session", "connect", "environment"]

import logging
import os
import secrets
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Protocol

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from caloray.distributed.versions import Versions, differences, versions_here
from caloray.errors import AuthError, ClusterError

_LOG = logging.getLogger(__name__)
LOCAL = "local"
_DEFAULTS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_DATA_USE_DATASOURCE_V2": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
}
_QUIET = ("ray", "ray.data", "ray.train", "ray.serve")
_ALIVE_TIMEOUT = 60.0
_STARTS = 2  # Ray gives its own processes 30 s to come up, which no setting changes


class ClusterSettings(Protocol):
    """What a session needs to know; the run config's ``cluster`` section has these fields."""

    @property
    def address(self) -> str:
        """``local`` (a Ray of our own), ``auto``, or ``host:port``."""

    @property
    def num_cpus(self) -> int | None:
        """Logical CPUs of a Ray of our own; None: as many as the machine has."""

    @property
    def object_store_gb(self) -> float:
        """Shared memory of a Ray of our own [GB]."""

    @property
    def allow_unauthenticated(self) -> bool:
        """Accept a Ray without token authentication that other machines can reach."""


@dataclass(frozen=True)
class Session:
    """An open connection.

    Args:
        address: The cluster's ``host:port``.
        owned: Whether this process started the Ray and stops it at the end.
    """

    address: str
    owned: bool

    def resources(self) -> Mapping[str, float]:
        """Total logical resources: ``CPU``, ``GPU`` ..."""
        return dict(ray.cluster_resources())

    def require(self, needed: Mapping[str, float], what: str, copies: int = 1) -> None:
        """Refuse work that this Ray can never place, instead of waiting for it for ever.

        A cluster that we only joined may grow, so there it is a warning.

        Args:
            needed: Resources that one node must have.
            what: The work's name in messages.
            copies: How often they are needed at the same time.

        Raises:
            ClusterError: Our own Ray has not enough.
        """
        nodes = [node["Resources"] for node in _alive()]
        largest = {key: max((node.get(key, 0.0) for node in nodes), default=0.0) for key in needed}
        places = places_for(needed)
        if places >= copies:
            return
        message = (
            f"{what} needs {copies} x ({_listed(needed)}); Ray has {_listed(self.resources(), needed)} in "
        )
        message += f"{len(nodes)} nodes, at most {_listed(largest)} on one"
        if not self.owned:
            _LOG.warning("%s: it waits until the cluster has grown", message)
            return
        raise ClusterError(
            message,
            hint="lower the config's `workers` section, raise `cluster.num_cpus`, or use a larger cluster",
        )

    def check_directory(self, directory: Path) -> None:
        """Make sure that every node sees ``directory`` and runs the same versions as this process.

        Raises:
            ClusterError: A node does not see it, or runs another caloray, Ray or torch.
        """
        nodes = _alive()
        if len(nodes) == 1 and nodes[0]["NodeID"] == ray.get_runtime_context().get_node_id():
            return
        token = directory / f".seen-by-all-{uuid.uuid4().hex}.tmp"
        token.write_text(token.name)
        try:
            answers = _ask_nodes(nodes, token)
        finally:
            token.unlink(missing_ok=True)
        _judge(answers, directory)


@contextmanager
def connect(settings: ClusterSettings) -> Iterator[Session]:
    """Open a session; an own Ray is stopped at the end, a foreign one only left.

    Inside a job of ``ray job submit`` (or wherever ``RAY_ADDRESS`` is set) the session attaches to that
    cluster, whatever the address in the config. A process that is already connected keeps its connection.

    Raises:
        ClusterError: Nothing answers at the address.
        AuthError: The Ray can be reached by other machines and asks for no token.
    """
    environment()
    if ray.is_initialized():
        yield Session(_address(), owned=False)
        return
    outside = os.environ.get("RAY_ADDRESS") or (settings.address if settings.address != LOCAL else None)
    if outside is None:
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
        _ensure_token()
        if not _token_mode(unset=True) and not settings.allow_unauthenticated:
            raise _open_to_all("RAY_AUTH_MODE switches it off")
    info = _initialise(settings, outside)
    try:
        if outside is not None and not settings.allow_unauthenticated:
            _require_auth(info)
        yield Session(_address(), owned=outside is None)
    finally:
        ray.shutdown()


def environment() -> None:
    """Set Ray's own switches (quiet, quick reports) where the user has not set them.

    ``RAY_AUTH_MODE`` is not among them: Ray reads it when it is imported, and a new local Ray switches token
    authentication on by itself unless the variable says otherwise.
    """
    for key, value in _DEFAULTS.items():
        os.environ.setdefault(key, value)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.ERROR)


def _ensure_token() -> None:
    """Ray keeps its token in HOME; where that cannot be written (containers) this process makes its own."""
    if "RAY_AUTH_TOKEN" in os.environ or "RAY_AUTH_TOKEN_PATH" in os.environ:
        return
    home = Path.home()
    if not (home / ".ray" / "auth_token").is_file() and not os.access(home, os.W_OK):
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def _initialise(settings: ClusterSettings, outside: str | None) -> Mapping[str, Any]:
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if outside is None:
        options |= {
            "address": LOCAL,
            "num_cpus": settings.num_cpus,
            "object_store_memory": int(settings.object_store_gb * 1e9),
            "include_dashboard": False,
        }
    else:
        options["address"] = outside
    for attempt in range(1, _STARTS + 1):
        try:
            context = ray.init(**options)
            break
        except Exception as error:  # Ray raises plain Exception where a node does not come up in time
            if outside is None and attempt < _STARTS and "timed out during startup" in str(error):
                _LOG.warning("Ray did not start within its 30 s on this busy machine; trying once more")
                ray.shutdown()
                continue
            raise _not_reached(outside, error) from error
    return dict(context.address_info)


def _not_reached(outside: str | None, error: Exception) -> ClusterError:
    reason = str(error).strip().split("\n", maxsplit=1)[0][:200]
    if outside is None:
        return ClusterError(
            f"no Ray on this machine: {reason}",
            hint="is the machine out of memory, disk or processes? `caloray doctor` looks; else try again",
        )
    return ClusterError(
        f"no Ray at {outside}: {reason}",
        hint="start one with `ray start --head` (RAY_AUTH_MODE=token), or use `cluster.address: local`",
    )


def _require_auth(info: Mapping[str, Any]) -> None:
    beyond = [node["NodeManagerAddress"] for node in _alive() if not _loopback(node["NodeManagerAddress"])]
    if not beyond:
        return
    dashboard = info.get("webui_url")
    if dashboard and _answers_strangers(f"http://{dashboard}/api/jobs/"):
        raise _open_to_all(f"the dashboard at {dashboard} answers without a token")
    if not dashboard and not _token_mode():
        raise _open_to_all(f"node {beyond[0]} was joined without a token")


def _open_to_all(reason: str) -> AuthError:
    return AuthError(
        f"this Ray has no token authentication ({reason}): whoever reaches its ports can run code",
        hint="start Ray with RAY_AUTH_MODE=token, or (closed networks) set `cluster.allow_unauthenticated`",
    )


def _answers_strangers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:  # noqa: S310  (always http)
            return bool(reply.status == 200)
    except urllib.error.HTTPError:
        return False
    except OSError:
        return not _token_mode()


def _token_mode(*, unset: bool = False) -> bool:
    mode = os.environ.get("RAY_AUTH_MODE")
    return unset if mode is None else mode.lower() == "token"


def _loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def _alive() -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


def _address() -> str:
    return str(ray.get_runtime_context().gcs_address)


@ray.remote(num_cpus=0, max_retries=1)
def _look(token: str) -> tuple[bool, Versions]:
    path = Path(token)
    return path.is_file() and path.read_text() == path.name, versions_here()


def _ask_nodes(nodes: list[dict[str, Any]], token: Path) -> dict[str, tuple[bool, Versions]]:
    names = [str(node["NodeManagerHostname"]) + " " + str(node["NodeID"])[:8] for node in nodes]
    asked = [
        _look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(
            str(token)
        )
        for node in nodes
    ]
    try:
        return dict(zip(names, ray.get(asked, timeout=_ALIVE_TIMEOUT), strict=True))
    except ray.exceptions.RayError as error:
        raise ClusterError(
            f"not every node can run caloray: {str(error).strip().splitlines()[-1][:200]}",
            hint="install the same environment on all nodes",
        ) from error


def _judge(answers: Mapping[str, tuple[bool, Versions]], directory: Path) -> None:
    blind = [node for node, (seen, _) in answers.items() if not seen]
    if blind:
        raise ClusterError(
            f"{directory} is not visible on node {blind[0]} ({len(blind)} of {len(answers)} nodes)",
            hint="put the run's output on a file system that all nodes share",
        )
    skewed = differences(versions_here(), {node: versions for node, (_, versions) in answers.items()})
    if skewed:
        raise ClusterError(
            f"nodes run other versions than this process: {'; '.join(skewed)}",
            hint="install the same environment on all nodes",
        )


def places_for(needed: Mapping[str, float]) -> int:
    """How many times ``needed`` fits on the nodes that are alive, each time on one of them."""
    return sum(
        min(
            (int(node["Resources"].get(key, 0.0) / amount + 1e-9) for key, amount in needed.items()),
            default=1,
        )
        for node in _alive()
    )


def _listed(resources: Mapping[str, float], only: Mapping[str, float] | None = None) -> str:
    names = resources if only is None else only
    return ", ".join(f"{resources.get(key, 0.0):g} {key}" for key in names)
