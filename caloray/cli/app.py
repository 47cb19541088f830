"""The frame of the command line: global options, errors, signals and exit statuses.

Command modules import nothing heavy at their top, so that ``caloray --help`` stays instant.
"""

from __future__ import annotations

__all__ = ["app", "run_command_line"]

import json
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, Never

import typer

import caloray
from caloray.atomic import storage_error
from caloray.cli import (
    campaign,
    config,
    data,
    diphoton,
    doctor,
    evaluate,
    generate,
    leaderboard,
    model,
    place,
    produce,
    request,
    run,
    serve,
    track,
    train,
    tune,
)
from caloray.errors import CaloRayError, InterruptedRunError, StorageError

GLOBAL_FLAGS = ("--debug", "--json-errors", "-q", "--quiet", "-v", "--verbose")

app = typer.Typer(
    name="caloray",
    help="Calorimeter showers from normalizing flows: train, mass-produce and check them, with Ray.",
    epilog="Example: caloray run configs/demo.yaml",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(epilog=run.EXAMPLE)(run.run)
app.add_typer(data.app, name="data")
app.command(epilog=train.EXAMPLE)(train.train)
app.add_typer(tune.app, name="tune")
app.command(epilog=generate.EXAMPLE)(generate.generate)
app.command(epilog=produce.EXAMPLE)(produce.produce)
app.add_typer(campaign.app, name="campaign")
app.command(epilog=serve.EXAMPLE)(serve.serve)
app.command(epilog=request.EXAMPLE)(request.request)
app.command(epilog=place.EXAMPLE)(place.place)
app.command(epilog=evaluate.EXAMPLE)(evaluate.evaluate)
app.command(epilog=leaderboard.EXAMPLE)(leaderboard.leaderboard)
app.command(epilog=diphoton.EXAMPLE)(diphoton.diphoton)
app.add_typer(model.app, name="model")
app.add_typer(config.app, name="config")
app.add_typer(track.app, name="track")
app.command(epilog=doctor.EXAMPLE)(doctor.doctor)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"caloray {caloray.__version__}")
        raise typer.Exit


@app.callback()
def _global_options(
    *,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    json_errors: Annotated[bool, typer.Option("--json-errors", help="Print errors as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Only warnings and errors.")] = False,
    verbose: Annotated[int, typer.Option("-v", "--verbose", count=True, help="More detail (-vv: all).")] = 0,
    version: Annotated[  # noqa: ARG001  (handled by its callback)
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    del debug  # read from the arguments where errors are reported
    others = logging.DEBUG if verbose > 1 else logging.WARNING
    logging.basicConfig(stream=sys.stderr, format="%(message)s", level=others)
    for handler in logging.getLogger().handlers:
        if (
            type(handler) is logging.StreamHandler
        ):  # the one above; others may have been put there by a caller
            handler.setFormatter(_JsonLines() if json_errors else logging.Formatter("%(message)s"))
    ours = logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO
    logging.getLogger("caloray").setLevel(ours)


class _JsonLines(logging.Formatter):
    """A log record as one line of JSON, so that every line beside an error in JSON is JSON as well."""

    def format(self, record: logging.LogRecord) -> str:
        """Level, logger and text."""
        found = {"level": record.levelname, "logger": record.name, "message": record.getMessage()}
        if record.exc_info:
            found["traceback"] = self.formatException(record.exc_info)
        return json.dumps(found)


def run_command_line(argv: Sequence[str] | None = None) -> int:
    """Carry out one command line and return its exit status; errors go to stderr in one line and a hint.

    Args:
        argv: Arguments without the program's name; those of the process when omitted.
    """
    arguments = _hoist(sys.argv[1:] if argv is None else argv)
    try:
        with _orderly_termination(), _translated():
            app(args=arguments, prog_name="caloray")
    except CaloRayError as error:
        status = _report(error, debug="--debug" in arguments, as_json="--json-errors" in arguments)
        if argv is None and isinstance(error, InterruptedRunError):
            _leave_at_once(status)
        return status
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return 0


@contextmanager
def _translated() -> Iterator[None]:
    """What the file system says where nobody expected it to say anything, as an error of ours.

    A name that is too long, or that no file can have, reaches many calls before the one that would write.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _unforeseen(error) from error
    except ValueError as error:
        if "null byte" not in str(error) and "null character" not in str(error):
            raise
        raise StorageError(f"a path has a null byte in it ({error})", hint="check the paths") from error


def _unforeseen(error: OSError) -> CaloRayError:
    named = error.filename
    if isinstance(named, str | bytes):
        return storage_error(error, Path(os.fsdecode(named)))
    reason = error.strerror or str(error)
    return StorageError(f"the system said: {reason}", hint="run with --debug for the place where it happened")


def _hoist(argv: Sequence[str]) -> list[str]:
    """Move the global flags to the front, so that they may stand anywhere on the line."""
    end = argv.index("--") if "--" in argv else len(argv)
    head, tail = argv[:end], argv[end:]
    flags = [word for word in head if word in GLOBAL_FLAGS or word == "-vv"]
    return [*flags, *(word for word in head if word not in flags), *tail]


@contextmanager
def _orderly_termination() -> Iterator[None]:
    """SIGTERM leaves through every ``finally``, with status 143; long work puts its own handler on top."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _terminate(signum: int, frame: FrameType | None) -> Never:
    del frame
    raise SystemExit(128 + signum)


def _leave_at_once(status: int) -> Never:
    """End the process without taking torch apart: that can last longer than a scheduler waits for SIGKILL."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _report(error: CaloRayError, *, debug: bool, as_json: bool) -> int:
    if debug:
        traceback.print_exception(error, file=sys.stderr)
    status = _exit_status(error)
    if as_json:
        report = {
            "code": error.code,
            "message": error.message,
            "hint": error.hint,
            "exit_code": status,
            "context": error.context,
        }
        typer.echo(json.dumps(report, default=str), err=True)
        return status
    typer.echo(f"error[{error.code}] {error.message}", err=True)
    if error.hint:
        typer.echo(f"hint: {error.hint}", err=True)
    return status


def _exit_status(error: CaloRayError) -> int:
    """The error's own status, or 128 + n where it says that signal n stopped the work."""
    signum = error.context.get("signal")
    return 128 + signum if isinstance(signum, int) else error.exit_code
