"""The bundles of a service, looked at before anything expensive is started."""

from __future__ import annotations

__all__ = ["require_intact"]

from collections.abc import Mapping
from pathlib import Path

from caloray.bundle_file import read_bundle_file
from caloray.errors import ConfigError


def require_intact(bundles: Mapping[str, Path]) -> None:
    """Refuse bundles that are not there or not as they were made; no model is built.

    Args:
        bundles: Directories by name.

    Raises:
        ConfigError: A path is no directory.
        BundleError: A file is missing or altered, or the bundle is of a newer format.
    """
    for name, path in bundles.items():
        if not path.is_dir():
            raise ConfigError(f"bundle {name}: {path} is no directory", hint="pass the path of a bundle")
        file = read_bundle_file(path)
        for entry in file.components.values():
            entry.checked(path)
