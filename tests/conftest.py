"""The toy model for the tests of all rooms."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# The same examples every time, however slow the machine.
settings.register_profile("caloray", deadline=None, derandomize=True, database=None)
settings.load_profile("caloray")

PROGRAM = Path(__file__).with_name("toy_model.py")


@pytest.fixture(scope="session")
def toy() -> Any:
    """The module ``toy_model``."""
    if "toy_model" not in sys.modules:
        spec = importlib.util.spec_from_file_location("toy_model", PROGRAM)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["toy_model"] = module
        spec.loader.exec_module(module)
    return sys.modules["toy_model"]


@pytest.fixture(scope="session")
def bundle_path(toy: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of the toy model, to be read only."""
    path: Path = toy.bundle(tmp_path_factory.mktemp("original") / "bundle").path
    return path


@pytest.fixture
def bundle_copy(bundle_path: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    return Path(shutil.copytree(bundle_path, tmp_path / "copy"))
