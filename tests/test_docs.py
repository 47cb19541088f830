"""Pages that are made from the code are current."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

import caloray.errors
from caloray.cli import main
from caloray.errors import CaloRayError, catalogue

ROOT = Path(__file__).parents[1]


def _builder():
    spec = importlib.util.spec_from_file_location("build_errors", ROOT / "docs" / "build_errors.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_errors_page_is_current():
    builder = _builder()
    assert builder.PAGE.read_text() == builder.page(), "run `make docs`"


def test_every_error_has_its_own_code_and_a_known_exit_status():
    rows = catalogue()
    codes = [code for code, *_ in rows]
    assert len(set(codes)) == len(codes)
    assert {status for _, _, status, _ in rows} <= {65, 66, 69, 70, 74, 75, 77, 78}
    assert all(text.endswith(".") for *_, text in rows)


def test_every_error_is_exported():
    kinds = {
        name
        for name, value in vars(caloray.errors).items()
        if isinstance(value, type) and issubclass(value, CaloRayError)
    }
    assert kinds <= set(caloray.errors.__all__)


def _pages():
    return [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]


@pytest.mark.parametrize("page", _pages(), ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text())
    local = [link.partition("#")[0] for link in links if not re.match(r"[a-z]+:|#", link)]
    assert not [link for link in local if not (page.parent / link).exists()]


def test_every_file_that_the_readme_names_exists():
    """Code spans that look like files of the repository; those under runs/ are made by the demo."""
    spans = re.findall(
        r"`((?:caloray|configs|jobs|data|docs|tests)/[\w./*-]*)`", (ROOT / "README.md").read_text()
    )
    assert spans
    assert not [span for span in spans if not (ROOT / span).exists()]


def test_every_config_that_the_readme_names_exists():
    names = re.findall(r"`(\w+\.yaml)`", (ROOT / "README.md").read_text())
    assert not [name for name in names if not any((ROOT / room / name).exists() for room in ("", "configs"))]


def test_every_command_that_the_readme_names_exists(capsys):
    text = (ROOT / "README.md").read_text()
    lines = set(
        re.findall(r"caloray ((?:data|model|config|track) [a-z]+|run|train|generate|evaluate|doctor)\b", text)
    )
    assert len(lines) >= 10
    for line in lines:
        assert main([*line.split(), "--help"]) == 0, line
    capsys.readouterr()
