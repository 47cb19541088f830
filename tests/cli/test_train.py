"""`caloray train` before and while it trains: choice of layers, the outline, the table of all components."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from caloray.cli import main
from caloray.cli.training_view import COLUMNS, _Lines, _Table, summary_line, table_rows
from caloray.distributed.progress import ComponentProgress, ComponentState

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "data" / "geant4_par04_ds2.hdf5"
FLOW = {"blocks": 1, "hidden": 8, "squeeze": [1, 2], "kernels": [[3, 2], [3, 2]]}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    value = {
        "name": "layers",
        "output": str(tmp_path / "run"),
        "data": {"files": [str(SAMPLE)], "geometry": "ds2"},
        "scheme": {"kind": "layerwise", "flows": {"layer": FLOW}},
        "training": {"layer": {"epochs": 2, "batch": 64, "warm_start": "previous"}},
    }
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(value))
    return path


def outline(capsys: Any, *arguments: str) -> dict[str, Any]:
    assert main(["train", *arguments, "--dry-run", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_layers_are_chosen_by_number(config: Path, capsys: Any) -> None:
    chosen = outline(capsys, str(config), "--layers", "0-2, 7,1")["components"]
    assert [part["name"] for part in chosen] == ["layer_00", "layer_01", "layer_02", "layer_07"]
    both = outline(capsys, str(config), "--layers", "44", "--components", "layer_energies")["components"]
    assert [part["name"] for part in both] == ["layer_energies", "layer_44"]
    assert both[1]["layers"] == 6
    assert both[1]["memory"] > 450e6
    assert both[1]["warm_start"] == "previous"


def test_46_components_are_told_in_a_few_lines(config: Path, capsys: Any) -> None:
    assert main(["train", str(config), "--dry-run"]) == 0
    text = capsys.readouterr().out
    assert "layer_05 ... layer_44 (40 alike)" in text
    assert "in all   46 components" in text
    assert "GB/worker" in text
    assert len(text.splitlines()) < 20


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--layers", "0-45"], "no component 'layer_45' in this scheme"),
        (["--layers", "3-1"], "'3-1' is no layer or range of layers"),
        (["--layers", "all"], "'all' is no layer or range of layers"),
        (["--layers", ""], "'' is no layer or range of layers"),
        (["--components", "next_layer"], "no component 'next_layer' in this scheme"),
        (["--set", "training.layer_45.epochs=2"], "training.layer_45: the scheme has no such component"),
        (
            ["--set", "scheme.network=shared", "--set", "training={}", "--layers", "1"],
            "no component for each",
        ),
    ],
)
@pytest.mark.parametrize("dry", [True, False])
def test_what_cannot_be_trained_is_refused_in_one_line(
    config: Path, capsys: Any, arguments: list[str], message: str, dry: bool, tmp_path: Path
) -> None:
    if not dry and "--set" in arguments and "--layers" not in arguments:
        pytest.skip("told when the jobs are made")
    assert main(["train", str(config), *arguments, *(["--dry-run"] if dry else ["--fresh"])]) == 78
    captured = capsys.readouterr()
    assert message in captured.err.splitlines()[0]
    assert captured.out == ""
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("dry", [True, False])
def test_conditions_that_the_data_lack_are_refused_before_ray(
    config: Path, capsys: Any, dry: bool, tmp_path: Path
) -> None:
    wanted = ["--set", "scheme.conditions=[direction_z]", "--set", "scheme.augment=none"]
    assert main(["train", str(config), *wanted, *(["--dry-run"] if dry else [])]) == 78
    captured = capsys.readouterr()
    assert "the training data have no direction_z; they have no conditions" in captured.err
    assert not (tmp_path / "run").exists()


def test_a_scheme_without_layer_components_has_no_layers_to_choose(capsys: Any) -> None:
    arguments = ["train", str(ROOT / "configs" / "demo.yaml"), "--layers", "0", "--dry-run"]
    assert main(arguments) == 78
    assert "scheme (inductive) has no component for each layer" in capsys.readouterr().err


def progress(name: str, epoch: int, rate: float = 5.0) -> ComponentProgress:
    return ComponentProgress(name, epoch * 10, 800, epoch, 12.345, rate, 13.0, 80, 1_500_000_000)


def states(done: int, running: int, waiting: int, failed: int = 0) -> list[ComponentState]:
    kinds = ["done"] * done + ["running"] * running + ["failed"] * failed + ["waiting"] * waiting
    found = []
    for number, kind in enumerate(kinds):
        name = f"layer_{number:02d}"
        now = progress(name, 4) if kind in {"running", "done"} else None
        found.append(ComponentState(name, kind, now, "loss is nan (events [5])" if kind == "failed" else ""))
    return found


def test_the_plain_line() -> None:
    line = summary_line(states(12, 2, 30, 1))
    assert line.startswith(
        "components: 2 running (layer_12 epoch 4/80, loss 12.35, validation 13.00, 5.0 steps/s"
    )
    assert "2:32 left" in line
    assert line.endswith("12 done, 1 failed, 30 waiting")
    assert "..." in summary_line(states(0, 9, 0))
    assert "layer_00 starting" in summary_line([ComponentState("layer_00", "running")])


def test_plain_lines_come_now_and_then(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 1.0, 2.0, 3.0, 30.0, 31.0])
    monkeypatch.setattr("caloray.cli.training_view.time.monotonic", lambda: next(clock))
    lines = _Lines()
    lines.trained(states(0, 2, 4))
    lines.trained(states(0, 2, 4))
    assert len(capsys.readouterr().err.splitlines()) == 1
    lines.trained(states(1, 2, 3))
    assert "1 done" in capsys.readouterr().err, "an end is told at once"


def test_the_table_folds_what_does_not_fit() -> None:
    everything = states(12, 2, 30, 1)
    assert len(table_rows(everything, 50)) == 45
    rows = table_rows(everything, 20)
    assert [row[0] for row in rows] == [
        "layer_00 ... layer_11 (12)",
        "layer_12",
        "layer_13",
        "layer_14",
        "layer_15 ... layer_44 (30)",
    ]
    assert all(len(row) == len(COLUMNS) for row in rows)
    assert rows[1] == ("layer_12", "running", "4/80", "12.35", "13.00", "5.0", "2:32", "1.5")


def test_the_table_on_a_terminal() -> None:
    from rich.console import Console

    console = Console(file=io.StringIO(), force_terminal=True, color_system=None, width=110, height=30)

    class Live:
        def update(self, shown: object) -> None:
            console.print(shown)

    table = _Table(Live(), console)
    table.ingested(5, 10)
    table.trained([*states(12, 2, 30, 1), ComponentState("layer_45", "waiting", None, "after layer_44")])
    text = console.file.getvalue()
    assert "ingest: 5 of 10 showers" in text
    assert "layer_12" in text
    assert "layer_14: loss is nan (events [5])" in text
    assert "12 done" in text
