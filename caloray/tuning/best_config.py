"""The settings that a campaign ends with, as a run config ready for ``caloray train``."""

from __future__ import annotations

__all__ = ["absolute_paths", "best_config"]

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from caloray.config import RunConfig
from caloray.tuning.resolve import assigned
from caloray.tuning.settings import PopulationFidelity, TuneConfig

WHOLE = ("data", "scheme", "training")
"""Sections that are written with all their defaults: those may be others in a year."""


def best_config(
    settings: TuneConfig, base: RunConfig, best: Mapping[str, Any], summary: Mapping[str, Any]
) -> str:
    """The run config with the values of a trial; its head says where they come from and what they are worth.

    No address of a tracking server is in it: it may hold a password. Paths of data are absolute.

    Args:
        settings: The campaign.
        base: What it searches around.
        best: The trial, as a row of the summary.
        summary: What :func:`caloray.tuning.summary.summarise` has found so far: ``confirm`` and ``remarks``.
    """
    run = assigned(base, best["assignment"])
    changes = {"output": settings.output / "best" / "run", "name": f"{settings.name[:58]}-best"}
    changed = absolute_paths(run.model_copy(update=changes))
    whole = changed.model_dump(mode="json")
    value = _without_defaults(changed) | {key: whole[key] for key in WHOLE}
    value.get("tracking", {}).pop("uri", None)
    if not value.get("tracking", True):
        del value["tracking"]
    RunConfig.model_validate(value)
    head = "".join(f"# {line}\n" for line in _head(settings, best, summary))
    return head + yaml.safe_dump(value, sort_keys=False, allow_unicode=True)


def absolute_paths(run: RunConfig) -> RunConfig:
    """The run config with data files that are found from any working directory."""
    data, geometry = run.data, run.data.geometry
    changes: dict[str, Any] = {"files": tuple(path.absolute() for path in data.files)}
    if geometry is not None and Path(geometry).is_file():
        changes["geometry"] = str(Path(geometry).absolute())
    return run.model_copy(update={"data": data.model_copy(update=changes)})


def _head(settings: TuneConfig, best: Mapping[str, Any], summary: Mapping[str, Any]) -> list[str]:
    values = ", ".join(f"{name} {best['values'][name]:.6g}" for name in settings.objective_names)
    lines = [f"The best settings of the campaign {settings.name}: trial {best['number']}, {values}"]
    if best["full"]:
        lines[0] += "."
    else:
        lines[0] += f", measured after a training of {best['level']};"
        lines.append("what follows is the full budget, for which nothing was measured.")
    if isinstance(settings.fidelity, PopulationFidelity):
        lines.append("The constant values of its last generation; the changes on the way are not repeated.")
    confirm = summary["confirm"]
    told = [] if confirm is None else _repeated(best, confirm)
    return [line.rstrip() for line in [*lines, *summary["remarks"], *told]]


def _repeated(best: Mapping[str, Any], confirm: Mapping[str, Any]) -> list[str]:
    lines = []
    for group in confirm["groups"]:
        if group["trial"] == best["number"]:
            for name, found in group["objectives"].items():
                words = found["difference"]["words"] if found["difference"] else ""
                count, split = len(found["values"]), confirm["split"]
                lines.append(f"Repeated {count} times, {name}, {split} split: {found['mean']:.6g}. {words}")
    return [*lines, *confirm["remarks"]]


def _without_defaults(model: BaseModel) -> dict[str, Any]:
    """As a person would write it: what has its default value is left out, but which kind a section is."""
    found: dict[str, Any] = {}
    described = model.model_dump(mode="json")
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        if name in described and (name == "kind" or value != field.get_default(call_default_factory=True)):
            found[name] = _plain(value, described[name])
    return found


def _plain(value: Any, described: Any) -> Any:
    if isinstance(value, BaseModel):
        return _without_defaults(value)
    if isinstance(value, Mapping):
        return {key: _plain(inner, described[key]) for key, inner in value.items()}
    return described
