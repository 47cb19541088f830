"""The ledger of a campaign: what every trial is, and how it ended, in files that are written atomically.

``<output>/trials/NNNN/trial.json`` is there before the trial starts, ``result.json`` when it has ended. The
next command reads both and knows everything that the last one knew.
"""

from __future__ import annotations

__all__ = ["Kind", "Ledger", "Split", "Status", "Trial", "TrialResult"]

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from caloray.atomic import storage_error, write_json
from caloray.errors import IntegrityError, StorageError

TRIAL, RESULT, CAMPAIGN, SESSIONS = "trial.json", "result.json", "tune.json", "sessions.jsonl"
SCHEMA = "caloray-tune/1"

LATER = frozenset({"split", "gpu_seconds"})
"""Keys that records written before they were there do without."""

Kind = Literal["baseline", "search", "confirm"]
Split = Literal["validation", "test"]
Status = Literal["complete", "pruned", "failed", "stopped"]
_Count = Annotated[int, Field(ge=0)]
_Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_STRICT = ConfigDict(strict=True, extra="forbid")
_Record = TypeVar("_Record", "Trial", "TrialResult")


@dataclass(frozen=True)
class Trial:
    """One complete training and its objectives.

    Args:
        number: From 0 upwards, without gaps.
        kind: The run config as it is, a suggestion of the search, or a repetition afterwards.
        assignment: Dotted field of the run config -> value; empty for the baseline.
        seed: Seed of the run.
        epochs: Epochs of each component.
        digest: Hash of everything that its weights follow from.
        rung: Rung of "halving" and "asha", generation of "pbt".
        parent: The trial that it was promoted from or continues.
        continues: Start from a copy of the parent's folder instead of afresh. A confirmation whose parent has
            the same epochs is only measured again, on its own split.
        split: What its objectives are measured on.
    """

    number: _Count
    kind: Kind
    assignment: dict[str, Any]
    seed: _Count
    epochs: dict[str, Annotated[int, Field(ge=1)]]
    digest: str
    rung: _Count = 0
    parent: _Count | None = None
    continues: bool = False
    split: Split = "validation"

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT


@dataclass(frozen=True)
class TrialResult:
    """How a trial ended.

    Args:
        number: Of the trial.
        status: "pruned": the training itself came to nothing (a loss that is not finite); "failed": its
            process died too often or an unexpected error; "stopped": its limit of time or memory.
        objectives: By name, all to be minimised; empty unless complete.
        reason: Why it is not complete, the error's code first.
        seconds: Elapsed time of all attempts [s].
        cpu_seconds: CPU time of all attempts [s].
        attempts: How often it was started.
        peak_memory: Largest memory that was the process's alone [bytes].
        facts: What else is worth telling.
        gpu_seconds: GPUs times elapsed time of all attempts [s]; None where nobody has noted it.
    """

    number: _Count
    status: Status
    objectives: dict[str, float] = field(default_factory=dict)
    reason: str = ""
    seconds: _Amount = 0.0
    cpu_seconds: _Amount = 0.0
    attempts: _Count = 1
    peak_memory: _Count = 0
    facts: dict[str, Any] = field(default_factory=dict)
    gpu_seconds: _Amount | None = None

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    @property
    def complete(self) -> bool:
        """Whether it has objectives."""
        return self.status == "complete"


