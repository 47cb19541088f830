"""``caloray produce``: one campaign file, carried out."""

from __future__ import annotations

__all__ = ["EXAMPLE", "produce"]

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from caloray.atomic import require_space
from caloray.cli.console import note, print_json, say
from caloray.cli.generate import ids_of, key_of
from caloray.cli.progress import counting

if TYPE_CHECKING:
    from caloray.config import Campaign
    from caloray.generation.forecast import Forecast
    from caloray.io.manifest import Manifest

EXAMPLE = "Example: caloray produce configs/produce_demo.yaml --dry-run"


def produce(
    campaign: Annotated[Path, typer.Argument(help="Campaign file (YAML).")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one value, e.g. a.b=3.")
    ] = None,
    ids: Annotated[str | None, typer.Option(help="Only these showers of the campaign, e.g. 12,345.")] = None,
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it would take (files, bytes, hours); write nothing.")
    ] = False,
    no_timing: Annotated[
        bool, typer.Option("--no-timing", help="With --dry-run: do not time any block.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Mass-produce showers: exactly those that the campaign asks for, wherever and however often it stops.

    Run the same command again to continue a campaign that was stopped.
    """
    from caloray.config import load_campaign

    settings = load_campaign(campaign, overrides or [])
    wanted = ids_of(ids)
    if dry_run:
        found = _outlook(settings, wanted, timed=not no_timing)
        _tell(_forecast_facts(settings, found), as_json=as_json)
        require_space(settings.output, found.bytes)
        return
    _tell(_carry_out(settings, wanted, _spelled(campaign, overrides or [])), as_json=as_json)


def _spelled(campaign: Path, overrides: list[str]) -> list[str]:
    """The words that name a campaign again, without its directory and without what may be secret."""
    kept = [item for item in overrides if not item.startswith(("output=", "tracking"))]
    return [str(campaign), *(word for item in kept for word in ("--set", item))]


def _carry_out(settings: Campaign, ids: list[int] | None, spelled: list[str]) -> dict[str, object]:
    from caloray.distributed.produce import open_campaign, produce_campaign

    work = open_campaign(settings, ids, spelled)
    with counting("showers", work.plan.rows) as count:
        manifest = produce_campaign(work, count)
    return _result(settings, manifest)


def _result(settings: Campaign, manifest: Manifest) -> dict[str, object]:
    created = manifest.created
    rows, size = manifest.rows(), sum(shard.bytes for shard in manifest.shards)
    counts, timing = created["counts"], created["timing"]
    quality = created.get("quality")
    return {
        "directory": str(settings.output),
        "showers": rows,
        "shards": len(manifest.shards),
        "bytes": size,
        "bytes per shower": round(size / rows, 1) if rows else None,
        "redrawn": counts["redrawn"],
        "vetoed draws": counts["vetoed"],
        "flagged": counts["flagged"],
        "skipped": counts["skipped"],
        "empty": counts.get("empty"),
        "quality": "not watched" if quality is None else _verdict(quality),
        "content digest": created["content_digest"],
        "devices": ", ".join(f"{name}: {number}" for name, number in created["devices"].items()),
        "showers per second of a worker": timing["showers_per_worker_second"],
    }


def _verdict(quality: dict[str, Any]) -> str:
    drifted = f" in {', '.join(quality['drifted'])}" if quality["drifted"] else ""
    others = sum(quality.get(name, 0) for name in ("uncounted", "left_out"))
    told = f", {others} not compared" if others else ""
    return f"{quality['verdict']}{drifted}, {quality['showers']} showers{told}"


def _outlook(settings: Campaign, ids: list[int] | None, *, timed: bool) -> Forecast:
    """What it would take; what would be refused is refused here, too."""
    from dataclasses import replace

    from caloray.distributed.produce import control_of, sampler_of, trial_sampler
    from caloray.generation.campaign import plan_campaign
    from caloray.generation.forecast import forecast, try_out

    model = sampler_of(settings)
    control = control_of(settings, model, settings.output)
    _require_cpus(settings)
    plan, unused = plan_campaign(settings, model, settings.output, ids, write=False)
    if unused:
        note(f"the model makes no use of: {', '.join(unused)}")
    if not timed:
        return forecast(plan, settings.output, _workers(settings))
    model, alike = trial_sampler(settings)
    trial = try_out(settings, model, plan.n, model.quality if control is not None else None)
    trial = trial if alike else replace(trial, seconds=None)
    return forecast(plan, settings.output, _workers(settings), trial)


def _forecast_facts(settings: Campaign, found: Forecast) -> dict[str, object]:
    plan, trial = found.plan, found.trial
    facts: dict[str, object] = {
        "plan": plan.digest,
        "directory": str(settings.output),
        "bundle": f"{settings.bundle} ({plan.bundle_digest[:12]})",
        "geometry": plan.readout.name,
        "particles": settings.particles.kind,
        "showers": plan.rows,
        "showers that are there": found.done,
        "shards": plan.n_shards,
        "showers per shard": plan.blocks_per_shard * plan.block_size,
        "bytes (estimate)": found.bytes,
        "free bytes": found.free,
        "fits on the disk": found.fits,
        "largest response": plan.production.max_response if plan.production else None,
        "workers": _workers(settings) or "as the cluster has room",
    }
    if trial is None:
        return facts
    if trial.seconds is None:
        return facts | {"timed on": "nothing: the workers' GPUs are not here"}
    return facts | {
        "timed on": trial.device,
        "ms per shower": round(1e3 * trial.seconds, 3),
        "worker hours": _hours(found.worker_hours),
        "hours": "depends on the cluster" if found.hours is None else _hours(found.hours),
    }


def _hours(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.3g}")


def _workers(settings: Campaign) -> int | None:
    """How many will work, where this machine alone decides."""
    wanted, cluster = settings.workers, settings.cluster
    if wanted.count is not None:
        return max(1, wanted.count)
    if cluster.address != "local" or wanted.gpus:
        return None
    return max(1, int(_cpus(settings) / wanted.cpus))


def _cpus(settings: Campaign) -> int:
    """What a local Ray would have."""
    import os

    return settings.cluster.num_cpus or os.cpu_count() or 1


def _require_cpus(settings: Campaign) -> None:
    """Refuse workers that a local Ray has no place for; with a number of workers it makes room."""
    from caloray.errors import ClusterError

    wanted, cluster = settings.workers, settings.cluster
    fixed = cluster.num_cpus is None and wanted.count is not None
    if cluster.address == "local" and not fixed and wanted.count != 0 and wanted.cpus > _cpus(settings):
        raise ClusterError(
            f"a worker needs {wanted.cpus:g} CPUs, Ray would have {_cpus(settings)}",
            hint="lower workers.cpus, or raise cluster.num_cpus",
        )


def _tell(facts: dict[str, object], *, as_json: bool) -> None:
    if as_json:
        print_json({key_of(name): value for name, value in facts.items()})
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        say(f"{name:<{width}}  {value}")
