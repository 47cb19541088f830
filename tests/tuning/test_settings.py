"""Campaign files: what they mean."""

# The messages stand whole.

from __future__ import annotations

import subprocess
import sys

import pytest
import yaml

from caloray.errors import ConfigError
from caloray.tuning.resolve import base_run, component_names, run_of, rung_shares
from caloray.tuning.settings import TuneConfig, load_tuning

LR = "training.next_layer.schedule.max_lr"
RATE = {LR: {"log_uniform": [1e-4, 1e-2]}}
BINS = "scheme.flows.next_layer.spline.bins"


def test_the_output_of_the_run_config_is_refused(campaign, tmp_path):
    path = campaign(run={"output": str(tmp_path / "tuned")})
    with pytest.raises(ConfigError, match=r"tuned is the output of the run config as well"):
        load_tuning(path)


def test_a_group_of_layers_needs_the_geometry(campaign):
    run = {"scheme": {"kind": "layerwise"}, "training": {"layer": {"epochs": 4}}}
    space = {"training.layer.batch": {"int": [64, 128]}}
    settings = load_tuning(campaign(run=run, components=["layer"], space=space))
    assert component_names(settings) == tuple(f"layer_{i:02d}" for i in range(45))
    without = run | {"data.geometry": None}
    with pytest.raises(ConfigError, match="how many layers 'layer' stands for is not known"):
        load_tuning(campaign(run=without, components=["layer"], space=space))
    single = load_tuning(campaign(run=without, components=["layer_07"], space=space))
    assert component_names(single) == ("layer_07",)
    with pytest.raises(ConfigError, match="the geometry ends at layer_44"):
        load_tuning(campaign(run=run, components=["layer_45"], space=space))


def test_one_layer_of_a_group_is_searched_with_the_groups_other_settings(campaign):
    run = {"scheme": {"kind": "layerwise"}, "training": {"layer": {"epochs": 4, "clip": 3.0}}}
    space = {"training.layer_07.batch": {"int": [64, 128]}, "training.layer.clip": {"uniform": [1.0, 2.0]}}
    settings = load_tuning(campaign(run=run, components=["layer_07"], space=space))
    tried = run_of(
        settings, base_run(settings), {"training.layer_07.batch": 64, "training.layer.clip": 1.5}, share=0.5
    )
    section = tried.training_of("layer_07")
    assert (section.batch, section.clip, section.epochs) == (64, 1.5, 2)
    assert tried.training_of("layer_08").batch == base_run(settings).training_of("layer_08").batch


def test_settings_reload_from_their_dump(load):
    settings = load(
        space=RATE | {BINS: {"int": [4, 16], "step": 4}, "training.next_layer.clip": {"choice": [None, 1.0]}},
        objective=[
            {"kind": "nll"},
            {"kind": "weighted", "terms": [{"weight": 2, "of": {"kind": "ms_per_shower"}}]},
        ],
        trial={"gpus": 0.5},
    )
    assert TuneConfig.model_validate(settings.model_dump(mode="json")) == settings
    assert settings.objective_names == ("nll_bits_per_dim", "weighted")
    assert [item.name for item in settings.single_objectives] == ["nll_bits_per_dim", "ms_per_shower"]


def test_overrides_and_words_that_yaml_takes_for_text(campaign):
    path = campaign()
    path.write_text(path.read_text() + yaml.safe_dump({"tracking": {"enabled": False}}))
    settings = load_tuning(path, ["budget.trials=3", f"space={{{LR}: {{log_uniform: [1e-5, 1e-3]}}}}"])
    assert settings.budget.trials == 3
    assert settings.space[LR].ends == (1e-5, 1e-3)


def test_the_last_rungs_are_not_nearly_the_same(load):
    shares = {}
    for epochs in (7, 9, 10):
        campaign = load(
            run={"training.next_layer.epochs": epochs},
            fidelity={"kind": "halving", "min_epochs": 2, "factor": 3},
            budget={"trials": 30},
        )
        shares[epochs] = [round(share * epochs) for share in rung_shares(campaign, epochs)]
    assert shares == {7: [2, 7], 9: [2, 6, 9], 10: [2, 6, 10]}


def test_milestones_move_with_the_rung(load):
    schedule = {"kind": "multistep", "milestones": [6, 12]}
    common = {"set": {"training.next_layer.schedule": schedule}, "space": {BINS: {"int": [4, 8]}}}
    halved = load(**common, fidelity={"kind": "halving", "min_epochs": 6})
    assert run_of(halved, base_run(halved), {BINS: 4}, share=1 / 3).training_of(
        "next_layer"
    ).schedule.milestones == (2, 4)
    continued = load(**common, fidelity={"kind": "asha", "min_epochs": 6})
    assert run_of(continued, base_run(continued), {BINS: 4}, share=1 / 3).training_of(
        "next_layer"
    ).schedule.milestones == (6, 12)


def test_short_names_of_metrics(load):
    every = ["layer_energies", "first_layer", "next_layer"]
    settings = load(components=every, objective={"kind": "metric", "name": "auc_trees"})
    assert settings.objective_names == ("auc/high/trees",)


def test_reading_a_campaign_imports_neither_ray_nor_optuna(campaign):
    program = (
        "import sys; from pathlib import Path; from caloray.tuning.settings import load_tuning; "
        f"load_tuning(Path({str(campaign())!r})); sys.exit('ray' in sys.modules or 'optuna' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
