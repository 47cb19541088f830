"""``caloray produce``: one campaign file, carried out."""

from __future__ import annotations

__all__ = ["EXAMPLE", "produce"]

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

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
        _tell(_outlook(settings, wanted, timed=not no_timing), as_json=as_json)
        return
    _tell(_carry_out(settings, wanted), as_json=as_json)


def _carry_out(settings: Campaign, ids: list[int] | None) -> dict[str, object]:
    from caloray.distributed.produce import open_campaign, produce_campaign

    work = open_campaign(settings, ids)
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
        "quality": "not watched" if quality is None else _verdict(quality),
        "content digest": created["content_digest"],
        "devices": ", ".join(f"{name}: {number}" for name, number in created["devices"].items()),
        "showers per second of a worker": timing["showers_per_worker_second"],
    }


def _verdict(quality: dict[str, Any]) -> str:
    drifted = f" in {', '.join(quality['drifted'])}" if quality["drifted"] else ""
    return f"{quality['verdict']}{drifted}, {quality['showers']} showers"


def _outlook(settings: Campaign, ids: list[int] | None, *, timed: bool) -> dict[str, object]:
    from caloray.distributed.produce import sampler_of
    from caloray.generation.campaign import plan_campaign
    from caloray.generation.forecast import forecast, try_out

    model = sampler_of(settings)
    plan, unused = plan_campaign(settings, model, settings.output, ids, write=False)
    if unused:
        note(f"the model makes no use of: {', '.join(unused)}")
    trial = try_out(settings, model, plan.n) if timed else None
    return _forecast_facts(settings, forecast(plan, settings.output, _workers(settings), trial))


def _forecast_facts(settings: Campaign, found: Forecast) -> dict[str, object]:
    plan, trial = found.plan, found.trial
    facts: dict[str, object] = {
        "plan": plan.digest,
        "directory": str(settings.output),
        "bundle": f"{settings.bundle} ({plan.bundle_digest[:12]})",
        "geometry": plan.readout.name,
        "particles": settings.particles.kind,
        "showers": plan.rows,
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
    import os

    wanted, cluster = settings.workers, settings.cluster
    if wanted.count is not None:
        return max(1, wanted.count)
    if cluster.address != "local" or wanted.gpus:
        return None
    return max(1, int((cluster.num_cpus or os.cpu_count() or 1) / wanted.cpus))


def _tell(facts: dict[str, object], *, as_json: bool) -> None:
    if as_json:
        print_json({key_of(name): value for name, value in facts.items()})
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        say(f"{name:<{width}}  {value}")
