"""Sessions: refusals come before anything starts (G36, G39)."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import pytest

from caloray.errors import AuthError, ClusterError


@dataclass(frozen=True)
class Settings:
    address: str = "local"
    num_cpus: int | None = 1
    object_store_gb: float = 0.1
    allow_unauthenticated: bool = False


def test_authentication_switched_off_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    from caloray.distributed.session import connect

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **_: pytest.fail("must not start"))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with pytest.raises(AuthError, match="no token authentication"), connect(Settings()):
        pass


@pytest.mark.parametrize(
    ("node", "dashboard", "mode", "refused"),
    [
        ("127.0.0.1", None, "disabled", False),
        ("10.0.0.5", None, "disabled", True),
        ("10.0.0.5", None, "token", False),
        ("10.0.0.5", "open", "token", True),
        ("10.0.0.5", "closed", "token", False),
    ],
)
def test_a_foreign_ray_must_ask_for_a_token(
    monkeypatch: pytest.MonkeyPatch, node: str, dashboard: str | None, mode: str, refused: bool
) -> None:
    from caloray.distributed import session

    monkeypatch.setenv("RAY_AUTH_MODE", mode)
    monkeypatch.setattr(session, "_alive", lambda: [{"NodeManagerAddress": node}])
    monkeypatch.setattr(session, "_answers_strangers", lambda url: "open" in url)
    info = {"webui_url": dashboard}
    if refused:
        with pytest.raises(AuthError, match="whoever reaches its ports"):
            session._require_auth(info)
    else:
        session._require_auth(info)


def test_nothing_at_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    from caloray.distributed.session import connect

    def refuse(**_: object) -> None:
        raise ConnectionError("Could not find any running Ray instance.\nmore")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", refuse)
    refused = pytest.raises(ClusterError, match=r"no Ray at 10\.0\.0\.9:6379: Could not find")
    with refused, connect(Settings(address="10.0.0.9:6379", allow_unauthenticated=True)):
        pass


@pytest.mark.parametrize("failures", [1, 2])
def test_a_busy_machine_gets_a_second_try(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, failures: int
) -> None:
    import ray

    from caloray.distributed import session

    tries: list[dict[str, object]] = []

    def start(**options: object) -> object:
        tries.append(options)
        if len(tries) <= failures:
            raise Exception("The current node timed out during startup. This could happen")  # noqa: TRY002
        return type("Context", (), {"address_info": {"address": "here"}})()

    monkeypatch.setattr(ray, "init", start)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    with caplog.at_level(logging.WARNING):
        if failures == 1:
            assert session._initialise(Settings(), None) == {"address": "here"}
        else:
            with pytest.raises(ClusterError, match="no Ray on this machine: The current node timed out"):
                session._initialise(Settings(), None)
    assert len(tries) == 2
    assert "trying once more" in caplog.text


def test_nodes_that_differ_are_named(tmp_path: Path) -> None:
    from caloray.distributed.session import _judge
    from caloray.distributed.versions import versions_here

    here = versions_here()
    with pytest.raises(ClusterError, match="not visible on node b"):
        _judge({"a": (True, here), "b": (False, here)}, tmp_path)
    with pytest.raises(ClusterError, match=r"torch .* here, 1\.0 on b"):
        _judge({"a": (True, here), "b": (True, here | {"torch": "1.0"})}, tmp_path)
    _judge({"a": (True, here), "b": (True, dict(here))}, tmp_path)


@pytest.mark.ray
def test_an_open_connection_is_reused_and_left_open(
    ray_cluster: ModuleType, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from caloray.distributed.session import connect

    with connect(Settings()) as session:
        assert not session.owned
        assert session.resources()["CPU"] == 4
        session.check_directory(tmp_path)
        session.require({"CPU": 4}, "a component")
        own = replace(session, owned=True)
        own.require({"CPU": 0.5}, "a component", copies=8)
        with pytest.raises(ClusterError, match=r"needs 1 x \(2 GPU\); Ray has 0 GPU in 1 nodes"):
            own.require({"GPU": 2}, "component next-layer")
        with pytest.raises(ClusterError, match=r"needs 9 x \(0\.5 CPU\); Ray has 4 CPU"):
            own.require({"CPU": 0.5}, "a component", copies=9)
        with caplog.at_level(logging.WARNING):
            session.require({"GPU": 2}, "component next-layer")
        assert "waits until the cluster has grown" in caplog.text
    assert ray_cluster.is_initialized()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.ray
def test_the_probe_of_a_node(ray_cluster: ModuleType, tmp_path: Path) -> None:
    from caloray.distributed import session
    from caloray.distributed.versions import versions_here

    token = tmp_path / "token"
    token.write_text("token")
    answers = session._ask_nodes(session._alive(), token)
    assert list(answers.values()) == [(True, versions_here())]
