"""Hatchling's hook: compile the native library into the wheel, or leave it out where there is no compiler.

CALORAY_NATIVE_BUILD=0 leaves it out on purpose; =require makes a failure an error (for published wheels).
"""

from __future__ import annotations

import importlib.util
import os
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

BUILD = Path("caloray", "native", "build.py")
SWITCH = "CALORAY_NATIVE_BUILD"


class NativeLibraryHook(BuildHookInterface):
    """Builds ``caloray/native`` before a wheel, ordinary or editable, is put together."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and tag an ordinary wheel for this platform; without the library it stays pure."""
        library = self._compile()
        if library is None or version == "editable":
            return
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform}"
        build_data["artifacts"].append(f"/{library.relative_to(self.root).as_posix()}")

    def _compile(self) -> Path | None:
        wanted = os.environ.get(SWITCH, "")
        if wanted == "0":
            self.app.display_info(f"{SWITCH}=0: caloray goes without its native library")
            return None
        build = _load(Path(self.root, BUILD))
        try:
            found: Path = build.build()
        except (build.BuildError, OSError) as error:
            if wanted == "require":
                raise
            first = str(error).partition("\n")[0]
            self.app.display_warning(f"caloray goes without its native library: {first}")
            return None
        return found


def _load(path: Path) -> Any:
    """The module of a file, without importing the package around it."""
    spec = importlib.util.spec_from_file_location("caloray_native_build", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
