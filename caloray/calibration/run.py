"""The whole way: reference and bundle in, steps fitted and judged, bundle with them out."""

from __future__ import annotations

__all__ = ["Outcome", "Request", "calibrate"]

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from caloray.bundle import Bundle
from caloray.calibration.fit import fit_steps
from caloray.calibration.generated import FromBundle, FromSource, Generated
from caloray.calibration.judge import Judgement, judge
from caloray.calibration.particles import HELD_OUT
from caloray.calibration.reference import Reference, Tell, read_reference
from caloray.calibration.rewrite import with_postprocess
from caloray.errors import ConfigError, DataError
from caloray.evaluation.axes import default_threshold
from caloray.io.manifest import MANIFEST, Manifest
from caloray.io.source import FileSource, ShardSource, ShowerSource, open_source

SPLITS_OF_A_FIT = ("train", "validation")


@dataclass(frozen=True)
class Request:
    """What is to be fitted.

    Args:
        bundle: The model.
        output: Where the new bundle goes.
        steps: Names of the steps, in order.
        reference: Reference showers, an HDF5 file or a directory of shards; None where no step needs them.
        split: Split of the directory, "train" or "validation".
        generated: Showers of the bundle that were made before; None: they are drawn now.
        number: How many are drawn.
        seed: Seed of the draws.
        threshold: Readout threshold [MeV]; None: the challenge's for this readout.
    """

    bundle: Path
    output: Path
    steps: tuple[str, ...]
    reference: Path | None = None
    split: str = "train"
    generated: Path | None = None
    number: int = 20_000
    seed: int = 0
    threshold: float | None = None


@dataclass(frozen=True)
class Outcome:
    """What came of it.

    Args:
        bundle: The new bundle.
        judgement: What its steps achieve; None without reference.
        remarks: What the user should know.
    """

    bundle: Bundle
    judgement: Judgement | None
    remarks: tuple[str, ...] = field(default=())


def calibrate(request: Request, tell: Tell) -> Outcome:
    """Fit steps, judge them on held-out showers, write the bundle that carries them.

    Raises:
        ConfigError: A test split, steps that cannot be fitted, or showers that do not belong together.
        DataError: Too few showers, or showers of another readout.
        StorageError: Something is at the output already.
    """
    model = Bundle.load(request.bundle)
    threshold = _threshold(request, model)
    reference = generated = None
    remarks: list[str] = []
    if request.reference is not None:
        source = _open_reference(request.reference, request.split, model, remarks)
        made = _open_generated(request, model, remarks)
        reference = read_reference(source, threshold, tell)
        generated = made if made is not None else _drawn(request, model, reference)
    facts = _facts(request, model, reference, generated)
    steps = fit_steps(request.steps, threshold, reference, generated, facts, tell)
    judgement = None
    if reference is not None and generated is not None:
        judgement = judge(steps, threshold, reference, generated, tell)
        if judgement.is_worse:
            remarks.append("the steps make the voxel spectrum worse: look at layer energies and hits first")
        if judgement.energy_is_moved:
            before, after = judgement.energy_before, judgement.energy_after
            remarks.append(f"the steps move the mean energy, {before:.3f} of the reference's, to {after:.3f}")
    record: dict[str, Any] = {"from": model.digest}
    record |= {"held_out": judgement.to_dict()} if judgement is not None else {}
    bundle = with_postprocess(request.bundle, request.output, steps, record)
    return Outcome(bundle, judgement, tuple(remarks))


def _threshold(request: Request, model: Bundle) -> float:
    threshold = default_threshold(model.geometry) if request.threshold is None else request.threshold
    if threshold <= 0 and (request.threshold is None or request.reference is not None):
        raise ConfigError(
            f"post-processing of {model.geometry.name} needs a readout threshold above zero",
            hint="give --threshold in MeV",
        )
    return threshold


def _open_reference(path: Path, split: str, model: Bundle, remarks: list[str]) -> ShowerSource:
    """The reference showers, never those of a test split."""
    if not path.exists():
        raise DataError(f"{path}: no such file or directory", hint="check the path")
    if split not in SPLITS_OF_A_FIT:
        raise ConfigError(
            f"--split {split}: post-processing is fitted to the train or the validation split only",
            hint="showers of the test split are for judging the model; leave --split out for train",
        )
    folder = path.parent if path.name == MANIFEST else path
    if folder.is_dir() and (kind := Manifest.load(folder).kind) != "geant4":
        raise ConfigError(f"{path}: holds {kind} showers", hint="give reference showers")
    source = open_source(folder, split if folder.is_dir() else None)
    if isinstance(source, FileSource):
        remarks.append(f"{path} has no splits: do not judge this model by showers of that file later")
    _require_readout(path, source, model)
    return source


def _open_generated(request: Request, model: Bundle, remarks: list[str]) -> FromSource | None:
    path = request.generated
    if path is None:
        return None
    if not path.exists():
        raise DataError(f"{path}: no such file or directory", hint="check the path")
    if model.file.postprocess:
        raise ConfigError(
            f"{request.bundle} has post-processing, so its showers do not show what the flows drew",
            hint="leave --generated out, or give the bundle and the showers without post-processing",
        )
    if "spectrum" in request.steps and request.steps.index("spectrum") > 0:
        raise ConfigError(
            "--generated: stored showers do not hold the sampled layer energies that renormalise needs",
            hint="leave --generated out, or let spectrum be the first step",
        )
    source = open_source(path)
    _require_readout(path, source, model)
    _require_made_by(path, source, model, remarks)
    return FromSource(source)


def _require_readout(path: Path, source: ShowerSource, model: Bundle) -> None:
    if source.geometry.digest != model.geometry.digest:
        raise DataError(
            f"{path}: showers of readout {source.geometry.name}, the model makes {model.geometry.name}",
            hint="give showers of the model's readout",
        )


def _require_made_by(path: Path, source: ShowerSource, model: Bundle, remarks: list[str]) -> None:
    if not isinstance(source, ShardSource):
        remarks.append(f"{path} does not say which model made it: it is taken for {model.path}")
        return
    manifest: Manifest = source.manifest
    found = str(manifest.created.get("bundle_digest", "none"))
    if found != model.digest:
        raise ConfigError(
            f"{path}: made by bundle {found[:16]}, not by {model.path} ({model.digest[:16]})",
            hint="generate showers with this bundle, or leave --generated out",
        )


def _drawn(request: Request, model: Bundle, reference: Reference) -> FromBundle:
    """Showers for the reference's particles, three quarters of them for the fit."""
    held_out = max(1, request.number // HELD_OUT)
    fit, rest = (
        part.inside(model.energy_range, model.conditions) for part in (reference.fit, reference.held_out)
    )
    return FromBundle(
        model, fit.spread(max(1, request.number - held_out)), rest.spread(held_out), request.seed
    )


def _facts(
    request: Request, model: Bundle, reference: Reference | None, generated: Generated | None
) -> dict[str, str | int | float]:
    """What the fitted step tells of its data."""
    facts: dict[str, str | int | float] = {"bundle": model.digest}
    if reference is not None:
        facts["reference"] = reference.source.digest
        facts |= {"split": request.split} if isinstance(reference.source, ShardSource) else {}
    if isinstance(generated, FromSource):
        facts["generated"] = generated.source.digest
    elif generated is not None:
        facts["seed"] = request.seed
    return facts
