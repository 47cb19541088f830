"""The shipped campaigns of trials: accepted as they stand, and what their names and comments promise."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from caloray.tuning.resolve import base_run, component_names, full_epochs, run_of, rung_shares
from caloray.tuning.settings import TuneConfig, load_tuning

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("tune_*.yaml"))


def test_there_are_the_four_shipped_ones():
    names = {path.stem for path in CONFIGS}
    assert {
        "tune_demo",
        "tune_onecycle_splines",
        "tune_par04_layer_energies",
        "tune_par04_next_layer",
    } <= names


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_campaign_loads_and_reloads_from_its_dump(path):
    settings = load_tuning(path)
    assert settings.name == path.stem.replace("_", "-")
    assert settings.output == Path("runs") / path.stem
    text = yaml.safe_dump(settings.model_dump(mode="json"))
    assert TuneConfig.model_validate(yaml.safe_load(text)) == settings


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_trial_has_a_schedule_of_its_own_length(path):
    settings = load_tuning(path)
    assert settings.baseline
    assert settings.confirm is not None
    assert settings.confirm.seeds == 3
    run = base_run(settings)
    full = full_epochs(run, component_names(settings, run))
    shares = rung_shares(settings, full)
    assert len(shares) > 1
    assert all(share * full >= 3 for share in shares)
    for share in shares:
        assert (
            run_of(settings, base_run(settings), {}, share).training_of(settings.components[0]).schedule.kind
            == "onecycle"
        )


def test_what_the_user_named_is_searched():
    settings = load_tuning(next(path for path in CONFIGS if path.stem == "tune_onecycle_splines"))
    last = {name.rsplit(".", maxsplit=1)[-1] for name in settings.space}
    assert last == {
        *("max_lr", "pct_start", "div", "final_div", "epochs"),
        *("bins", "tail_bound", "min_width", "min_height", "min_derivative"),
    }
    published = base_run(settings).training_of("next_layer")
    assert published.schedule.max_lr == pytest.approx(1e-3)
    assert published.schedule.three_phase
    assert published.epochs == 60
