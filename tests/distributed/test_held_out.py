"""A run that would fail at its end is refused at its beginning; what the held-out splits may touch (G17)."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from caloray.cli import main
from caloray.config import load_config
from caloray.distributed import feed, held_out, pipeline
from caloray.distributed.held_out import require_end, require_shares
from caloray.distributed.run_directory import RunDirectory
from caloray.errors import ConfigError
from caloray.geometry import load_geometry
from caloray.interrupt import StopRequest
from caloray.io.challenge import write_challenge
from caloray.io.ingest import ingest
from caloray.io.store import LayerStore
from caloray.preprocess.statistics import TrainingStatistics
from caloray.showers import Showers

SHIPPED = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))
CONFIGS = [path for path in SHIPPED if "\ndata:" in path.read_text()]  # the others: campaigns, a service


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_config_has_something_to_compare_with(path: Path) -> None:
    require_shares(load_config(path))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"data__split": {"train": 0.7, "validation": 0.3, "test": 0.0}},
            "data.split.test is 0, but evaluation",
        ),
        (
            {"data__split": {"train": 0.7, "validation": 0.0, "test": 0.3}},
            "data.split.validation is 0, but train",
        ),
        (
            {"data__split": {"train": 0.0, "validation": 0.5, "test": 0.5}},
            "data.split.train is 0, but training",
        ),
    ],
)
def test_a_split_without_showers(toy: Any, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        require_shares(toy.config(tmp_path / "run", **changes))


def test_the_split_of_the_evaluation_is_what_counts(toy: Any, tmp_path: Path) -> None:
    split = {"train": 0.7, "validation": 0.3, "test": 0.0}
    require_shares(toy.config(tmp_path / "run", data__split=split, evaluation__split="validation"))


def test_the_command_says_so_before_it_starts_anything(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "ingest_run", None)
    text = "name: a\noutput: out\ndata: {files: [a.hdf5], split: {train: 0.9, validation: 0.1, test: 0.0}}\n"
    (tmp_path / "run.yaml").write_text(text)
    assert main(["run", str(tmp_path / "run.yaml")]) == 78
    assert "error[CR-100] data.split.test is 0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"generation__n": 5}, "compare 5 generated showers with .* of split 'test'; at least 20"),
        ({"generation__energies": {"kind": "listed", "values": [2e3, 3e3]}}, "compare 2 generated showers"),
        (
            {"generation__energies": {"kind": "log-uniform", "min": 100, "max": 2000}, "generation__n": 50},
            "from 100 to 2000 MeV, but the model was trained from",
        ),
        ({"generation__energies": {"kind": "log-uniform", "min": 2e3, "max": 3e3}}, "how many showers"),
    ],
)
def test_a_generation_that_the_trained_model_would_refuse(
    toy: Any, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        require_end(toy.config(tmp_path / "run", **changes))


def test_a_nominal_range_is_allowed_on_request(toy: Any, tmp_path: Path) -> None:
    """The ends of a spectrum lie outside the outermost training showers."""
    spectrum = {"generation__energies": {"kind": "log-uniform", "min": 1e3, "max": 5e4}, "generation__n": 50}
    with pytest.raises(ConfigError, match="trained from"):
        require_end(toy.config(tmp_path / "run", **spectrum))
    require_end(toy.config(tmp_path / "run", **spectrum, generation__allow_extrapolation=True))


def test_energies_in_a_file_are_read_beforehand(toy: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "energies.npy", np.full(30, 2e3))
    energies = {"kind": "file", "path": tmp_path / "energies.npy"}
    require_end(toy.config(tmp_path / "run", generation__energies=energies))
    with pytest.raises(ConfigError, match="31 showers from 30 incident energies"):
        require_end(toy.config(tmp_path / "run", generation__energies=energies, generation__n=31))


def test_preprocessing_learns_from_the_training_split_alone(
    toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G17: no shard of another split is opened."""
    opened: list[Path] = []

    def in_process(work: Any, items: Any, directory: Path, *_: object, **__: object) -> Any:
        opened.extend(path for path, _ in items)
        return [(index, work(item, directory)) for index, item in enumerate(items)]

    monkeypatch.setattr(feed, "map_tasks", in_process)
    shards = toy.config(tmp_path / "run").output / "shards"
    geometry = load_geometry(str(toy.folder / "toy.yaml"))
    found = feed.fit_statistics(feed.Feed(shards), geometry, tmp_path, StopRequest())
    training = sorted((shards / "train").glob("*.parquet"))
    assert sorted(opened) == training
    store = LayerStore.from_shards(training, geometry, range(geometry.n_layers))
    maxima = store.layer_maxima.tolist()
    assert found == TrainingStatistics.of(store.layer_energies, store.incident_energies, voxel_maxima=maxima)


def test_the_held_out_particles_come_whole(toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Energies and conditions of the same rows, in the same order; drawn energies would lack conditions."""
    geometry = load_geometry(str(toy.folder / "toy.yaml"))
    rng = np.random.default_rng(3)
    voxels = rng.random((300, geometry.n_voxels)).astype(np.float32)
    energies = rng.uniform(1e3, 5e4, 300).astype(np.float32)
    showers = Showers(energies, voxels, np.arange(300), {"age": energies / 1e3})
    write_challenge(tmp_path / "a.hdf5", geometry, [showers])
    changes = {"data__files": [str(tmp_path / "a.hdf5")], "scheme__conditions": ["age"]}
    config = toy.config(tmp_path / "run", **changes)
    shutil.rmtree(config.output / "shards", ignore_errors=True)
    ingest(config.data.model_copy(update={"max_ratio": 1e9}), config.output / "shards")
    require_end(config)
    asked: dict[str, Any] = {}
    monkeypatch.setattr(held_out, "make_plan", lambda *_, **options: asked.update(options))
    held_out.run_plan(config, RunDirectory.of(config), SimpleNamespace(condition_names=("age",)))  # type: ignore[arg-type]
    (age,) = asked["conditions"]
    assert age.name == "age"
    np.testing.assert_allclose(age.values, np.array(asked["energies"].values) / 1e3)
    drawn = {"generation__energies": {"kind": "uniform", "min": 1e3, "max": 5e4}, "generation__n": 50}
    with pytest.raises(ConfigError, match="needs a value of age"):
        require_end(toy.config(tmp_path / "run", **changes, **drawn))
