"""``caloray evaluate``: compare generated showers with Geant4 showers."""

from __future__ import annotations

__all__ = ["EXAMPLE", "evaluate"]

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from caloray.cli.console import note, print_json, say
from caloray.cli.results_view import show_results
from caloray.errors import ConfigError, DataError

if TYPE_CHECKING:
    from caloray.evaluation.results import Results
    from caloray.evaluation.settings import MetricSettings
    from caloray.io.source import ShowerSource

FEW = 20  # steps; anything longer counts showers
EXAMPLE = "Example: caloray evaluate runs/demo/shards runs/demo/showers -o runs/demo --split test"

CLASSIFIERS = ("none", "trees", "laptop", "official")
NEEDED = {
    "timing": ("device", "hardware", "measurements", "geant4", "parameters", "threads"),
    "diphoton": ("curves", "differences", "metrics", "settings", "reference", "warnings"),
}


Generated = Annotated[
    list[Path], typer.Argument(help="Generated showers, one or several models: HDF5 or shard directory.")
]
Threshold = Annotated[
    float | None, typer.Option(min=0, help="Voxels below it are zero [MeV]; the challenge's by default.")
]
Label = Annotated[list[str] | None, typer.Option(help="Name of a model, once per GENERATED, in order.")]
Split = Annotated[
    str | None, typer.Option(help="Split of a reference shard directory (train, validation, test).")
]
Training = Annotated[Path | None, typer.Option(help="Showers the model was trained on: is it copying them?")]
Timing = Annotated[
    list[Path] | None,
    typer.Option(help="Record of `caloray model time`, once per GENERATED, for the page."),
]
Diphoton = Annotated[
    list[Path] | None, typer.Option(help="Record of `caloray diphoton`, once per GENERATED, for the page.")
]
Workers = Annotated[
    int, typer.Option(min=0, help="Read the showers with so many Ray workers; 0: in this process.")
]
Run = Annotated[Path | None, typer.Option(help="Run directory whose MLflow run gets it all.")]
MlflowRun = Annotated[
    str | None, typer.Option(help="Id of an MLflow run (of MLFLOW_TRACKING_URI) that gets it all.")
]
Classifiers = Annotated[
    str, typer.Option(help=f"{', '.join(CLASSIFIERS)}: official trains the challenge's networks.")
]


