"""``caloray model``: look at a bundle, check it, time it, give it post-processing and a reference."""

from __future__ import annotations

__all__ = ["app"]

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from caloray.cli import postprocess, reference, timing
from caloray.cli.console import print_json, print_table, say

if TYPE_CHECKING:
    from caloray.bundle import Bundle
    from caloray.preprocess.condition_range import ConditionRange

app = typer.Typer(help="Look at a bundle, check it, time it, post-process its showers.", no_args_is_help=True)
app.command(name="time", epilog=timing.EXAMPLE)(timing.time_model)
app.command(epilog=postprocess.EXAMPLE)(postprocess.postprocess)
app.command(epilog=reference.EXAMPLE)(reference.reference)

BundleArgument = Annotated[Path, typer.Argument(help="Bundle directory.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command(epilog="Example: caloray model inspect runs/demo/bundle")
def inspect(bundle: BundleArgument, *, as_json: AsJson = False) -> None:
    """Say what a bundle holds: geometry, components, energies, origin."""
    from caloray.bundle import Bundle
    from caloray.evaluation.parameters import count_parameters

    model = Bundle.load(bundle)
    if as_json:
        counts = count_parameters(model.file).to_dict()
        facts = {"path": str(bundle), "digest": model.digest, **model.file.model_dump(mode="json")}
        print_json(facts | {"parameters": counts})
        return
    print_table(("", "value"), _facts(model), title=str(bundle))
    print_table(("component", "features", "context", "parameters", "sha256"), _components(model))


@app.command(epilog="Example: caloray model verify runs/demo/bundle")
def verify(bundle: BundleArgument, *, as_json: AsJson = False) -> None:
    """Check every hash, draw the golden showers again and compare.

    Exit status 0 when they are the stored ones, or close to them on a machine of another kind; 66 otherwise.
    """
    from caloray.bundle import verify_bundle

    report = verify_bundle(bundle)
    if as_json:
        print_json({"path": str(bundle), **asdict(report)})
    elif report.identical:
        say(f"{bundle}: every hash is right and the golden showers are the same to the last bit")
    else:
        far = f"{report.largest:.3g} MeV in a voxel, {report.relative:.3g} in a shower's energy"
        how = f"made by {report.made_with}, drawn by {report.backend}"
        say(f"{bundle}: every hash is right; {how}, other versions or another CPU: up to {far} apart")


def _facts(model: Bundle) -> list[tuple[str, object]]:
    from caloray.evaluation.parameters import count_parameters

    count = count_parameters(model.file)
    geometry, (low, high) = model.geometry, model.energy_range
    return [
        ("digest", model.digest),
        ("scheme", model.file.scheme.kind),
        ("geometry", f"{geometry.name}: {geometry.n_layers} layers, {geometry.n_voxels} voxels"),
        ("geometry digest", geometry.digest),
        ("incident energies [MeV]", f"{low:g} to {high:g}"),
        *((f"condition {item.name}", _range(item)) for item in model.conditions),
        ("trainable parameters", f"{count.training:,} to train, {count.generation:,} to sample"),
        ("block size", model.block_size),
        ("post-processing", ", ".join(step.kind for step in model.file.postprocess) or "none"),
        ("quality reference", _reference(model)),
        ("made with", f"caloray {model.file.caloray}"),
        ("seed", model.file.seed),
        *((name, _short(value)) for name, value in model.info.items()),
    ]


def _range(item: ConditionRange) -> str:
    return f"{item.low:g} to {item.high:g} {'' if item.unit == '1' else item.unit}".rstrip()


def _reference(model: Bundle) -> str:
    entry = model.file.quality
    return "none" if entry is None else f"{entry.showers:,} showers, seed {entry.seed}"


def _components(model: Bundle) -> list[tuple[object, ...]]:
    return [
        (name, entry.features, entry.context_features, f"{entry.parameters:,}", entry.sha256[:16])
        for name, entry in model.file.components.items()
    ]


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_short(item)}" for key, item in value.items())
    return f"{value:.6g}" if isinstance(value, float) else str(value)
