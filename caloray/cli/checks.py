"""What ``caloray doctor`` looks at: one function per subject, each yielding its findings."""

from __future__ import annotations

__all__ = ["BROKEN", "OK", "WARN", "Check", "all_checks", "tested_versions"]

import os
import platform
import shutil
import socket
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit

import caloray
from caloray.errors import ConfigError

OK, WARN, BROKEN = "ok", "warning", "broken"
PACKAGES = (
    "torch",
    "ray",
    "numpy",
    "pyarrow",
    "h5py",
    "mlflow",
    "nflows",
    "safetensors",
    "pydantic",
    "typer",
)
MIN_FREE_GB = 2.0
MIN_SHM_GB = 0.5
TIMEOUT = 5.0


@dataclass(frozen=True)
class Check:
    """One finding: what was looked at, how it is, what was found, what to do about it."""

    name: str
    state: str
    found: str
    advice: str = ""


def all_checks() -> Iterator[Check]:
    """Every check of this machine, in the order of the report; nothing is started or changed."""
    yield from _python()
    yield from _packages()
    yield from _torch()
    yield from _flows()
    yield from _memory()
    yield from _disk()
    yield from _ray()
    yield from _mlflow()


def tested_versions() -> dict[str, str]:
    """The versions that caloray is tested with, from its constraints file; empty where that is missing."""
    package = Path(caloray.__file__).parent
    for path in (package / "constraints.txt", package.parent / "constraints.txt"):
        if path.is_file():
            lines = (line.split("==") for line in path.read_text().splitlines() if "==" in line)
            return {name.strip().lower(): version.strip() for name, version in lines}
    return {}


def _python() -> Iterator[Check]:
    found = f"{platform.python_version()} at {sys.executable}"
    state = OK if sys.version_info >= (3, 11) else BROKEN
    yield Check("python", state, found, "" if state == OK else "caloray needs Python 3.11 or newer")
    yield Check("caloray", OK, f"{caloray.__version__} at {Path(caloray.__file__).parent}")


def _packages() -> Iterator[Check]:
    tested = tested_versions()
    for name in PACKAGES:
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            yield Check(name, BROKEN, "not installed", "run `make install`")
            continue
        known = tested.get(name)
        if known is None or version.split("+")[0] == known:
            yield Check(name, OK, version)
        else:
            yield Check(name, WARN, version, f"caloray is tested with {known}")


