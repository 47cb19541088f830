"""The rules of the house that a program can check: sizes, names, docstrings, no print, no assert."""

from __future__ import annotations

import ast
import re
import statistics
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "caloray"
SOURCES = sorted(PACKAGE.rglob("*.py"))
EVERYTHING = sorted(
    chain(SOURCES, *((ROOT / room).rglob("*.py") for room in ("tests", "jobs", "benchmarks", "docs", "data")))
)
MAX_FILE, MAX_FUNCTION = 400, 60
FORBIDDEN_NAMES = {"utils.py", "util.py", "common.py", "helpers.py", "misc.py"}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))


def functions_of(tree: ast.AST) -> list[tuple[str, int]]:
    """Name and length in lines of every function and method, nested ones too, without decorators."""
    return [
        (node.name, node.end_lineno - node.lineno + 1)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def has_all(tree: ast.Module) -> bool:
    targets = [
        target
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
    ]
    return any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets)


def test_the_package_is_there():
    assert len(SOURCES) > 20


@pytest.mark.parametrize("path", EVERYTHING, ids=name_of)
def test_file_size(path):
    lines = len(path.read_text().splitlines())
    assert lines <= MAX_FILE, f"{name_of(path)} has {lines} lines"


@pytest.mark.parametrize("path", EVERYTHING, ids=name_of)
def test_function_size(path):
    long = [f"{name} ({lines})" for name, lines in functions_of(tree_of(path)) if lines > MAX_FUNCTION]
    assert not long, f"{name_of(path)}: {', '.join(long)}"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_module_says_what_it_is_and_what_it_offers(path):
    tree = tree_of(path)
    assert ast.get_docstring(tree), f"{name_of(path)} has no docstring"
    if path.name == "__init__.py" and not any(isinstance(node, ast.FunctionDef) for node in tree.body):
        return
    assert has_all(tree), f"{name_of(path)} has no __all__"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_no_assert_no_print_no_broad_except(path):
    found = []
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Assert):
            found.append(f"assert at line {node.lineno}")
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            found.append(f"print at line {node.lineno}")
        if isinstance(node, ast.ExceptHandler) and _is_broad(node):
            found.append(f"broad except at line {node.lineno}")
    assert not found, f"{name_of(path)}: {', '.join(found)}"


def _is_broad(handler: ast.ExceptHandler) -> bool:
    """Bare, or Exception/BaseException without raising again."""
    if handler.type is None:
        return True
    names = {node.id for node in ast.walk(handler.type) if isinstance(node, ast.Name)}
    raises = any(isinstance(node, ast.Raise) for node in ast.walk(handler))
    return bool(names & {"Exception", "BaseException"}) and not raises


def test_no_drawers_for_odds_and_ends():
    assert not [name_of(path) for path in EVERYTHING if path.name in FORBIDDEN_NAMES]


def test_nothing_in_the_package_unpickles_a_model():
    """Rule 8: no pickle.load, no torch.load but weights_only=True, no yaml.load, no allow_pickle=True."""
    calls = [
        (path, node) for path in SOURCES for node in ast.walk(tree_of(path)) if isinstance(node, ast.Call)
    ]
    assert not [f"{name_of(path)}, line {call.lineno}" for path, call in calls if _can_run_code(call)]


@pytest.mark.parametrize(
    ("code", "unsafe"),
    [
        ("pickle.load(f)", True),
        ("pickle.Unpickler(f)", True),
        ("torch.load(p)", True),
        ("torch.load(p, weights_only=False)", True),
        ("torch.load(p, weights_only=True)", False),
        ("np.load(p, allow_pickle=True)", True),
        ("np.load(p)", False),
        ("yaml.load(t, Loader=yaml.Loader)", True),
        ("yaml.safe_load(t)", False),
        ("eval(t)", True),
    ],
)
def test_the_check_itself(code, unsafe):
    assert _can_run_code(ast.parse(code).body[0].value) is unsafe


def _can_run_code(call: ast.Call) -> bool:
    name = ast.unparse(call.func)
    if name == "torch.load":
        return not _says(call, "weights_only")
    unsafe = {"pickle.load", "pickle.loads", "pickle.Unpickler", "yaml.load", "eval", "exec", "joblib.load"}
    return name in unsafe or _says(call, "allow_pickle")


def _says(call: ast.Call, keyword: str) -> bool:
    """Whether ``keyword=True`` is among the arguments."""
    return any(
        item.arg == keyword and isinstance(item.value, ast.Constant) and item.value.value is True
        for item in call.keywords
    )


def test_no_paths_of_one_machine():
    """Rule of publishing: no absolute home or scratch folder in what is committed."""
    pages = chain.from_iterable(ROOT.glob(pattern) for pattern in ("*.md", "docs/*.md", "configs/*.yaml"))
    texts = chain(EVERYTHING, pages)
    offence = re.compile(r"/(home|Users|work|scratch|afs|eos)/\w+")
    found = [name_of(path) for path in texts if path != Path(__file__) and offence.search(path.read_text())]
    assert not found


def test_print_sizes(capsys, record_property):
    """No limit here: the distribution, for `pytest -s` and the JUnit report."""
    files = [len(path.read_text().splitlines()) for path in SOURCES]
    functions = [lines for path in SOURCES for _, lines in functions_of(tree_of(path))]
    for what, lengths in (("files", files), ("functions", functions)):
        deciles = statistics.quantiles(lengths, n=10)
        text = f"{len(lengths)} {what}: median {deciles[4]:.0f}, p90 {deciles[8]:.0f}, longest {max(lengths)}"
        record_property(what, text)
        with capsys.disabled():
            print(f"\n  {text} lines", end="")  # noqa: T201
    assert statistics.median(functions) < 20
