"""What software a process runs, to be compared between the driver and its workers."""

from __future__ import annotations

__all__ = ["Versions", "differences", "versions_here"]

import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

import caloray

Versions = dict[str, str]
_PACKAGES = ("ray", "torch", "numpy", "pyarrow")


def versions_here() -> Versions:
    """Versions of this process: Python, caloray and the libraries that results depend on."""
    found = {"python": platform.python_version(), "caloray": caloray.__version__}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "missing"
    return found


def differences(driver: Versions, nodes: Mapping[str, Versions]) -> list[str]:
    """One phrase for each package that a node has in another version than the driver."""
    return [
        f"{package} {driver[package]} here, {there.get(package, 'missing')} on {node}"
        for node, there in nodes.items()
        for package in driver
        if there.get(package, "missing") != driver[package]
    ]
