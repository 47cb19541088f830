"""``caloray generate``: draw showers from a bundle."""

from __future__ import annotations

__all__ = ["EXAMPLE", "generate", "ids_of", "key_of"]

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import typer

from caloray.cli.console import note, print_json, say
from caloray.errors import ConfigError
from caloray.flows.names import Backend

if TYPE_CHECKING:
    from caloray.bundle import Bundle
    from caloray.generation.plan import GenerationPlan
    from caloray.generation.shard import Progress
    from caloray.io.manifest import Manifest

EXAMPLE = "Example: caloray generate runs/demo/bundle -n 10000 --seed 1 -o runs/demo/more"
GRACE = 0.5
LINE_EVERY = 10.0

Energies = Annotated[
    str | None,
    typer.Option(
        help="log-uniform:MIN:MAX or uniform:MIN:MAX [MeV], E1,E2,... or a file: HDF5, text with one energy "
        "per line or a header (energy,direction_x,...)."
    ),
]
Conditions = Annotated[
    list[str] | None,
    typer.Option(help="A condition of the model: NAME=VALUE, NAME=LOW:HIGH (uniform) or NAME=V1,V2,..."),
]
Theta = Annotated[
    str | None, typer.Option(help="Polar angle of the direction: DEGREES or LOW:HIGH (uniform).")
]
Phi = Annotated[str | None, typer.Option(help="Its azimuth, likewise; a full turn if omitted.")]
Number = Annotated[
    int | None, typer.Option("-n", "--number", min=1, help="How many; listed energies tell it as well.")
]
Hdf5 = Annotated[Path | None, typer.Option("--hdf5", help="Also write one CaloChallenge HDF5 file.")]
BlocksPerShard = Annotated[
    int | None, typer.Option(min=1, help="Blocks in a file; about 2000 showers if omitted.")
]
Inverter = Annotated[
    Backend, typer.Option(help="What inverts the flows; `caloray doctor` says which there are.")
]
Invalid = Annotated[
    Literal["error", "resample"], typer.Option(help="What to do about NaN or negative showers.")
]


