"""``caloray tune``: what it says before, during and after a campaign; no Ray."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from caloray.cli import main
from caloray.cli.tune_view import standing_line, trial_cells
from caloray.distributed.progress import ComponentProgress
from caloray.distributed.tune_finish import read_campaign, write_settings
from caloray.tuning.director import Director
from caloray.tuning.ledger import Ledger, TrialResult
from caloray.tuning.settings import TuneConfig, load_tuning
from caloray.tuning.space import Parameter

RATE = "training.first_layer.schedule.max_lr"
BINS = "scheme.flows.first_layer.spline.bins"


@pytest.fixture
def campaign(tmp_path: Path) -> Path:
    training = {"first_layer": {"epochs": 18}}
    run = {
        "name": "toy",
        "output": str(tmp_path / "base"),
        "data": {"files": [str(tmp_path / "none.hdf5")]},
        "training": training,
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(run))
    value = {
        "name": "tune-toy",
        "config": "run.yaml",
        "output": str(tmp_path / "out"),
        "components": ["first_layer"],
        "space": {
            RATE: {"log_uniform": [1e-4, 1e-2]},
            "scheme.flows.first_layer.spline.bins": {"int": [4, 8]},
        },
        "search": {"kind": "random"},
        "fidelity": {"kind": "halving", "min_epochs": 2, "factor": 3},
        "budget": {"trials": 9},
        "objective": {"kind": "nll"},
        "trial": {"concurrent": 2},
        "cluster": {"num_cpus": 4},
    }
    path = tmp_path / "tune.yaml"
    path.write_text(yaml.safe_dump(value))
    return path


@pytest.fixture
def begun(campaign: Path) -> TuneConfig:
    """A campaign with a baseline, two ended trials and one at work."""
    settings = load_tuning(campaign)
    ledger = Ledger(settings.output)
    write_settings(settings)
    director = Director(settings, ledger, "data")
    for value in (0.5, 0.25, None):
        trial: Any = director.next()
        status = "pruned" if value is None else "complete"
        objectives = {} if value is None else {"nll_bits_per_dim": value}
        reason = "CR-400 loss is nan" if value is None else ""
        ledger.finish(TrialResult(trial.number, status, objectives, reason, seconds=36.0))
        director.ended(trial.number)
    director.next()
    return settings


def test_a_dry_run_says_what_it_would_do_and_writes_nothing(
    campaign: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert main(["tune", str(campaign), "--dry-run", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["new_configurations"] == 9
    assert found["trials_at_the_full_budget_besides"] == 1 + 2 * 3
    assert found["epochs_in_all"] == 9 * 2 + 3 * 6 + 1 * 18 + 7 * 18
    assert found["at_the_same_time"] == 2
    assert found["estimated_hours"] is None
    assert "nothing was timed yet" in found["based_on"]
    assert main(["tune", "run", str(campaign), "--dry-run"]) == 0
    assert "0.0001 ... 0.01" in capsys.readouterr().out
    assert sorted(tmp_path.rglob("*")) == before


def test_hours_are_told_from_trials(begun: TuneConfig, campaign: Path, capsys: Any) -> None:
    assert main(["tune", str(campaign), "--dry-run", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    epochs, ended = 18 + 2, 18 + 2 + 2
    assert found["estimated_hours"] == pytest.approx(72 / epochs * (180 - ended) / 2 / 3600, rel=0.01)
    assert found["based_on"] == "2 trials of this campaign, measuring included"


def test_status_from_files_alone(begun: TuneConfig, campaign: Path, capsys: Any) -> None:
    campaign.unlink()
    (campaign.parent / "run.yaml").unlink()
    assert main(["tune", "status", str(begun.output), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["trials_complete"], found["trials_pruned"], found["trials_open"]) == (2, 1, 1)
    assert [row["number"] for row in found["trials"]] == [0, 1, 2, 3]
    assert main(["tune", "status", str(begun.output)]) == 0
    printed = capsys.readouterr().out
    assert "pruned" in printed
    assert "max_lr" in printed
    assert RATE not in printed.partition("number")[2], "columns have short names"


def test_report_writes_page_table_and_config(begun: TuneConfig, capsys: Any) -> None:
    from caloray.config import load_config

    assert main(["tune", "report", str(begun.output), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    page = Path(found["report"]).read_text()
    assert page.startswith("<!DOCTYPE html>")
    assert " of run.yaml: " in page, "the run config keeps its name"
    assert len(Path(found["trials"]).read_text().splitlines()) == 5
    config = load_config(Path(found["best_config"]))
    assert config.output == begun.output / "best" / "run"
    assert config.training_of("first_layer").epochs == 18


def test_help_and_usage(capsys: Any, tmp_path: Path) -> None:
    assert main(["tune", "--help"]) == 0
    text = capsys.readouterr().out
    assert all(word in text for word in ("FILE | COMMAND", "report", "status", "run"))
    assert main(["tune", str(tmp_path / "none.yaml")]) == 78
    assert "error[CR-100]" in capsys.readouterr().err
    assert main(["tune", "status", str(tmp_path)]) == 78
    assert "no settings.json here" in capsys.readouterr().err
    assert main(["tune"]) == 2
    capsys.readouterr()
    assert main(["tune", "reprot", str(tmp_path)]) == 2
    assert "is neither a command nor a campaign file, did you mean 'report'?" in capsys.readouterr().err


def test_a_damaged_directory_is_told_in_a_line(begun: TuneConfig, capsys: Any) -> None:
    (begun.output / "base" / "run.yaml").unlink()
    assert main(["tune", "status", str(begun.output)]) == 78
    assert "base/run.yaml: gone" in capsys.readouterr().err
    for text in ("[1]", "{}", "{"):
        (begun.output / "settings.json").write_text(text)
        assert main(["tune", "status", str(begun.output)]) != 0
        complaint = capsys.readouterr().err
        assert "settings.json: unreadable (" in complaint
        assert "unsupported operand" not in complaint


def test_another_campaign_is_found_before_ray_starts(
    begun: TuneConfig, campaign: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from caloray.distributed import session, tune

    def never(*args: Any) -> Any:
        raise AssertionError("Ray was started")

    monkeypatch.setattr(session, "connect", never)
    monkeypatch.setattr(tune, "campaign_data", lambda *_: (begun.output / "shards", "data"))
    with pytest.raises(AssertionError, match="Ray was started"):
        main(["tune", str(campaign)])
    assert main(["tune", str(campaign), "--set", "seed=7"]) == 74
    assert "holds the trials of another campaign; seed: it has 1, here 7" in capsys.readouterr().err


def test_schema(capsys: Any) -> None:
    assert main(["config", "schema", "--tuning"]) == 0
    assert {"space", "fidelity", "objective"} <= set(json.loads(capsys.readouterr().out)["properties"])


def test_what_is_shown_while_it_runs(begun: TuneConfig) -> None:
    ledger = Ledger(begun.output)
    director = Director(begun, ledger, "data")
    line = standing_line(director, 1)
    assert line == "trials: 1 running, 2 complete, 1 pruned; best so far: trial 1, nll_bits_per_dim 0.25"
    now = ComponentProgress("first_layer", 5, 10, 1, 3.0, 1.0, 2.5, epochs=2)
    cells = trial_cells(ledger.trials()[1], now)
    assert cells[:7] == ("1", "search", "0", "first_layer", "1/2", "2.50", "0:05")
    assert "max_lr " in cells[7]


def test_the_record_keeps_the_order_of_the_file(begun: TuneConfig) -> None:
    """A page that is written again later shows the fields where they were."""
    name = "training.next_layer.clip"
    more = {**begun.space, name: Parameter.model_validate({"uniform": [1, 5]})}
    for space in (more, dict(reversed(more.items()))):
        write_settings(begun.model_copy(update={"space": space}))
        assert list(read_campaign(begun.output).space) == list(space)
