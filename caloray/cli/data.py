"""``caloray data``: bring showers in, look at them, check them."""

from __future__ import annotations

__all__ = ["app"]

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from caloray.cli.console import note, print_json, print_table, say

if TYPE_CHECKING:
    from caloray.io.ingest import IngestConfig
    from caloray.io.manifest import Manifest

app = typer.Typer(help="Bring showers in, look at them, check them.", no_args_is_help=True)

Output = Annotated[Path, typer.Option("-o", "--output", help="Directory to write to.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command(epilog="Example: caloray data ingest showers_1.hdf5 showers_2.hdf5 -o runs/mine/shards")
def ingest(
    files: Annotated[list[Path], typer.Argument(help="CaloChallenge HDF5 files.")],
    output: Output,
    geometry: Annotated[
        str | None, typer.Option("--geometry", help="Geometry name; matched by voxel count when omitted.")
    ] = None,
    rows_per_shard: Annotated[
        int | None, typer.Option(min=1, help="Rows of a file per task; 2000, fewer for large showers.")
    ] = None,
    fractions: Annotated[
        str, typer.Option("--split", help="Shares of train, validation and test.")
    ] = "0.8,0.1,0.1",
    split_seed: Annotated[int, typer.Option(min=0, help="Seed of the split.")] = 0,
    on_invalid: Annotated[str, typer.Option(help="reject or drop rows that break a rule.")] = "reject",
    max_ratio: Annotated[float, typer.Option(help="Largest believable E_tot / E_inc.")] = 5.0,
    *,
    ray: Annotated[bool, typer.Option("--ray", help="Run the tasks with Ray.")] = False,
    as_json: AsJson = False,
) -> None:
    """Turn HDF5 files into checked Parquet shards with a manifest and a split.

    Run the same command again to continue an ingest that was stopped.
    """
    config = _ingest_config(
        files=files,
        geometry=geometry,
        rows_per_shard=rows_per_shard,
        split=_fractions(fractions),
        split_seed=split_seed,
        on_invalid=on_invalid,
        max_ratio=max_ratio,
    )
    manifest = _with_ray(config, output) if ray else _in_process(config, output)
    facts: dict[str, Any] = {"output": str(output), "geometry": manifest.geometry["name"], **manifest.counts}
    facts |= {"shards": len(manifest.shards), "dropped": manifest.dropped, "digest": manifest.digest}
    if as_json:
        print_json(facts)
        return
    counts = ", ".join(f"{count} {split}" for split, count in manifest.counts.items())
    say(f"{output}: {manifest.rows()} showers ({counts}) in {len(manifest.shards)} shards")
    if manifest.dropped:
        say(f"dropped rows: {_listed(manifest.dropped)}")
    say(f"digest: {manifest.digest}")


@app.command(epilog="Example: caloray data inspect runs/demo/showers.hdf5")
def inspect(
    path: Annotated[Path, typer.Argument(help="HDF5 file or shard directory.")],
    split: Annotated[str | None, typer.Option(help="Only this split of a shard directory.")] = None,
    rows: Annotated[int, typer.Option(min=0, help="Showers to read for the statistics; 0 for all.")] = 10_000,
    *,
    as_json: AsJson = False,
) -> None:
    """Say what a file or shard directory holds."""
    from caloray.io.summary import summarise

    facts = summarise(path, split, rows or None)
    if as_json:
        print_json(facts)
        return
    print_table(("", "value"), _described(facts), title=str(path))


@app.command(epilog="Example: caloray data verify runs/demo/shards")
def verify(
    path: Annotated[Path, typer.Argument(help="Shard directory or HDF5 file.")],
    max_ratio: Annotated[float, typer.Option(help="Largest believable E_tot / E_inc (files).")] = 5.0,
    *,
    as_json: AsJson = False,
) -> None:
    """Compare every shard with its sha256 in the manifest; or check every row of an HDF5 file.

    Exit status 0 when all is well, 66 for a damaged directory, 65 for bad rows or a damaged file.
    """
    if path.is_dir() or path.name == "manifest.json":
        _verify_directory(path if path.is_dir() else path.parent, as_json=as_json)
    else:
        _verify_file(path, max_ratio, as_json=as_json)


@app.command(epilog="Example: caloray data pull ds2 -o data/ds2")
def pull(
    dataset: Annotated[str, typer.Argument(help="ds1_photons, ds1_pions, ds2 or ds3.")],
    output: Output,
    base_url: Annotated[
        str | None, typer.Option("--base-url", help="A mirror with the paths of Zenodo's records.")
    ] = None,
) -> None:
    """Download a CaloChallenge dataset from its DOI record; resumes, checks md5."""
    from caloray.cli.transfer import transfer_progress
    from caloray.io.download import pull as download
    from caloray.io.known import ZENODO

    with transfer_progress() as progress:
        paths = download(dataset, output, base_url or ZENODO, progress)
    for path in paths:
        say(str(path))


def _ingest_config(**options: object) -> IngestConfig:
    from pydantic import ValidationError

    from caloray.errors import ConfigError
    from caloray.io.ingest import IngestConfig

    try:
        return IngestConfig.model_validate(options)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"])) or "ingest"
        reason = str(first["msg"]).removeprefix("Value error, ")
        raise ConfigError(f"{name}: {reason}", hint="see `caloray data ingest --help`") from error


def _fractions(text: str) -> dict[str, str]:
    from caloray.errors import ConfigError

    parts = text.split(",")
    if len(parts) != 3:
        raise ConfigError(
            f"split: {text!r} is not three shares", hint="write for example --split 0.8,0.1,0.1"
        )
    return dict(zip(("train", "validation", "test"), parts, strict=True))


def _in_process(config: IngestConfig, output: Path) -> Manifest:
    from caloray.io.ingest import ingest as run

    return run(config, output, _report)


def _with_ray(config: IngestConfig, output: Path) -> Manifest:
    from caloray.config import ClusterConfig
    from caloray.distributed.ingest import ingest_with_ray
    from caloray.distributed.session import connect

    with connect(ClusterConfig()) as session:
        return ingest_with_ray(session, config, output, _report)


def _report(done: int, total: int) -> None:
    if logging.getLogger("caloray").isEnabledFor(logging.INFO):
        note(f"ingest: {done} of {total} rows")


def _verify_file(path: Path, max_ratio: float, *, as_json: bool) -> None:
    from caloray.errors import DataError
    from caloray.io.summary import check_file

    rows, found = check_file(path, max_ratio)
    if as_json:
        print_json({"path": str(path), "rows": rows, "violations": [vars(item) for item in found]})
    if found:
        raise DataError(
            f"{path}: {'; '.join(map(str, found))}",
            hint="repair the file, or leave such rows out with `caloray data ingest --on-invalid drop`",
        )
    if not as_json:
        say(f"{path}: {rows} rows, all good")


def _verify_directory(directory: Path, *, as_json: bool) -> None:
    from caloray.errors import IntegrityError
    from caloray.io.manifest import Manifest, verify_directory

    problems = verify_directory(directory)
    if as_json:
        print_json({"path": str(directory), "problems": [vars(problem) for problem in problems]})
    manifest = Manifest.load(directory)
    if problems:
        for problem in () if as_json else problems:
            say(problem.message)
        files = "1 file is" if len(problems) == 1 else f"{len(problems)} files are"
        raise IntegrityError(
            f"{directory}: {files} not what the manifest says, first {problems[0].path}",
            hint="run the command that made the directory again; it redoes what is damaged",
        )
    if not as_json:
        say(f"{directory}: {len(manifest.shards)} shards, {manifest.rows()} showers, all good")


def _described(facts: dict[str, Any]) -> list[tuple[str, object]]:
    geometry = facts["geometry"]
    rows: list[tuple[str, object]] = [
        ("kind", facts["kind"]),
        ("showers", facts["showers"]),
        ("geometry", f"{geometry['name']}: {geometry['layers']} layers, {geometry['voxels']} voxels"),
        ("geometry digest", geometry["digest"]),
        ("dtype", facts["dtype"]),
        ("bytes", facts["bytes"]),
    ]
    if facts["statistics"]:
        rows += _statistics(facts["statistics"], facts["showers"])
    if "splits" in facts:
        rows += _directory_rows(facts)
    else:
        rows += [
            ("published file", facts["dataset"] or "no"),
            ("sha256", facts["sha256"]),
            ("md5", facts["md5"]),
        ]
        rows += [(f"attribute {name}", value) for name, value in facts["attrs"].items()]
    return rows


def _statistics(found: dict[str, Any], total: int) -> list[tuple[str, object]]:
    part = "" if found["showers"] == total else f" (first {found['showers']} showers)"
    return [
        (f"E_inc [MeV]{part}", f"{found['energy_min']:.6g} to {found['energy_max']:.6g}"),
        (f"E_tot / E_inc{part}", f"mean {found['ratio_mean']:.4f}, width {found['ratio_std']:.4f}"),
        (f"hit voxels{part}", f"mean {found['hits_mean']:.1f} ({100 * found['occupancy']:.2f} %)"),
        (f"voxel energies above 0 [MeV]{part}", f"{found['voxel_min']:.4g} to {found['voxel_max']:.4g}"),
    ]


def _directory_rows(facts: dict[str, Any]) -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = [("shards", facts["shards"]), ("digest", facts["digest"])]
    rows += [(f"split {name}", count) for name, count in facts["splits"].items()]
    if facts["split"]:
        fractions = facts["split"]["fractions"]
        rows.append(("split by", f"{_listed(fractions)}, seed {facts['split']['seed']}"))
    if facts["dropped"]:
        rows.append(("dropped rows", _listed(facts["dropped"])))
    for source in facts["sources"]:
        known = f", published {source['dataset']}" if source.get("dataset") else ""
        rows.append(
            ("from", f"{source.get('name')} ({source.get('rows')} rows, {source.get('sha256')}{known})")
        )
    return rows


def _listed(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())
