"""Tokens: where they come from, what they open, and that nobody else can reach an open service."""

from __future__ import annotations

import pytest

from caloray.errors import AuthError
from caloray.serving.access import admits, digest_of, is_loopback, read_token, require_protection

TOKEN = "a-token-of-20-letters"


def test_token_of_the_environment(monkeypatch):
    monkeypatch.delenv("CALORAY_SERVE_TOKEN", raising=False)
    assert read_token() is None
    monkeypatch.setenv("CALORAY_SERVE_TOKEN", f" {TOKEN}\n")
    assert read_token() == TOKEN


def test_token_file_comes_first(monkeypatch, tmp_path):
    monkeypatch.setenv("CALORAY_SERVE_TOKEN", "another-token-of-the-environment")
    (tmp_path / "token").write_text(TOKEN + "\n")
    assert read_token(tmp_path / "token") == TOKEN
    with pytest.raises(AuthError, match="no token can be read"):
        read_token(tmp_path / "missing")


@pytest.mark.parametrize(
    "bad", ["", "short", "with blanks in the middle of it", "ümläüte-sind-nicht-erlaubt"]
)
def test_useless_tokens_are_refused_without_being_shown(monkeypatch, bad):
    monkeypatch.setenv("CALORAY_SERVE_TOKEN", bad)
    with pytest.raises(AuthError) as caught:
        read_token()
    assert not bad or bad not in f"{caught.value.message} {caught.value.hint}"


def test_what_opens():
    digest = digest_of(TOKEN)
    assert TOKEN not in digest
    assert admits(f"Bearer {TOKEN}", digest)
    assert admits(None, None)
    for header in (None, "", TOKEN, "Bearer", f"Basic {TOKEN}", f"Bearer {TOKEN}x", f"Bearer {digest}"):
        assert not admits(header, digest)


def test_comparison_takes_the_constant_time_function(monkeypatch):
    calls = []
    monkeypatch.setattr("hmac.compare_digest", lambda a, b: calls.append((len(a), len(b))) or False)
    assert not admits(f"Bearer {TOKEN}", digest_of(TOKEN))
    assert calls == [(64, 64)]


@pytest.mark.parametrize(
    ("host", "inside"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.1.2.3", False),
        ("example.org", False),
        ("", False),
    ],
)
def test_reachable_from_elsewhere_only_with_a_token(host, inside):
    assert is_loopback(host) is inside
    require_protection(host, TOKEN)
    if inside:
        require_protection(host, None)
    else:
        with pytest.raises(AuthError, match="without a token"):
            require_protection(host, None)