def evaluate(
    reference: Annotated[Path, typer.Argument(help="Geant4 showers: HDF5 file or shard directory.")],
    generated: Generated,
    output: Annotated[Path, typer.Option("-o", "--output", help="Directory for results, page and figures.")],
    split: Split = None,
    label: Label = None,
    reference_label: Annotated[str | None, typer.Option(help="Name of the reference.")] = None,
    threshold: Threshold = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of floors, draws and classifiers.")] = 0,
    classifiers: Classifiers = "trees",
    device: Annotated[str, typer.Option(help="Where networks are trained: cpu, cuda.")] = "cpu",
    training: Training = None,
    timing: Timing = None,
    diphoton: Diphoton = None,
    workers: Workers = 0,
    run: Run = None,
    mlflow_run: MlflowRun = None,
    *,
    quick: Annotated[bool, typer.Option("--quick", help="Histograms and means only.")] = False,
    figures: Annotated[bool, typer.Option("--figures/--no-figures", help="Draw figures and page.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Write results.json, figures and one HTML page; print every number beside its Geant4-Geant4 floor.

    Several models are compared with the same reference and drawn over each other.
    """
    settings = _settings(classifiers, device, quick=quick)
    names = _labels(generated, label)
    _require_files(reference, *generated, *(path for path in (training, run) if path))
    _require_place(output)
    if split is not None and not reference.is_dir():
        raise ConfigError(
            f"--split {split}: {reference} is a file", hint="leave --split out, or ingest the file"
        )
    if split is None:
        _warn_of_training_rows(reference)
    extras = {"timing": _records("timing", timing, names), "diphoton": _records("diphoton", diphoton, names)}
    results = _compare(
        _open(reference, split),
        dict(zip(names, map(_open, generated), strict=True)),
        name=reference_label or reference.name,
        workers=workers,
        training=_open(training, "train") if training else None,
        threshold=threshold,
        seed=seed,
        metrics=settings,
    )
    for i, one in enumerate(results):
        one.data.update({key: values[i] for key, values in extras.items() if values})
    paths = _save(results, names, output)
    pictures, page = _draw(results, names, output) if figures else ([], None)
    _track(results, names, output, run, mlflow_run)
    if as_json:
        _print_json(results, paths, pictures, page)
    else:
        _show(results, paths, output, page)


def _show(results: Sequence[Results], paths: Sequence[Path], output: Path, page: Path | None) -> None:
    for one in results:
        show_results(one.data)
    for path in paths:
        say(f"results  {path}")
    if page is not None:
        say(f"figures  {output / 'figures'}")
        say(f"page     {page}")


def _settings(classifiers: str, device: str, *, quick: bool) -> MetricSettings:
    from caloray.evaluation.settings import QUICK, MetricSettings

    if classifiers not in CLASSIFIERS:
        raise ConfigError(
            f"--classifiers {classifiers!r}: expected one of {', '.join(CLASSIFIERS)}",
            hint="trees is the fast one",
        )
    if quick:
        return QUICK
    return MetricSettings.model_validate({"classifiers": classifiers, "device": device})


def _labels(generated: Sequence[Path], given: Sequence[str] | None) -> list[str]:
    names = list(given) if given else [path.name for path in generated]
    if len(names) != len(generated):
        raise ConfigError(
            f"{len(names)} labels for {len(generated)} samples", hint="give --label once per sample, in order"
        )
    if not given and len(set(names)) < len(names):
        names = [str(path) for path in generated]
    folders = [_folder(name) for name in names]
    taken = {"figures", "report.html", "results.json"} if len(names) > 1 else set()
    for name, folder in zip(names, folders, strict=True):
        if not name.strip() or folder in taken:
            raise ConfigError(
                f"label {name!r} is empty, taken, or like another one",
                hint="give every sample its own --label",
            )
        taken.add(folder)
    return names


def _require_place(output: Path) -> None:
    """Refuse, before any work, a place where nothing can be written."""
    from caloray.errors import StorageError

    for place in (output, *output.parents):
        if place.is_dir():
            return
        if place.exists():
            raise StorageError(
                f"{place}: is a file, expected a directory for the results", hint="choose another -o"
            )


def _require_files(*paths: Path) -> None:
    for path in paths:
        if not path.exists():
            raise DataError(f"{path}: no such file or directory", hint="check the path")


def _open(path: Path, split: str | None = None) -> ShowerSource:
    from caloray.io.source import open_source

    return open_source(path, split if path.is_dir() else None)


def _warn_of_training_rows(reference: Path) -> None:
    from caloray.io.manifest import Manifest

    if reference.is_dir() and "train" in (counts := Manifest.load(reference).counts) and len(counts) > 1:
        note(
            f"warning: {reference} is compared whole, with the showers that models were trained on; "
            "--split test takes held-out ones"
        )


def _records(what: str, paths: Sequence[Path] | None, names: Sequence[str]) -> list[Any]:
    """One JSON record per model, or none at all."""
    import json

    if paths and len(paths) != len(names):
        raise ConfigError(
            f"--{what}: {len(paths)} records for {len(names)} samples",
            hint="give it once per sample, in order",
        )
    records = []
    for path in paths or ():
        try:
            record = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: no record can be read ({error})", hint="make it anew") from error
        found = record.get("schema") if isinstance(record, dict) else None
        missing = [key for key in NEEDED[what] if key not in record] if isinstance(record, dict) else []
        if found != f"caloray-{what}/1" or missing:
            lacks = f" without {', '.join(missing)}" if missing else ""
            raise DataError(
                f"{path}: schema {found!r}{lacks}, expected caloray-{what}/1", hint="make it anew"
            )
        records.append(record)
    return records


def _compare(
    reference: ShowerSource, generated: dict[str, ShowerSource], *, name: str, workers: int, **options: Any
) -> list[Results]:
    from caloray.evaluation.run import evaluate_all

    options |= {"name": name, "progress": _tell}
    if not workers:
        return evaluate_all(reference, generated, **options)
    from caloray.config import ClusterConfig
    from caloray.distributed.evaluate import reducer
    from caloray.distributed.session import connect

    with connect(ClusterConfig(num_cpus=workers)) as session:
        return evaluate_all(reference, generated, reduce=reducer(session), **options)


def _save(results: Sequence[Results], names: Sequence[str], output: Path) -> list[Path]:
    if len(results) == 1:
        return [results[0].save(output)]
    places = [output / _folder(name) for name in names]
    return [one.save(place) for one, place in zip(results, places, strict=True)]


def _folder(name: str) -> str:
    return (
        "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name).strip(".") or "_"
    )


def _draw(results: Sequence[Results], names: Sequence[str], output: Path) -> tuple[list[Path], Path]:
    from caloray.report import draw, write_page

    note("drawing figures")
    records = [one.data for one in results]
    labels = (results[0].data["reference"]["name"], *names)
    pictures = draw(records, output / "figures", labels)
    return pictures, write_page(records, labels, output / "figures", output / "report.html")


def _track(
    results: Sequence[Results], names: Sequence[str], output: Path, run: Path | None, mlflow_run: str | None
) -> None:
    if run is None and mlflow_run is None:
        return
    from caloray.tracking import attach, attach_to_directory

    values: dict[str, float] = {}
    for one, name in zip(results, names, strict=True):
        prefix = "" if len(results) == 1 else f"{_folder(name)}/"
        values |= {prefix + key: value for key, value in one.numbers().items()}
    places = ("results.json", "figures", "report.html") if len(results) == 1 else ("figures", "report.html")
    files = {name: output / name for name in places if (output / name).exists()}
    if run is not None:
        attach_to_directory(run, values, files)
    if mlflow_run is not None:
        attach(mlflow_run, values, files)


def _print_json(
    results: Sequence[Results], paths: Sequence[Path], pictures: Sequence[Path], page: Path | None
) -> None:
    keys = ["reference", "generated", "threshold", "seed", "incident_energy", "warnings", "summary"]
    keys += ["separations", "metrics"]
    facts = [
        {key: one.data[key] for key in keys} | {"results": str(path)}
        for one, path in zip(results, paths, strict=True)
    ]
    drawn = {"figures": [str(picture) for picture in pictures], "page": None if page is None else str(page)}
    print_json(facts[0] | drawn if len(facts) == 1 else {"models": facts} | drawn)


def _tell(stage: str, done: int, total: int) -> None:
    if done >= total:
        note(stage if total < FEW else f"{stage}: {total:,}")
