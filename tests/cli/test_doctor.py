"""`caloray doctor` finds what is wrong, starts nothing, and tells no secrets."""

from __future__ import annotations

import http.server
import json
import socket
import threading

import pytest

from caloray.cli import checks, main
from caloray.native import library


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    names = "MLFLOW_TRACKING_URI RAY_ADDRESS RAY_AUTH_MODE RAY_API_SERVER_ADDRESS RAY_AUTH_TOKEN"
    for name in names.split():
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def report(capsys) -> dict[str, dict[str, str]]:
    rows = json.loads(capsys.readouterr().out)
    return {row["name"]: row for row in rows}


def test_a_sound_machine(capsys):
    assert main(["doctor", "--json"]) == 0
    rows = report(capsys)
    assert {"python", "caloray", "torch", "ray", "disk here", "shared memory", "mlflow"} <= set(rows)
    assert rows["torch"]["found"].startswith("2.")


def test_the_table_has_every_row(capsys):
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert "ray authentication" in text
    assert "nflows" in text


def test_a_missing_package_is_broken(capsys, monkeypatch):
    monkeypatch.setattr(checks, "PACKAGES", ["no-such-package"])
    assert main(["doctor", "--json"]) == 69
    assert report(capsys)["no-such-package"]["state"] == "broken"


def test_another_version_than_tested_is_a_warning(capsys, monkeypatch):
    monkeypatch.setattr(checks, "tested_versions", lambda: {"torch": "0.1"})
    assert main(["doctor", "--json"]) == 0
    row = report(capsys)["torch"]
    assert row["state"] == "warning"
    assert "0.1" in row["advice"]


def test_tested_versions_come_from_the_constraints():
    tested = checks.tested_versions()
    assert tested["torch"] == "2.13.0"
    assert set(checks.PACKAGES) <= set(tested)


def test_a_dead_mlflow_server_is_a_warning_without_its_password(capsys, monkeypatch, closed_port):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:sesame@127.0.0.1:{closed_port}")
    assert main(["doctor", "--json"]) == 0
    text = capsys.readouterr().out
    row = {row["name"]: row for row in json.loads(text)}["mlflow"]
    assert row["state"] == "warning"
    assert "track sync" in row["advice"]
    assert "sesame" not in text


def test_a_live_mlflow_server(capsys, monkeypatch):
    class Health(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/health" else 404)
            self.end_headers()

        def log_message(self, *args):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Health) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.server_port}")
        assert main(["doctor", "--json"]) == 0
        thread.join(timeout=10)
    assert report(capsys)["mlflow"]["found"].endswith("answers 200")


def test_an_unreachable_cluster_is_broken(capsys, monkeypatch, closed_port):
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{closed_port}")
    assert main(["doctor", "--json"]) == 69
    assert report(capsys)["ray cluster"]["state"] == "broken"


def test_ray_without_authentication_is_a_warning(capsys, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert main(["doctor", "--json"]) == 0
    row = report(capsys)["ray authentication"]
    assert row["state"] == "warning"
    assert "CVE-2023-48022" in row["advice"]


def test_a_token_that_others_can_read_is_a_warning(capsys, monkeypatch, tmp_path):
    token = tmp_path / "token"
    token.write_text("sesame")
    token.chmod(0o644)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
    assert main(["doctor", "--json"]) == 0
    text = capsys.readouterr().out
    assert {row["name"]: row for row in json.loads(text)}["ray authentication"]["state"] == "warning"
    assert "sesame" not in text


def test_the_back_ends_of_sampling(capsys, monkeypatch):
    assert main(["doctor", "--json"]) == 0
    rows = report(capsys)
    with_library = library.load() is not None
    assert rows["sampling torch"]["state"] == rows["sampling jacobi"]["state"] == "ok"
    assert rows["sampling native"]["state"] == ("ok" if with_library else "warning")
    assert rows["sampling auto"]["found"].startswith("native" if with_library else "torch")
    assert rows["training spline"]["found"].startswith("native" if with_library else "torch")
    if with_library:
        assert library.isa() in rows["sampling native"]["found"]


def test_why_there_is_no_native_back_end(capsys, monkeypatch):
    monkeypatch.setenv("CALORAY_NATIVE", "0")
    assert main(["doctor", "--json"]) == 0
    rows = report(capsys)
    assert rows["sampling native"]["state"] == "warning"
    assert "CALORAY_NATIVE=0" in rows["sampling native"]["found"]
    assert "CALORAY_NATIVE=0" in rows["sampling native-bf16"]["found"]
    assert rows["sampling auto"]["found"].startswith("torch")
    assert rows["training spline"]["found"].startswith("torch")


@pytest.mark.skipif(library.load() is None, reason=library.why_not())
def test_an_unknown_instruction_set_is_broken_throughout(capsys, monkeypatch):
    monkeypatch.setenv("CALORAY_NATIVE_ISA", "nonsense")
    assert main(["doctor", "--json"]) != 0
    rows = report(capsys)
    for name in ("sampling auto", "training spline"):
        assert rows[name]["state"] == "broken"
    assert "nonsense" in rows["sampling auto"]["found"]
    assert "torch samples instead" not in rows["sampling native"]["advice"]