def generate(
    bundle: Annotated[Path, typer.Argument(help="Bundle directory.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Directory for shards and manifest.")],
    n: Number = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the request.")] = 0,
    energies: Energies = None,
    condition: Conditions = None,
    theta: Theta = None,
    phi: Phi = None,
    hdf5: Hdf5 = None,
    ids: Annotated[str | None, typer.Option(help="Only these events of the request, e.g. 12,345.")] = None,
    workers: Annotated[int, typer.Option(min=0, help="Ray workers; 0 stays in this process.")] = 0,
    gpus: Annotated[float, typer.Option(min=0, help="GPUs (or a fraction) of each worker.")] = 0.0,
    backend: Inverter = "auto",
    on_invalid: Invalid = "error",
    blocks_per_shard: BlocksPerShard = None,
    *,
    repeat_energies: Annotated[
        bool,
        typer.Option("--repeat-energies", help="Start listed energies and conditions again at their end."),
    ] = False,
    allow_extrapolation: Annotated[
        bool,
        typer.Option(
            "--allow-extrapolation",
            help="Permit energies and conditions outside those trained on; without it, conditions may lie "
            "beyond by 1 % of the width of their range, energies by one part in a million.",
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and write nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Draw N showers: Parquet shards and a manifest, the same showers however many workers make them.

    Run the same command again to continue a production that was stopped.
    """
    from caloray.bundle import Bundle
    from caloray.generation.condition_words import parse_conditions
    from caloray.generation.conditions import unused_conditions
    from caloray.generation.energies import parse_energies
    from caloray.generation.plan import make_plan

    device = "cuda" if gpus and not workers else "cpu"
    model = Bundle.load(bundle, device, "auto" if workers else backend)
    plan = make_plan(
        model,
        n,
        seed,
        energies=None if energies is None else parse_energies(energies, repeat=repeat_energies),
        conditions=parse_conditions(condition or (), theta, phi, repeat=repeat_energies),
        ids=ids_of(ids),
        blocks_per_shard=blocks_per_shard,
        on_invalid=on_invalid,
        allow_extrapolation=allow_extrapolation,
        bundle=str(bundle),
    )
    if ignored := unused_conditions(plan.conditions, plan.energies):
        note(f"not used of {energies}: {', '.join(ignored)}")
    work = _Workers(workers, gpus, backend)
    _tell(_outline(plan, output) if dry_run else _carry_out(model, plan, output, hdf5, work), as_json=as_json)


def _explain(model: Bundle, wanted: Backend) -> None:
    """Tell when the fastest back-end is missing: the showers are the same, but take many times longer."""
    from caloray.native import library

    if wanted == "auto" and model.backend == "torch" and (reason := library.why_not()):
        note(f"sampling with the slow back-end torch: {reason}")


class _Workers(NamedTuple):
    """How many, and what each samples with."""

    number: int
    gpus: float
    backend: Backend


def _carry_out(
    model: Bundle, plan: GenerationPlan, output: Path, hdf5: Path | None, workers: _Workers
) -> dict[str, object]:
    """Make the showers (and the HDF5 file) and return the facts to print."""
    from caloray.generation.export import export_hdf5
    from caloray.interrupt import watch_signals

    _explain(model, workers.backend)
    with _progress(plan.rows) as progress:
        if workers.number:
            manifest = _on_workers(plan, output, progress, workers)
        else:
            manifest = _in_process(model, plan, output, progress)
    facts = _result(plan, manifest, output)
    if (made_by := str(facts["backend"])) != model.numerics["backend"] and not workers.number:
        note(f"shards that were there already are kept: made by {made_by}, not {model.numerics['backend']}")
    if hdf5 is not None:
        with watch_signals(grace=0.0, what="export"):
            facts |= {"hdf5": str(hdf5), "hdf5 sha256": export_hdf5(output, hdf5)}
    return facts


def _in_process(model: Bundle, plan: GenerationPlan, output: Path, progress: Progress) -> Manifest:
    from caloray.generation.run import generate as carry_out
    from caloray.interrupt import watch_signals

    with watch_signals(grace=GRACE, what="generation") as stop:
        return carry_out(model, plan, output, progress, stop)


def _on_workers(plan: GenerationPlan, output: Path, progress: Progress, workers: _Workers) -> Manifest:
    from caloray.config import ClusterConfig
    from caloray.distributed.generate import GenerationLoad, generate_with_ray
    from caloray.distributed.session import connect

    load = GenerationLoad(gpus=workers.gpus, workers=workers.number, backend=workers.backend)
    with connect(ClusterConfig(num_cpus=workers.number)) as session:
        return generate_with_ray(session, Path(plan.bundle), plan, output, progress, load)


def _outline(plan: GenerationPlan, output: Path) -> dict[str, object]:
    from caloray.generation.condition_words import outline
    from caloray.generation.energies import check_range

    low, high = check_range(plan.energies, plan.energy_range, allow_extrapolation=True)
    return {
        "plan": plan.digest,
        "directory": str(output),
        "geometry": plan.readout.name,
        "showers": plan.rows,
        "blocks": len(plan.blocks),
        "block size": plan.block_size,
        "shards": plan.n_shards,
        "bytes (estimate)": plan.estimated_bytes,
        "energies [MeV]": f"{plan.energies.kind}, {low:g} to {high:g}",
        "trained on [MeV]": f"{plan.energy_range[0]:g} to {plan.energy_range[1]:g}",
    } | ({"conditions": "; ".join(outline(spec) for spec in plan.conditions)} if plan.conditions else {})


def _result(plan: GenerationPlan, manifest: Manifest, output: Path) -> dict[str, object]:
    from caloray.generation.receipts import worked_seconds

    return {
        "directory": str(output),
        "showers": manifest.rows(),
        "shards": len(manifest.shards),
        "bytes": sum(shard.bytes for shard in manifest.shards),
        "redrawn showers": manifest.created["redraws"]["showers"],
        "vetoed draws": manifest.created["redraws"].get("vetoed", 0),
        "content digest": manifest.created["content_digest"],
        "backend": ", ".join(
            sorted({m.get("backend", "not recorded") for m in manifest.created["numerics"]})
        ),
        "ms per shower": round(1e3 * worked_seconds(output, plan) / plan.rows, 3),
    }


def _tell(facts: dict[str, object], *, as_json: bool) -> None:
    if as_json:
        print_json({key_of(name): value for name, value in facts.items()})
        return
    width = max(len(name) for name in facts)
    for name, value in facts.items():
        say(f"{name:<{width}}  {value}")


def key_of(name: str) -> str:
    """A fact's name as a key of JSON."""
    return name.replace(" [MeV]", "_mev").replace(" (estimate)", "_estimate").replace(" ", "_")


def ids_of(text: str | None) -> list[int] | None:
    """The event numbers of an option.

    Raises:
        ConfigError: Something else.
    """
    if text is None:
        return None
    try:
        return [int(word) for word in text.split(",")]
    except ValueError as error:
        hint = "write for example --ids 12,345"
        raise ConfigError(f"--ids {text!r}: not event numbers", hint=hint) from error


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, otherwise a line every ten seconds; both on stderr."""
    if not sys.stderr.isatty():
        yield _lines(total)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("showers"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda rows: bar.advance(task, rows)


def _lines(total: int) -> Callable[[int], None]:
    done, told = 0, time.monotonic()

    def advance(rows: int) -> None:
        nonlocal done, told
        done += rows
        if time.monotonic() - told > LINE_EVERY:
            told = time.monotonic()
            note(f"{done} of {total} showers")

    return advance