class Ledger:
    """The trials of one campaign.

    One process writes at a time (:func:`caloray.io.lock.exclusive`); any number may read.

    Args:
        output: The campaign's directory; nothing is made there before something is added.
    """

    def __init__(self, output: Path) -> None:
        self.output = output

    def folder(self, number: int) -> Path:
        """Folder of a trial."""
        return self.output / "trials" / f"{number:04d}"

    def trials(self) -> list[Trial]:
        """All trials in order.

        Raises:
            IntegrityError: A damaged record, or a gap in the numbers.
        """
        root = self.output / "trials"
        names = [path.name for path in root.iterdir() if path.name.isdigit()] if root.is_dir() else []
        numbers = sorted(map(int, names))
        while numbers and not (self.folder(numbers[-1]) / TRIAL).exists():
            numbers.pop()  # killed between the folder and its first file
        found = [self._trial(number) for number in numbers]
        for expected, trial in enumerate(found):
            if trial.number != expected:
                raise IntegrityError(
                    f"{root}: trial {expected} is missing although {trial.number} is there",
                    hint=f"bring {self.folder(expected)} back, or begin in another output directory",
                )
        return found

    def result(self, number: int) -> TrialResult | None:
        """How a trial ended; None while it has not.

        Raises:
            IntegrityError: A damaged record.
        """
        path = self.folder(number) / RESULT
        if not path.exists():
            return None
        result = _read(path, TrialResult, f"remove {path}: the trial is then carried on from its checkpoint")
        if result.number != number or not _sound(result):
            raise IntegrityError(
                f"{path}: not the result of trial {number}, or objectives that do not go with its status",
                hint=f"remove {path}: the trial is then carried on from its checkpoint",
            )
        return result

    def results(self) -> dict[int, TrialResult]:
        """All results, by number."""
        found = ((trial.number, self.result(trial.number)) for trial in self.trials())
        return {number: result for number, result in found if result is not None}

    def add(self, trial: Trial) -> None:
        """Write a new trial down.

        Raises:
            IntegrityError: Its number is not the next one.
        """
        path = self.folder(trial.number) / TRIAL
        before = self.folder(trial.number - 1) / TRIAL
        if path.exists() or (trial.number > 0 and not before.exists()):
            raise IntegrityError(f"{path}: trial {trial.number} is not the next one of this campaign")
        write_json(path, {"schema": SCHEMA} | asdict(trial))

    def finish(self, result: TrialResult) -> None:
        """Write down how a trial ended; the first word counts (a second one is ignored)."""
        path = self.folder(result.number) / RESULT
        if not path.exists():
            write_json(path, {"schema": SCHEMA} | asdict(result))

    def table(self) -> list[dict[str, Any]]:
        """One flat row per trial: what it is, its values, how it ended."""
        results = self.results()
        rows = []
        for trial in self.trials():
            result = results.get(trial.number)
            row: dict[str, Any] = {key: value for key, value in asdict(trial).items() if key != "assignment"}
            row |= {"status": "open" if result is None else result.status}
            row |= {name: value for name, value in trial.assignment.items() if name not in row}
            rows.append(row if result is None else row | result.objectives | {"seconds": result.seconds})
        return rows

    def claim(self, identity: Mapping[str, Any]) -> None:
        """Take the directory for one campaign, or go on with the same one.

        Args:
            identity: What makes it this campaign (:func:`caloray.tuning.resolve.identity`), as JSON.

        Raises:
            StorageError: Another campaign's trials are here, with the fields that differ.
        """
        if not self.is_of(identity):
            write_json(self.output / CAMPAIGN, {"schema": SCHEMA, "identity": _plain(identity)})

    def is_of(self, identity: Mapping[str, Any]) -> bool:
        """Whether the directory holds this campaign already; writes nothing.

        Args:
            identity: As for :meth:`claim`; what is compared are its keys, those left out are not.

        Returns:
            False where there is no campaign yet, or one that never began a trial.

        Raises:
            StorageError: Another campaign's trials are here, with the fields that differ.
        """
        path, wanted = self.output / CAMPAIGN, _plain(identity)
        if not path.exists() or not self.trials():
            return False
        there = _json(path, f"remove {path}: the next command writes it again").get("identity")
        there = there if isinstance(there, dict) else {}
        differing = _differing({key: value for key, value in there.items() if key in wanted}, wanted)
        if differing:
            raise StorageError(
                f"{self.output}: holds the trials of another campaign; {'; '.join(differing[:3])}"
                + (f"; and {len(differing) - 3} more" if len(differing) > 3 else ""),
                hint="choose another output directory, or go back to the settings that it began with",
            )
        return True

    def note_session(self, session: str, seconds: float) -> None:
        """Say how long a session has lasted so far; the largest number of each session counts.

        Raises:
            StorageError: The line cannot be written.
        """
        path = self.output / SESSIONS
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a") as file:
                file.write(json.dumps({"session": session, "seconds": round(seconds, 3)}) + "\n")
        except OSError as error:
            raise storage_error(error, path) from error

    def sessions(self) -> dict[str, float]:
        """Elapsed seconds of each session; a line that a killed process left half written is skipped."""
        path = self.output / SESSIONS
        found: dict[str, float] = {}
        for line in path.read_text(errors="replace").splitlines() if path.exists() else ():
            try:
                value = json.loads(line)
                name, seconds = str(value["session"]), float(value["seconds"])
            except (ValueError, TypeError, KeyError):
                continue
            found[name] = max(seconds, found.get(name, 0.0))
        return found

    def _trial(self, number: int) -> Trial:
        path = self.folder(number) / TRIAL
        hint = f"bring {path} back, or begin in another output directory"
        trial = _read(path, Trial, hint)
        if trial.number != number:
            raise IntegrityError(f"{path}: number {trial.number}, expected trial {number}", hint=hint)
        if trial.parent is not None and trial.parent >= number:
            raise IntegrityError(
                f"{path}: trial {number} cannot come from trial {trial.parent}, which is no earlier one",
                hint=hint,
            )
        return trial


def _json(path: Path, hint: str) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no complete JSON"
        raise IntegrityError(f"{path}: cannot be read ({reason})", hint=hint) from error
    if not isinstance(value, dict) or value.get("schema") != SCHEMA:
        found = value.get("schema") if isinstance(value, dict) else type(value).__name__
        raise IntegrityError(f"{path}: schema {found!r}, expected {SCHEMA!r}", hint=hint)
    return value


def _read(path: Path, kind: type[_Record], hint: str) -> _Record:
    value = _json(path, hint)
    value.pop("schema")
    names = {item.name for item in fields(kind)}
    later = LATER - ({"split"} if value.get("kind") == "confirm" else set())
    odd = (names - later - set(value)) | (set(value) - names)
    if odd:
        raise IntegrityError(f"{path}: keys that are missing or unknown: {', '.join(sorted(odd))}", hint=hint)
    try:
        record: _Record = _adapter(kind.__name__).validate_json(json.dumps(value))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise IntegrityError(
            f"{path}: {place}: {first['msg']}, found {first['input']!r:.60}", hint=hint
        ) from error
    return record


@cache
def _adapter(name: str) -> TypeAdapter[Any]:
    return TypeAdapter({"Trial": Trial, "TrialResult": TrialResult}[name])


def _sound(result: TrialResult) -> bool:
    values = result.objectives.values()
    return bool(result.objectives) == result.complete and all(math.isfinite(value) for value in values)


def _plain(identity: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(dict(identity)))
    return found


def _differing(there: Any, wanted: Any, name: str = "") -> list[str]:
    """What differs between two JSON values, a line per leaf."""
    if isinstance(there, dict) and isinstance(wanted, dict):
        found: list[str] = []
        for key in sorted(set(there) | set(wanted)):
            inner = f"{name}.{key}" if name else key
            found += _differing(there.get(key), wanted.get(key), inner)
        return found
    short = (json.dumps(value)[:80] for value in (there, wanted))
    return [] if there == wanted else [f"{name}: it has {next(short)}, here {next(short)}"]
