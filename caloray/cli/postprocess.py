"""``caloray model postprocess``: give a bundle post-processing that is fitted to reference showers."""

from __future__ import annotations

__all__ = ["EXAMPLE", "counter", "postprocess"]

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from caloray.cli.console import note, print_json, print_table, say
from caloray.errors import ConfigError

if TYPE_CHECKING:
    from caloray.calibration.judge import Judgement
    from caloray.calibration.run import Outcome

EXAMPLE = (
    "Example: caloray model postprocess runs/demo/bundle -o runs/demo/corrected --reference runs/demo/shards"
)
LINE_EVERY = 5000  # showers


def postprocess(
    bundle: Annotated[Path, typer.Argument(help="Bundle directory.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Directory for the new bundle.")],
    reference: Annotated[
        Path | None, typer.Option(help="Reference showers to fit to: HDF5 file or shard directory.")
    ] = None,
    split: Annotated[str, typer.Option(help="Split of a shard directory: train or validation.")] = "train",
    generated: Annotated[
        Path | None, typer.Option(help="Showers of this bundle; drawn now where there are none.")
    ] = None,
    number: Annotated[int, typer.Option("-n", "--number", min=1, help="Showers to draw.")] = 20000,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of these showers.")] = 0,
    steps: Annotated[
        str, typer.Option(help="Steps in order: renormalise, spectrum, separated by commas.")
    ] = "renormalise,spectrum",
    threshold: Annotated[
        float | None, typer.Option(min=0, help="Readout threshold [MeV]; the challenge's by default.")
    ] = None,
    *,
    remove: Annotated[
        bool, typer.Option("--remove", help="Write the bundle without post-processing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Fit the steps, say what they do to the voxel spectrum, and write a new bundle that carries them.

    Every fourth shower is kept out of the fit; the separation powers are those of these showers. The test
    split is never read.
    """
    if remove:
        _remove(bundle, output, as_json=as_json)
        return
    from caloray.calibration.fit import parse_steps
    from caloray.calibration.run import Request, calibrate

    names = parse_steps(steps)
    if "spectrum" in names and reference is None:
        raise ConfigError(
            "step spectrum is fitted to reference showers",
            hint="give --reference, or --steps renormalise",
        )
    _require_free(output)
    request = Request(bundle, output, names, reference, split, generated, number, seed, threshold)
    outcome = calibrate(request, counter())
    _show(outcome, as_json=as_json)


def _require_free(output: Path) -> None:
    """Refuse a taken place before any work."""
    from caloray.errors import StorageError

    if output.exists():
        raise StorageError(f"{output}: exists already", hint="choose another -o; the old bundle is kept")


def _remove(bundle: Path, output: Path, *, as_json: bool) -> None:
    from caloray.calibration.rewrite import with_postprocess

    made = with_postprocess(bundle, output, ())
    if as_json:
        print_json({"bundle": str(output), "digest": made.digest, "steps": []})
    else:
        say(f"bundle  {output} without post-processing, digest {made.digest}")


def counter() -> Callable[[str, int], None]:
    """Tells about every so many showers."""
    done: dict[str, int] = {}

    def tell(stage: str, count: int) -> None:
        before = done.get(stage, 0)
        done[stage] = before + count
        if done[stage] // LINE_EVERY > before // LINE_EVERY:
            note(f"{stage}: {done[stage]:,} showers")

    return tell


def _show(outcome: Outcome, *, as_json: bool) -> None:
    made, judgement = outcome.bundle, outcome.judgement
    for remark in outcome.remarks:
        note(f"warning: {remark}")
    if as_json:
        print_json(
            {
                "bundle": str(made.path),
                "digest": made.digest,
                "steps": [step.model_dump(mode="json") for step in made.file.postprocess],
                "held_out": None if judgement is None else judgement.to_dict(),
            }
        )
        return
    if judgement is not None:
        _show_judgement(judgement)
    say(f"steps   {', '.join(f'{step.kind} {step.version}' for step in made.file.postprocess)}")
    say(f"bundle  {made.path}, digest {made.digest}")


def _show_judgement(judgement: Judgement) -> None:
    rows = [
        ("separation of the voxel spectrum", *map(_digits, (judgement.before, judgement.after))),
        ("energy over the reference's", f"{judgement.energy_before:.4f}", f"{judgement.energy_after:.4f}"),
    ]
    spread = "" if judgement.spread is None else f" ± {judgement.spread:.2g}"
    print_table(("", "before", "after"), rows)
    say(f"floor   {_digits(judgement.floor)}{spread}: what two samples of the reference of these sizes show")
    sizes = f"{judgement.generated_showers:,} generated, {judgement.reference_showers:,} reference"
    say(f"showers {sizes}; they took no part in the fit")
    if judgement.invalid:
        say(f"{judgement.invalid:,} generated showers were invalid and left out")


def _digits(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
