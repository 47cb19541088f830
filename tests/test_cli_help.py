"""The command line answers at once, explains every command, and keeps its exit statuses."""

from __future__ import annotations

import json
import resource
import subprocess
import sys

import pytest
import typer

from caloray.cli import main
from caloray.cli.app import app
from caloray.errors import CaloRayError, ConfigError, InterruptedRunError, catalogue

HEAVY = ["torch", "ray", "mlflow", "pyarrow", "h5py", "matplotlib", "nflows", "numpy", "scipy", "hist"]
LIMIT = 0.5


def commands() -> list[list[str]]:
    """Every command as the words that call it, groups included."""
    root = typer.main.get_command(app)

    def walk(command, words):
        yield words
        for name, child in getattr(command, "commands", {}).items():
            yield from walk(child, [*words, name])

    return list(walk(root, []))


def test_all_commands_are_there():
    expected = (
        "run train generate produce serve request evaluate doctor|"
        "campaign status|campaign verify|campaign merge|tune run|tune report|tune status|"
        "data ingest|data inspect|data verify|data pull|"
        "model inspect|model verify|config show|config schema|track sync"
    )
    words = {" ".join(command) for command in commands()}
    single, *grouped = expected.split("|")
    assert {*single.split(), *grouped} <= words


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_help_explains_and_shows_an_example(words, capsys):
    assert main([*words, "--help"]) == 0
    text = capsys.readouterr().out
    assert "Usage: caloray" in text
    if " ".join(words) not in {"campaign", "data", "model", "config", "track"}:
        assert "Example: caloray " + " ".join(words) in text


def test_help_is_instant():
    """Best of several, in CPU seconds: it waits for nothing, and other work on the machine does not count."""
    command = [sys.executable, "-m", "caloray", "--help"]
    subprocess.run(command, check=True, capture_output=True)
    best = min(_seconds(command) for _ in range(5))
    assert best < LIMIT, f"caloray --help took {best:.2f} s"


def _seconds(command):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_help_loads_nothing_heavy():
    code = (
        "import sys; from caloray.cli import main; status = main(['--help']); "
        f"print(sorted(set({HEAVY!r}) & set(sys.modules)), file=sys.stderr); sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stderr.strip() == "[]"


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("caloray 0.")


@pytest.mark.parametrize(
    "line",
    [
        "trian",
        "train",
        "train a.yaml --no-such-option",
        "generate",
        "generate b -n 0 -o x",
        "data",
        "",
    ],
)
def test_wrong_usage_is_status_2(line, capsys):
    assert main(line.split()) == 2
    captured = capsys.readouterr()
    assert "Usage: caloray" in captured.err + captured.out
    assert "Traceback" not in captured.err


def test_a_mistyped_command_gets_a_suggestion(capsys):
    main(["evalute"])
    assert "evaluate" in capsys.readouterr().err


class _Raise:
    """A command body that fails in a chosen way."""

    def __init__(self, error):
        self.error = error

    def __call__(self):
        raise self.error
        yield


@pytest.fixture
def failing(monkeypatch):
    """Let ``caloray doctor`` fail with an error of choice."""

    def install(error):
        monkeypatch.setattr("caloray.cli.checks.all_checks", _Raise(error))

    return install


def test_an_error_is_one_line_and_a_hint(failing, capsys):
    failing(ConfigError("a.yaml: no field 'sed'", hint="did you mean 'seed'?"))
    assert main(["doctor"]) == 78
    captured = capsys.readouterr()
    assert captured.err == "error[CR-100] a.yaml: no field 'sed'\nhint: did you mean 'seed'?\n"
    assert captured.out == ""


@pytest.mark.parametrize("line", ["doctor --debug", "--debug doctor"])
def test_debug_shows_the_traceback_wherever_it_stands(line, failing, capsys):
    failing(ConfigError("broken"))
    assert main(line.split()) == 78
    text = capsys.readouterr().err
    assert "Traceback" in text
    assert text.endswith("error[CR-100] broken\n")


def test_json_errors_are_for_schedulers(failing, capsys):
    failing(ConfigError("broken", hint="mend it", field="seed"))
    assert main(["doctor", "--json-errors"]) == 78
    report = json.loads(capsys.readouterr().err)
    assert report == {
        "code": "CR-100",
        "message": "broken",
        "hint": "mend it",
        "exit_code": 78,
        "context": {"field": "seed"},
    }


@pytest.mark.parametrize(("code", "name", "status"), [row[:3] for row in catalogue()])
def test_every_family_has_its_exit_status(code, name, status, failing, capsys):
    kinds = {kind.__name__: kind for kind in _all_kinds(CaloRayError)}
    failing(kinds[name]("what"))
    assert main(["doctor"]) == status
    assert capsys.readouterr().err.startswith(f"error[{code}] what")


def _all_kinds(kind):
    ours = (sub for sub in kind.__subclasses__() if sub.__module__ == "caloray.errors")  # Ray derives its own
    return [kind, *(leaf for sub in ours for leaf in _all_kinds(sub))]


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt(), 130), (SystemExit(143), 143)])
def test_signals_have_their_statuses(error, status, failing):
    failing(error)
    assert main(["doctor"]) == status


@pytest.mark.parametrize(("number", "status"), [(15, 143), (2, 130)])
def test_work_that_a_signal_stopped_says_which(number, status, failing):
    failing(InterruptedRunError("stopped", signal=number))
    assert main(["doctor"]) == status


def test_sigterm_leaves_with_143_and_runs_finally(tmp_path):
    mark = tmp_path / "finally"
    code = (
        "import os, signal, sys, pathlib, caloray.cli.checks as checks\n"
        "def stop():\n"
        "    try:\n"
        "        os.kill(os.getpid(), signal.SIGTERM); signal.pause()\n"
        "    finally:\n"
        f"        pathlib.Path({str(mark)!r}).touch()\n"
        "    yield\n"
        "checks.all_checks = stop\n"
        "from caloray.cli import main\n"
        "sys.exit(main(['doctor']))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 143, done.stderr
    assert mark.exists()
    assert "Traceback" not in done.stderr