def _torch() -> Iterator[Check]:
    try:
        import torch
    except (ImportError, OSError) as error:
        yield Check("torch import", BROKEN, str(error), "run `make install` again")
        return
    capability = torch.backends.cpu.get_cpu_capability()
    threads = f"{torch.get_num_threads()} threads on {os.cpu_count()} CPUs, {capability}"
    yield Check("torch cpu", OK, f"{threads}, OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')}")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    for index in range(count):
        properties = torch.cuda.get_device_properties(index)
        yield Check(f"gpu {index}", OK, f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB")
    if not count:
        yield Check("gpu", OK, "none; training and generation use the CPU")


def _flows() -> Iterator[Check]:
    """What inverts flows, what trains their splines, and why nothing faster does."""
    try:
        from caloray.flows.backends import attempt, backends
        from caloray.flows.native_spline import training_spline
    except (ImportError, OSError):
        return  # the row of torch says why
    auto = attempt("auto")
    for backend in backends():
        missed = backend.name == "native" and not backend.available
        advice = "torch samples instead, more slowly" if missed and auto.available else ""
        found = backend.detail if backend.available else f"not available: {backend.detail}"
        yield Check(f"sampling {backend.name}", WARN if missed else OK, found, advice)
    found = f"{auto.detail} on the CPU, jacobi on a GPU" if auto.available else auto.detail
    yield Check("sampling auto", OK if auto.available else BROKEN, found)
    try:
        yield Check("training spline", OK, f"{training_spline('cpu')} on the CPU")
    except ConfigError as error:
        yield Check("training spline", BROKEN, error.message, error.hint)


def _memory() -> Iterator[Check]:
    import psutil

    memory = psutil.virtual_memory()
    yield Check("memory", OK, f"{memory.available / 1e9:.1f} GB free of {memory.total / 1e9:.1f} GB")


def _disk() -> Iterator[Check]:
    for name, path in (("disk here", Path.cwd()), ("disk temporary", Path(tempfile.gettempdir()))):
        free = shutil.disk_usage(path).free / 1e9
        advice = "" if free >= MIN_FREE_GB else "free some space, or work elsewhere"
        writable = os.access(path, os.W_OK)
        state = OK if free >= MIN_FREE_GB and writable else WARN
        yield Check(name, state, f"{free:.1f} GB free in {path}{'' if writable else ' (read-only)'}", advice)
    shared = Path("/dev/shm")  # noqa: S108
    if not shared.is_dir():
        yield Check("shared memory", WARN, "no /dev/shm", "Ray falls back to files in /tmp, which is slower")
        return
    free = shutil.disk_usage(shared).free / 1e9
    advice = "" if free >= MIN_SHM_GB else "Ray falls back to /tmp; in containers raise --shm-size"
    yield Check("shared memory", WARN if advice else OK, f"{free:.1f} GB free in {shared}", advice)


def _ray() -> Iterator[Check]:
    mode = os.environ.get("RAY_AUTH_MODE", "unset")
    if mode.lower() == "disabled":
        yield Check(
            "ray authentication",
            WARN,
            "RAY_AUTH_MODE=disabled",
            "whoever reaches Ray's ports can run code (CVE-2023-48022); set RAY_AUTH_MODE=token",
        )
    else:
        yield _token(mode)
    address = os.environ.get("RAY_ADDRESS")
    if not address or address in {"local", "auto"}:
        yield Check("ray cluster", OK, f"RAY_ADDRESS={address or 'unset'}; caloray starts a Ray of its own")
        return
    yield _reach("ray cluster", address)
    dashboard = os.environ.get("RAY_API_SERVER_ADDRESS")
    if dashboard:
        yield _reach("ray dashboard", dashboard)


def _token(mode: str) -> Check:
    name = "ray authentication"
    if "RAY_AUTH_TOKEN" in os.environ:
        return Check(name, OK, f"RAY_AUTH_MODE={mode}, token from RAY_AUTH_TOKEN")
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH", Path.home() / ".ray" / "auth_token"))
    if not path.is_file():
        return Check(name, OK, f"RAY_AUTH_MODE={mode}, no token yet at {path}")
    found = f"RAY_AUTH_MODE={mode}, token at {path}"
    if path.stat().st_mode & 0o077:
        return Check(name, WARN, found, f"other users can read it: chmod 600 {path}")
    return Check(name, OK, found)


def _reach(name: str, address: str) -> Check:
    parts = urlsplit(address if "://" in address else f"ray://{address}")
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 6379), timeout=TIMEOUT):
            return Check(name, OK, f"{parts.hostname}:{parts.port or 6379} answers")
    except (OSError, ValueError) as error:
        return Check(
            name, BROKEN, f"{parts.hostname}: {error}", "start it, or unset the variable that names it"
        )


def _mlflow() -> Iterator[Check]:
    from caloray.tracking import redact

    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        yield Check("mlflow", OK, "MLFLOW_TRACKING_URI unset; each run keeps a sqlite file of its own")
        return
    if not uri.startswith(("http://", "https://")):
        yield Check("mlflow", OK, redact(uri))
        return
    parts = urlsplit(uri)
    plain = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl().rstrip("/")
    try:
        with urllib.request.urlopen(f"{plain}/health", timeout=TIMEOUT) as reply:  # noqa: S310
            yield Check("mlflow", OK, f"{redact(uri)} answers {reply.status}")
    except urllib.error.HTTPError as error:
        yield Check("mlflow", OK, f"{redact(uri)} answers {error.code}")
    except OSError as error:
        advice = "training goes on without it; `caloray track sync RUN` sends the metrics later"
        yield Check("mlflow", WARN, f"{redact(uri)}: {error}", advice)
