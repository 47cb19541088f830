"""``caloray model time``: ms per shower by the CaloChallenge's protocol, and the speed-up over Geant4."""

from __future__ import annotations

__all__ = ["EXAMPLE", "time_model"]

import logging
from pathlib import Path
from typing import Annotated, Any

import typer

from caloray.cli.console import note, print_json, print_table, say
from caloray.errors import ConfigError

EXAMPLE = "Example: caloray model time runs/demo/bundle --reference runs/demo/shards -o runs/demo/timing.json"


def time_model(
    bundle: Annotated[Path, typer.Argument(help="Bundle directory.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="File for the record (timing.json).")
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(help="Geant4 showers that hold their CPU time: HDF5 file or shard directory."),
    ] = None,
    batches: Annotated[
        list[int] | None, typer.Option("--batch", min=1, help="Showers at once; 1, 100 and 10,000.")
    ] = None,
    repetitions: Annotated[int, typer.Option(min=1, help="How often each batch is timed.")] = 10,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    backend: Annotated[str, typer.Option(help="What inverts the flows.")] = "auto",
    limit: Annotated[float, typer.Option(help="Seconds for each batch size.")] = 60.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of energies and showers.")] = 0,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Time the sampling: from incident energies to voxels, everything included, ms per shower.

    Loading and the first call are reported apart. What would take longer than the limit is skipped, and
    the table says so.
    """
    from typing import cast

    from caloray.atomic import write_json
    from caloray.evaluation.timing import BATCHES, TimingSettings, time_bundle
    from caloray.flows.names import Backend

    if device.partition(":")[0] not in {"cpu", "cuda"}:
        raise ConfigError(f"--device {device!r}: expected cpu or cuda", hint="leave it out for the CPU")
    settings = TimingSettings(
        batches=tuple(batches or BATCHES),
        repetitions=repetitions,
        threads=threads,
        device=device,
        backend=cast("Backend", backend),
        seed=seed,
        limit=limit,
    )
    record = time_bundle(bundle, settings, reference=reference, tell=_tell)
    if output is not None:
        write_json(output, record)
    if as_json:
        print_json(record)
        return
    _show(record, str(bundle))
    if output is not None:
        say(f"record  {output}")


def _show(record: dict[str, Any], title: str) -> None:
    threads = f", {record['threads']} thread(s)" if record["device"] == "cpu" else ""
    where = f"{record['hardware']}{threads}, back-end {record['backend']}, torch {record['machine']['torch']}"
    ratios = {row["batch"]: row for row in (record["geant4"] or {}).get("speed_up", ())}
    columns = ("batch", "ms per shower", "16 to 84 %", "showers", "repetitions", "first call", "times Geant4")
    rows = [_row(item, ratios.get(item["batch"])) for item in record["measurements"]]
    print_table(columns, rows, title=f"{title}: {where}")
    for item in record["measurements"]:
        for remark in filter(None, (item["skipped"], item["note"])):
            state = "skipped, " if item["skipped"] else ""
            say(f"batch {item['batch']:,}: {state}{remark}")
    low, high = record["energies"]
    count = record["parameters"]
    peak = max((item["peak_memory_mb"] for item in record["measurements"]), default=0.0)
    say(f"incident energies  {low:g} to {high:g} MeV, log-uniform")
    say(f"loading            {record['load_s']:.3g} s, not counted above")
    say(f"parameters         {count['training']:,} to train, {count['generation']:,} to sample")
    say(f"peak memory        {peak:,.0f} MB")
    say(f"load at the start  {record['machine']['load'][0]:g} on {record['machine']['cpus']} CPUs")
    if record["geant4"] is not None:
        say(f"Geant4             {_geant4(record['geant4'])}")


def _row(item: dict[str, Any], ratio: dict[str, Any] | None) -> tuple[str, ...]:
    ms = item["ms"]
    if ms is None:
        return f"{item['batch']:,}", "skipped", "", "0", "0", _first(item), ""
    spread = "-" if ms["low"] is None else f"{_digits(ms['low'])} to {_digits(ms['high'])}"
    return (
        f"{item['batch']:,}",
        _digits(ms["median"]),
        spread,
        f"{item['showers']:,}",
        str(item["repetitions"]),
        _first(item),
        "" if ratio is None else _digits(ratio["value"]),
    )


def _first(item: dict[str, Any]) -> str:
    if item["first_s"] is None:
        return "-"
    return f"{item['first_s']:.3g} s for {item['first_rows']:,}"


def _geant4(found: dict[str, Any]) -> str:
    if found["seconds"] is None:
        return f"{found['note']} of {found['reference']}"
    text = f"{1e3 * found['seconds']:.4g} ms of CPU per shower, {found['showers']:,} showers, one thread"
    remarks = [text, *filter(None, (found["note"], found["files_note"]))]
    return "; ".join(remarks)


def _digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 999.5 else f"{value:.3g}"


def _tell(line: str) -> None:
    if logging.getLogger("caloray").isEnabledFor(logging.INFO):
        note(f"timing: {line}")
