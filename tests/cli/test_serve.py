"""``caloray serve`` refuses what cannot work before Ray starts; the rest is in tests/distributed."""

from __future__ import annotations

import socket

import pytest

from caloray.cli import main

TOKEN = "a-token-of-20-letters"


@pytest.fixture(autouse=True)
def _no_ray(monkeypatch):
    monkeypatch.delenv("CALORAY_SERVE_TOKEN", raising=False)

    def refuse(*_):
        raise AssertionError("Ray was started")

    monkeypatch.setattr("caloray.cli.serve._run", refuse)


def refused(capsys, status, words, *arguments):
    assert main(["serve", *map(str, arguments)]) == status
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error
    return error


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "example.org", "192.168.1.7"])
def test_open_to_the_network_without_a_token(capsys, bundle_path, host):
    refused(capsys, 77, "error[CR-610]", bundle_path, "--host", host)


def test_useless_token(capsys, bundle_path, tmp_path):
    (tmp_path / "token").write_text("geheim")
    error = refused(capsys, 77, "error[CR-610]", bundle_path, "--token-file", tmp_path / "token")
    assert "geheim" not in error
    refused(capsys, 77, "no token can be read", bundle_path, "--token-file", tmp_path / "missing")


def test_port_that_is_taken(capsys, bundle_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        refused(capsys, 69, "cannot listen on 127.0.0.1", bundle_path, "--port", taken.getsockname()[1])


def test_bundles_that_are_not_there(capsys, tmp_path, bundle_path):
    refused(capsys, 78, "no directory", tmp_path / "missing")
    refused(capsys, 78, "two bundles are called bundle", f"bundle={bundle_path}", f"bundle={tmp_path}")
    refused(capsys, 78, "bundles", f"a/b={bundle_path}")
    refused(capsys, 78, "below replicas", bundle_path, "--replicas", 3, "--max-replicas", 2)


def test_bundles_that_cannot_be_served(capsys, bundle_copy, tmp_path):
    """Found out before Ray is started: it says so in one line, and nothing else."""
    (tmp_path / "empty").mkdir()
    error = refused(capsys, 66, "error[CR-320]", tmp_path / "empty")
    assert "starting" not in error
    weights = next((bundle_copy / "components").glob("*.safetensors"))
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert weights.name in refused(capsys, 66, "sha256", bundle_copy)
    weights.unlink()
    assert weights.name in refused(capsys, 66, "missing", bundle_copy)


def test_words_are_those_of_the_command(capsys, bundle_path):
    error = refused(capsys, 78, "letters, digits", f"a b={bundle_path}")
    assert "Value error" not in error
    assert "access" not in error
    assert "NAME=DIRECTORY" in error


def test_tokens_that_others_can_see(monkeypatch, caplog, bundle_path, tmp_path):
    """In a file that others may read, or on a line that is not encrypted: a warning."""
    monkeypatch.setattr("caloray.cli.serve._run", lambda *_: None)
    token = tmp_path / "token"
    token.write_text(TOKEN)
    token.chmod(0o644)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = str(probe.getsockname()[1])
    words = ["serve", str(bundle_path), "--port", port, "--token-file", str(token)]
    assert main(words) == 0
    assert "other users can read" in caplog.text
    assert "unencrypted" not in caplog.text
    token.chmod(0o600)
    caplog.clear()
    assert main([*words, "--host", "0.0.0.0"]) == 0
    assert "travel unencrypted" in caplog.text
    assert "other users" not in caplog.text
    assert TOKEN not in caplog.text


def test_what_it_would_run(monkeypatch, bundle_path, tmp_path):
    (tmp_path / "token").write_text(TOKEN)
    found = []
    monkeypatch.setattr("caloray.cli.serve._run", lambda *values: found.append(values))
    options = ["--host", "0.0.0.0", "--port", "0", "--token-file", str(tmp_path / "token")]
    assert main(["serve", str(bundle_path), *options]) == 2
    with socket.create_server(("127.0.0.1", 0)) as probe:
        options[3] = str(probe.getsockname()[1])
    more = ["--replicas", "2", "--max-showers", "50", "--drain", "3", "--backend", "torch"]
    assert main(["serve", f"photons={bundle_path}", *options, *more]) == 0
    ((settings, endpoint, token, address),) = found
    assert settings.bundles == {"photons": bundle_path}
    assert settings.access == "token"
    assert (settings.limits.max_showers, settings.limits.max_requests) == (50, 64)
    assert (settings.workers.replicas, settings.workers.backend, settings.drain_s) == (2, "torch", 3.0)
    assert (endpoint.host, token, address) == ("0.0.0.0", TOKEN, "local")
