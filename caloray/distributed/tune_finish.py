"""The end of a campaign: table, page, best settings as a run config, and the model that they give."""

from __future__ import annotations

__all__ = ["finish_tuning", "read_campaign", "write_record", "write_settings"]

import csv
import io
import json
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from caloray.atomic import staging_directory, write_bytes
from caloray.config import RunConfig, load_config
from caloray.distributed.feed import Feed
from caloray.distributed.jobs import component_jobs
from caloray.distributed.pipeline import train_run
from caloray.distributed.run_directory import RunDirectory
from caloray.distributed.session import Session
from caloray.errors import CheckpointError, ConfigError, IntegrityError
from caloray.interrupt import StopRequest
from caloray.training.files import ComponentFolder
from caloray.training.run import FREE, TrainRequest, finished_result, identity_of
from caloray.tuning.best_config import absolute_paths
from caloray.tuning.ledger import Ledger
from caloray.tuning.repetitions import no_bundle
from caloray.tuning.resolve import base_run
from caloray.tuning.settings import TuneConfig
from caloray.tuning.summary import TuningSummary, summarise

_LOG = logging.getLogger(__name__)
SETTINGS, BASE, RECORD = "settings.json", "base", "tuning.json"


def write_settings(settings: TuneConfig) -> None:
    """Keep the campaign and the run config that it searches around beside its trials, without credentials.

    The run config keeps its name, in the folder ``base``. Whoever reads the directory later needs neither of
    the original files. Fields stand in the order of the campaign's file.
    """
    output = settings.output.absolute()
    run = absolute_paths(base_run(settings)).model_dump(mode="json")
    base = f"{BASE}/{settings.config.name}"
    campaign = settings.model_dump(mode="json") | {"set": {}, "config": base, "output": "."}
    for described in (run, campaign):
        described["tracking"].pop("uri", None)
    for before in (output / BASE).glob("*"):
        if before.name != settings.config.name:
            before.unlink()
    write_bytes(output / base, yaml.safe_dump(run, sort_keys=False).encode())
    write_bytes(output / SETTINGS, (json.dumps(campaign, indent=1) + "\n").encode())


def read_campaign(output: Path) -> TuneConfig:
    """The campaign of a directory.

    Raises:
        ConfigError: There is none.
        IntegrityError: Its settings are damaged.
    """
    file = output / SETTINGS
    if not file.is_file():
        raise ConfigError(f"{output}: no {SETTINGS} here", hint="give the output directory of `caloray tune`")
    try:
        value = dict(json.loads(file.read_text()))
        value |= {"config": str(output / str(value["config"])), "output": str(output)}
        settings = TuneConfig.model_validate(value)
    except (OSError, ValueError, TypeError, KeyError, ValidationError) as error:
        reason = str(error).splitlines()[0] if isinstance(error, OSError | ValueError) else "no settings"
        raise IntegrityError(
            f"{file}: unreadable ({reason})", hint="the next `caloray tune` writes it anew"
        ) from error
    if not settings.config.is_file():
        raise ConfigError(f"{settings.config}: gone", hint="the next `caloray tune` writes it anew")
    return settings


def write_record(settings: TuneConfig) -> TuningSummary:
    """Write ``trials.csv``, ``tuning.json``, ``report.html`` and ``best/run.yaml`` from the ledger.

    Raises:
        StorageError: A file cannot be written.
    """
    from caloray.report.tuning import write_tuning_page

    output = settings.output.absolute()
    summary = summarise(settings)
    write_bytes(output / "trials.csv", _csv(Ledger(output).table()).encode())
    summary.save(output / RECORD)
    write_tuning_page(summary.to_dict(), output / "report.html")
    if summary.best_yaml:
        write_bytes(output / "best" / "run.yaml", _own_output(summary.best_yaml, output).encode())
    return summary


def finish_tuning(settings: TuneConfig, session: Session, shards: Path) -> Path | None:
    """Train the whole run config with the best settings, if the campaign asks for it.

    What the best trial has trained, and the components of ``finish.reuse`` that are the same, are taken over.

    Args:
        settings: The campaign.
        session: An open Ray session.
        shards: The ingested showers.

    Returns:
        The bundle; None where none is asked for, or the run config itself is better as far as is known.
    """
    output = settings.output.absolute()
    file = output / "best" / "run.yaml"
    if not (settings.finish.bundle and file.is_file()):
        return None
    summary = summarise(settings).data
    reason = no_bundle(summary)
    if reason:
        _LOG.warning("no bundle is made: %s", reason)
        return None
    config = load_config(file)
    run = RunDirectory.of(config)
    run.path.mkdir(parents=True, exist_ok=True)
    if not run.shards.exists():
        run.shards.symlink_to(os.path.relpath(shards, run.path))
    if not run.statistics.exists():
        shutil.copy2(output / run.statistics.name, run.statistics)
    _take_over(config, run, _donors(settings, summary))
    bundle = train_run(config, session)
    return None if bundle is None else bundle.path


def _own_output(text: str, output: Path) -> str:
    """The best run config with a directory of its own, beside it."""
    value = yaml.safe_load(text)
    head = "".join(f"{line}\n" for line in text.splitlines() if line.startswith("#"))
    value["output"] = str(output / "best" / "run")
    return head + yaml.safe_dump(value, sort_keys=False)


def _donors(settings: TuneConfig, summary: Mapping[str, Any]) -> list[Path]:
    best = summary.get("chosen")
    folders = [] if best is None else [Ledger(settings.output.absolute()).folder(int(best))]
    return [*folders, *([settings.finish.reuse] if settings.finish.reuse is not None else [])]


def _take_over(config: RunConfig, run: RunDirectory, donors: list[Path]) -> None:
    """Copy finished components that are exactly what this run would train.

    What an earlier best has left there is removed first.
    """
    _, _, jobs = component_jobs(config, run, Feed(run.shards), StopRequest())
    if any(_other(job.request) for job in jobs):
        run.discard()
        shutil.copy2(run.path.parent.parent / run.statistics.name, run.statistics)
    for job in jobs:
        for donor in donors:
            source = donor / "components" / job.name
            if not job.request.directory.exists() and _same(job.request, source):
                _copy(source, job.request.directory)
                _LOG.info("%s is taken from %s", job.name, donor)


def _other(request: TrainRequest) -> bool:
    """Whether the folder of this training holds another one; which weights it began with is left aside."""
    try:
        text = (request.directory / "identity.json").read_text()
    except OSError:
        return False
    try:
        return _settings(json.loads(text)) != _settings(json.loads(json.dumps(identity_of(request))))
    except (ValueError, TypeError, AttributeError, KeyError):
        return True


def _settings(identity: Mapping[str, Any]) -> dict[str, Any]:
    free = {name.removeprefix("training.") for name in FREE}
    training = {name: value for name, value in identity["training"].items() if name not in free}
    return {name: value for name, value in identity.items() if name != "warm_start"} | {"training": training}


def _same(request: TrainRequest, source: Path) -> bool:
    """Whether ``source`` holds the result of exactly this training."""
    if ComponentFolder(source).result() is None:
        return False
    try:
        return finished_result(replace(request, directory=source)) is not None
    except CheckpointError:
        return False


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with staging_directory(target) as temporary:
        shutil.copytree(source / "result", temporary / "result")
        for name in ("identity.json", "history.jsonl"):
            shutil.copy2(source / name, temporary / name)


def _csv(rows: list[dict[str, Any]]) -> str:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({k: json.dumps(v) if isinstance(v, dict | list) else v for k, v in row.items()})
    return text.getvalue()
