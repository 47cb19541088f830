"""Download against a local server that drops connections, ignores ranges, and sends the wrong thing."""

from __future__ import annotations

import fcntl
import hashlib
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from caloray.errors import ConfigError, DataError, IntegrityError, StorageError
from caloray.io import download, known
from caloray.io.download import pull
from caloray.io.known import KNOWN, KnownFile

CONTENT = {
    "toy_1.hdf5": np.random.default_rng(1).bytes(300_000),
    "toy_2.hdf5": np.random.default_rng(2).bytes(1000),
}
FILES = tuple(KnownFile(name, "toy", 42, hashlib.md5(data).hexdigest()) for name, data in CONTENT.items())


class Server(ThreadingHTTPServer):
    """Serves CONTENT below /42/files/ and misbehaves on request."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = dict(CONTENT)
        self.requests: list[tuple[str, str | None]] = []
        self.drop_after: list[int] = []
        self.statuses: list[int] = []
        self.ranges = True
        self.shift = 0
        self.kind = "application/octet-stream"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    """One GET with an optional Range."""

    server: Server

    def do_GET(self) -> None:
        server, asked = self.server, self.headers.get("Range")
        path, _, query = self.path.partition("?")
        name = path.removeprefix("/42/files/")
        server.requests.append((name, asked))
        status = server.statuses.pop(0) if server.statuses else 200
        if status != 200 or name not in server.content or query != "download=1":
            self.send_error(status if status != 200 else 404)
            return
        data, first = server.content[name], 0
        if asked and server.ranges:
            first = int(asked.removeprefix("bytes=").rstrip("-")) + server.shift
            if first >= len(data):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
        else:
            self.send_response(200)
        self.send_header("Content-Type", server.kind)
        self.send_header("Content-Length", str(len(data) - first))
        self.end_headers()
        body = data[first:]
        if server.drop_after:
            body = body[: server.drop_after.pop(0)]
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep the test's output quiet."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(known, "KNOWN", FILES)
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def get(server: Server, folder: Path, progress: download.Progress | None = None) -> list[Path]:
    return pull("toy", folder, server.url, progress, pause=0.0)


def assert_complete(folder: Path) -> None:
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == CONTENT, "and no other file"


def test_downloads_all_files_and_tells_progress(server: Server, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int | None]] = []
    paths = get(server, tmp_path / "a" / "b", lambda *told: seen.append(told))
    assert [path.name for path in paths] == list(CONTENT)
    assert_complete(tmp_path / "a" / "b")
    assert seen[-1] == ("toy_2.hdf5", 1000, 1000)
    assert [request for _, request in server.requests] == [None, None]


def test_verified_files_are_kept(server: Server, tmp_path: Path) -> None:
    get(server, tmp_path)
    before = (tmp_path / "toy_1.hdf5").stat()
    server.requests.clear()
    get(server, tmp_path)
    assert server.requests == []
    assert (tmp_path / "toy_1.hdf5").stat().st_mtime_ns == before.st_mtime_ns


def test_a_broken_connection_is_continued(server: Server, tmp_path: Path) -> None:
    server.drop_after = [100_000, 50_000]
    get(server, tmp_path)
    assert_complete(tmp_path)
    assert [asked for name, asked in server.requests if name == "toy_1.hdf5"] == [
        None,
        "bytes=100000-",
        "bytes=150000-",
    ]


def test_a_killed_download_is_continued(server: Server, tmp_path: Path) -> None:
    (tmp_path / "toy_1.hdf5.part").write_bytes(CONTENT["toy_1.hdf5"][:123_456])
    get(server, tmp_path)
    assert_complete(tmp_path)
    assert server.requests[0] == ("toy_1.hdf5", "bytes=123456-")


def test_killed_between_the_last_byte_and_the_rename(server: Server, tmp_path: Path) -> None:
    (tmp_path / "toy_1.hdf5.part").write_bytes(CONTENT["toy_1.hdf5"])
    get(server, tmp_path)
    assert_complete(tmp_path)
    assert len([name for name, _ in server.requests if name == "toy_1.hdf5"]) == 1


def test_a_part_that_is_too_long_starts_anew(server: Server, tmp_path: Path) -> None:
    (tmp_path / "toy_1.hdf5.part").write_bytes(bytes(400_000))
    get(server, tmp_path)
    assert_complete(tmp_path)


def test_a_server_without_ranges_sends_from_the_start(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    (tmp_path / "toy_1.hdf5.part").write_bytes(b"x" * 1000)
    get(server, tmp_path)
    assert_complete(tmp_path)


def test_a_server_without_ranges_that_always_drops_ends(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    server.drop_after = [1000] * 50
    with pytest.raises(DataError, match="connection closed early"):
        get(server, tmp_path)
    assert len(server.requests) == 1 + download.ATTEMPTS


def test_another_range_than_asked_is_not_appended(server: Server, tmp_path: Path) -> None:
    server.shift = 5
    (tmp_path / "toy_1.hdf5.part").write_bytes(CONTENT["toy_1.hdf5"][:1000])
    with pytest.raises(DataError, match="another range than asked"):
        get(server, tmp_path)
    assert (tmp_path / "toy_1.hdf5.part").stat().st_size == 1000


def test_wrong_content_names_both_md5_and_leaves_no_part(server: Server, tmp_path: Path) -> None:
    server.content["toy_1.hdf5"] = bytes(300_000)
    wrong = hashlib.md5(bytes(300_000)).hexdigest()
    with pytest.raises(IntegrityError, match=f"md5 {wrong}, the published file has {FILES[0].md5}") as caught:
        get(server, tmp_path)
    assert "toy_1.hdf5" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_of_other_content_is_never_overwritten(server: Server, tmp_path: Path) -> None:
    (tmp_path / "toy_1.hdf5").write_bytes(b"mine")
    with pytest.raises(IntegrityError, match=FILES[0].md5) as caught:
        get(server, tmp_path)
    assert "move it away" in caught.value.hint
    assert (tmp_path / "toy_1.hdf5").read_bytes() == b"mine"
    assert server.requests == []


def test_a_web_page_instead_of_the_file(server: Server, tmp_path: Path) -> None:
    server.kind = "text/html; charset=utf-8"
    (tmp_path / "toy_1.hdf5.part").write_bytes(CONTENT["toy_1.hdf5"][:1000])
    with pytest.raises(DataError, match=r"/42/files/toy_1\.hdf5.*web page"):
        get(server, tmp_path)
    assert (tmp_path / "toy_1.hdf5.part").stat().st_size == 1000, "what was good is kept"


@pytest.mark.parametrize(("status", "requests"), [(404, 1), (403, 1), (503, download.ATTEMPTS)])
def test_refusals_are_one_line(server: Server, tmp_path: Path, status: int, requests: int) -> None:
    server.statuses = [status] * 50
    with pytest.raises(DataError, match=f"download failed \\(HTTP {status} ") as caught:
        get(server, tmp_path)
    assert "\n" not in str(caught.value)
    assert len(server.requests) == requests


def test_a_busy_server_is_asked_again(server: Server, tmp_path: Path) -> None:
    server.statuses = [503, 429]
    get(server, tmp_path)
    assert_complete(tmp_path)


def test_no_network(server: Server, tmp_path: Path) -> None:
    url = server.url
    server.shutdown()
    server.server_close()
    with pytest.raises(DataError, match=r"download failed \(.*refused\)") as caught:
        pull("toy", tmp_path, url, pause=0.0)
    assert "same command again" in caught.value.hint


def test_only_one_process_at_a_time(server: Server, tmp_path: Path) -> None:
    with (tmp_path / "toy_1.hdf5.part").open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(StorageError, match="another process is downloading"):
            get(server, tmp_path)
    get(server, tmp_path)
    assert_complete(tmp_path)


def test_the_disk_is_asked_first(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(directory: Path, needed: int) -> None:
        raise StorageError(f"{directory}: need {needed}, have 0")

    monkeypatch.setattr(download, "require_space", full)
    (tmp_path / "toy_1.hdf5.part").write_bytes(CONTENT["toy_1.hdf5"][:100_000])
    with pytest.raises(StorageError, match="need 200000, have 0"):
        get(server, tmp_path)


def test_the_folder_cannot_be_made(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        get(server, tmp_path / "file" / "sub")


def test_unknown_data_set_and_address(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown data set 'ds9'") as caught:
        pull("ds9", tmp_path)
    assert "ds1_photons, ds1_pions, ds2, ds3" in caught.value.hint
    with pytest.raises(ConfigError, match="expected an http or https address"):
        pull("ds2", tmp_path, "file:///etc")


def test_the_published_table() -> None:
    assert len({item.md5 for item in KNOWN}) == len(KNOWN) == 10
    assert known.identify(KNOWN[4].md5.upper()) is KNOWN[4]
    assert known.identify("0" * 32) is None
    assert KNOWN[4].url() == "https://zenodo.org/records/6366271/files/dataset_2_1.hdf5?download=1"
    check: Callable[[str], bool] = lambda md5: len(md5) == 32 and set(md5) <= set("0123456789abcdef")  # noqa: E731
    assert all(check(item.md5) for item in KNOWN)
    counts = {name: len(known.files_of(name)) for name in known.datasets()}
    assert counts == {"ds1_photons": 2, "ds1_pions": 2, "ds2": 2, "ds3": 4}
