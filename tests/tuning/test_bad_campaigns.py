"""Bad campaign files: the one line that each gets before anything starts."""

# ruff: noqa: E501, ISC004  (the messages stand whole)

from __future__ import annotations

import re

import pytest

from caloray.errors import ConfigError
from caloray.tuning.settings import load_tuning

LR = "training.next_layer.schedule.max_lr"
RATE = {LR: {"log_uniform": [1e-4, 1e-2]}}
CONSTANT = {"training.next_layer.schedule": {"kind": "constant"}}
DECAYS = {"training.next_layer.weight_decay": {"log_uniform": [1e-4, 1e-2]}}
PBT = {"kind": "pbt", "population": 4, "interval": 6}
FPD = {"kind": "metric", "name": "fpd"}
BINS = "scheme.flows.next_layer.spline.bins"

BAD = {
    "unknown key": ({"sede": 1}, "unknown key sede, did you mean 'seed'?"),
    "unknown searcher": (
        {"search": {"kind": "optunna"}},
        "search.kind: 'optunna' is none of 'random', 'grid', 'optuna', 'bohb', did you mean 'optuna'?",
    ),
    "unknown key of a searcher": (
        {"search": {"kind": "optuna", "startupp": 3}},
        "unknown key search.startupp, did you mean 'startup'?",
    ),
    "no run config": (
        {"config": "nothing.yaml"},
        "config: no file {here}/nothing.yaml and none at {here}/nothing.yaml",
    ),
    "bad change": (
        {"set": {"training.next_layer.epoch": 3}},
        "{here}/run.yaml: unknown key training.next_layer.epoch, did you mean 'epochs'?",
    ),
    "no such field": (
        {"space": {"training.next_layer.shedule.max_lr": {"uniform": [0, 1]}}},
        "space.training.next_layer.shedule.max_lr: training.next_layer has no field 'shedule', did you mean "
        "'schedule'?",
    ),
    "no such component": (
        {"space": {"training.nextlayer.epochs": {"int": [1, 2]}}},
        "space.training.nextlayer.epochs: training has no field 'nextlayer', did you mean 'next_layer'?",
    ),
    "field of another schedule": (
        {"space": {"training.next_layer.schedule.gamma": {"uniform": [0.1, 0.5]}}},
        "space.training.next_layer.schedule.gamma: training.next_layer.schedule (onecycle) has no field 'gamma'",
    ),
    "below a value": (
        {"space": {"training.next_layer.epochs.first": {"int": [1, 2]}}},
        "space.training.next_layer.epochs.first: training.next_layer.epochs is a value, not a section",
    ),
    "kind": (
        {"space": {"training.next_layer.schedule.kind": {"choice": ["constant", "onecycle"]}}},
        "space.training.next_layer.schedule.kind: a kind comes with fields of its own: search "
        "training.next_layer.schedule with choices that are whole sections",
    ),
    "not of a training": (
        {"space": {"block_size": {"int": [64, 256]}}},
        "space.block_size: it does not change a training; searched can be training.<component>.*, scheme.* and "
        "seed",
    ),
    "component not trained": (
        {"space": {"training.first_layer.batch": {"int": [64, 256]}}},
        "space.training.first_layer.batch: no trial trains first_layer; components: next_layer",
    ),
    "flow not trained": (
        {"space": {"scheme.flows.first_layer.blocks": {"int": [2, 4]}}},
        "space.scheme.flows.first_layer.blocks: no trial trains first_layer; components: next_layer",
    ),
    "no effect": (
        {"space": {"training.next_layer.device": {"choice": ["cpu", "auto"]}}},
        "space.training.next_layer.device: device does not change what is learned",
    ),
    "rate of the optimizer under OneCycle": (
        {"space": {"training.next_layer.learning_rate": {"log_uniform": [1e-4, 1e-2]}}},
        "space.training.next_layer.learning_rate: the schedule onecycle has a rate of its own; search "
        "training.next_layer.schedule.max_lr",
    ),
    "sampling only": (
        {"space": {"scheme.rescale": {"choice": ["renormalise", "published"]}}},
        "space.scheme.rescale: it decides whether empty layers are rows of their own, and likelihoods of other "
        "rows cannot be compared",
    ),
    "sampling only of one scheme": (
        {"space": {"scheme.threshold": {"uniform": [0.01, 0.02]}}},
        "space.scheme.threshold: it only changes how showers are drawn, which the objective nll does not see",
    ),
    "rows that change, as a term": (
        {
            "components": ["layer_energies", "first_layer", "next_layer"],
            "objective": {
                "kind": "weighted",
                "terms": [{"weight": 1, "of": {"kind": "nll"}}, {"weight": 1, "of": FPD}],
            },
            "space": {"scheme.rescale": {"choice": ["renormalise", "published"]}},
        },
        "space.scheme.rescale: it decides whether empty layers are rows of their own, and likelihoods of other "
        "rows cannot be compared",
    ),
    "spaces whose densities cannot be compared": (
        {"space": {"scheme.voxel_space": {"choice": ["log", "share"]}}},
        "space.scheme.voxel_space: shares of a layer sum to one, so that their density has no bound and cannot be "
        "compared with one in the space log",
    ),
    "a maximum that cuts showers": (
        {
            "components": ["layer_energies"],
            "run": {"scheme.energy_space": "absolute"},
            "space": {"scheme.max_layer_energy": {"uniform": [10.0, 100.0]}},
        },
        "space.scheme.max_layer_energy: showers above it have no density, and those below it the better one the "
        "lower it is",
    ),
    "noise above the threshold": (
        {"components": ["layer_energies"], "space": {"scheme.voxel_noise": {"uniform": [1e-3, 0.1]}}},
        "space.scheme.voxel_noise: noise up to 0.1 MeV on empty entries reaches above the threshold of 0.01515 "
        "MeV, where a likelihood takes them for hits",
    ),
    "filling above the threshold": (
        {"space": {"scheme.fill_mean": {"log_uniform": [1e-4, 1e-2]}}},
        "space.scheme.fill_mean: the filling of empty voxels, fill_mean * 10^(3 fill_std), reaches 0.0398 MeV and "
        "the threshold is 0.01515 MeV: a likelihood takes it for hits",
    ),
    "a field of voxels for layer energies": (
        {"components": ["layer_energies"], "space": {"scheme.fill_mean": {"log_uniform": [1e-4, 2e-3]}}},
        "space.scheme.fill_mean: no trial trains a component that it changes; components: layer_energies",
    ),
    "a field without effect in this space": (
        {"space": {"scheme.voxel_noise": {"uniform": [1e-3, 5e-3]}}},
        "space.scheme.voxel_noise: it has no effect on next_layer without scheme.voxel_space: share or "
        "scheme.energy_context: logit",
    ),
    "searched and fixed": (
        {"set": {LR: 1e-3}},
        f"space.{LR}: it is searched and fixed by set: as well",
    ),
    "searched twice": (
        {"space": {"training.next_layer.schedule": {"choice": [{"kind": "constant"}, {}]}} | RATE},
        f"space.{LR}: lies inside training.next_layer.schedule, which is searched too",
    ),
    "empty": (
        {"space": {LR: {"uniform": [1e-3, 1e-3]}}},
        f"space.{LR}: the range [0.001, 0.001] is empty, expected the lower end first",
    ),
    "reversed": (
        {"space": {LR: {"uniform": [1, 0.5]}}},
        f"space.{LR}: the range [1, 0.5] is reversed, expected the lower end first",
    ),
    "logarithm of zero": (
        {"space": {LR: {"log_uniform": [0, 1]}}},
        f"space.{LR}: log_uniform needs ends above 0, found 0",
    ),
    "not a number": (
        {"space": {LR: {"uniform": [float("nan"), 1]}}},
        f"space.{LR}: uniform: expected a finite number, found nan",
    ),
    "infinite": (
        {"space": {LR: {"uniform": [0, float("inf")]}}},
        f"space.{LR}: uniform: expected a finite number, found inf",
    ),
    "three ends": (
        {"space": {LR: {"uniform": [0, 1, 2]}}},
        f"space.{LR}: uniform takes two ends, e.g. {{uniform: [0.1, 0.5]}}, found 3",
    ),
    "integers as floats": (
        {"space": {BINS: {"int": [4.0, 8.0]}}},
        f"space.{BINS}: int takes integers, found 4; for real numbers there is uniform",
    ),
    "no step": (
        {"space": {BINS: {"int": [4, 8], "step": 0}}},
        f"space.{BINS}: step: expected an integer of 1 or more, found 0",
    ),
    "step beyond the end": (
        {"space": {BINS: {"int": [4, 9], "step": 2}}},
        f"space.{BINS}: step: 2 does not lead from the lower to the upper end, 5 above it",
    ),
    "twice the same choice": (
        {"space": {BINS: {"choice": [4, 8, 4]}}},
        f"space.{BINS}: choice: 4 stands twice",
    ),
    "one choice": (
        {"space": {BINS: {"choice": [4]}}},
        f"space.{BINS}: choice needs two or more values, found 1; a fixed one belongs to set:",
    ),
    "two ranges": (
        {"space": {BINS: {"int": [4, 8], "uniform": [0, 1]}}},
        f"space.{BINS}: expected exactly one of uniform, log_uniform, int, log_int, choice, found int, uniform",
    ),
    "an end that the field refuses": (
        {"space": {BINS: {"int": [1, 8]}}},
        f"space.{BINS}: the run config refuses 1: Input should be greater than or equal to 2",
    ),
    "a choice that the field refuses": (
        {"space": {"training.next_layer.optimizer": {"choice": ["adam", "sgd"]}}},
        "space.training.next_layer.optimizer: the run config refuses 'sgd': Input should be 'adam' or 'adamw'",
    ),
    "a real number for an integer": (
        {"space": {BINS: {"uniform": [4.5, 8.5]}}},
        f"space.{BINS}: the run config refuses 4.5: Input should be a valid integer, got a number with a "
        "fractional part",
    ),
    "a corner that the config refuses": (
        {
            "space": {
                BINS: {"int": [4, 32]},
                "scheme.flows.next_layer.spline.min_width": {"uniform": [0.01, 0.1]},
            }
        },
        f"space: the run config refuses {BINS} = 32, scheme.flows.next_layer.spline.min_width = 0.1: min_width "
        "and min_height must be below 1/bins = 0.03125",
    ),
    "grid without points": (
        {"search": {"kind": "grid"}},
        f"space.{LR}: a grid needs points, and log_uniform has none",
    ),
    "too large a grid": (
        {"search": {"kind": "grid"}, "space": {LR: {"uniform": [1e-4, 1e-2], "grid": 200_000}}},
        "space: the grid has 200000 points, at most 100000 are searched",
    ),
    "far too large a grid": (
        {
            "search": {"kind": "grid"},
            "space": {LR: {"uniform": [1e-4, 1e-2], "grid": 1_000_000_000}, BINS: {"int": [4, 8]}},
        },
        "space: the grid has 5000000000 points, at most 100000 are searched",
    ),
    "a section of a training": (
        {"space": {"training.next_layer": {"choice": [{"epochs": 18}, {"epochs": 9}]}}},
        "space.training.next_layer: search one of its fields",
    ),
    "rows of the early stopping": (
        {"space": {"training.next_layer.validation_rows": {"int": [1, 50]}}},
        "space.training.next_layer.validation_rows: validation_rows does not change what is learned but "
        "how a training is looked at",
    ),
    "too few rows for a likelihood": (
        {"objective": {"kind": "nll", "rows": 1}},
        "objective.rows: Input should be greater than or equal to 10",
    ),
    "twice the same term": (
        {
            "objective": {
                "kind": "weighted",
                "terms": [
                    {"weight": 1, "of": {"kind": "nll"}},
                    {"weight": 2, "of": {"kind": "nll", "rows": 50}},
                ],
            }
        },
        "objective.terms: nll_bits_per_dim stands twice among the terms",
    ),
    "generations that are never reached": (
        {"fidelity": PBT, "set": CONSTANT, "space": DECAYS},
        "budget.trials: 6, but 4 members in 3 generations are 12 trials, and the last generation counts",
    ),
    "asha with OneCycle and too few trials": (
        {"fidelity": {"kind": "asha", "min_epochs": 2}},
        "fidelity: asha continues trainings, but the schedule onecycle of next_layer fixes its rates by the "
        "total number of steps: more epochs are another schedule, not a longer one",
    ),
    "pbt with the rate of OneCycle": (
        {"fidelity": PBT},
        "fidelity: pbt continues trainings, but the schedule onecycle of next_layer fixes its rates by the "
        "total number of steps: more epochs are another schedule, not a longer one",
    ),
    "no budget": (
        {"budget": {}},
        "budget: trials, hours or gpu_hours: none is given, the search would never end",
    ),
    "hours of no GPU": (
        {"budget": {"gpu_hours": 1.0}},
        "budget.gpu_hours: trials use no GPU (trial.gpus: 0), so it would never be spent",
    ),
    "no seeds": ({"confirm": {"seeds": 0}}, "confirm.seeds: Input should be greater than or equal to 1"),
    "more confirmed than tried": (
        {"confirm": {"top": 7}},
        "confirm.top: 7 of the best, but budget.trials is 6",
    ),
    "no rung below the full": (
        {"fidelity": {"kind": "halving", "min_epochs": 18}},
        "fidelity.min_epochs: 18, but a full training has 18 epochs",
    ),
    "the top rung is never reached": (
        {"fidelity": {"kind": "halving", "min_epochs": 2}},
        "budget.trials: 6 configurations, but one in 9 reaches the full 18 epochs",
    ),
    "asha with OneCycle": (
        {"fidelity": {"kind": "asha", "min_epochs": 6}},
        "fidelity: asha continues trainings, but the schedule onecycle of next_layer fixes its rates by the "
        "total number of steps: more epochs are another schedule, not a longer one",
    ),
    "pbt with OneCycle": (
        {"fidelity": PBT, "space": {"training.next_layer.weight_decay": {"log_uniform": [1e-4, 1e-2]}}},
        "fidelity: pbt continues trainings, but the schedule onecycle of next_layer fixes its rates by the "
        "total number of steps: more epochs are another schedule, not a longer one",
    ),
    "asha with a searched exponential": (
        {
            "fidelity": {"kind": "asha", "min_epochs": 6},
            "run": CONSTANT,
            "space": {
                "training.next_layer.schedule": {"choice": [{"kind": "constant"}, {"kind": "exponential"}]}
            },
        },
        "fidelity: asha continues trainings, but the schedule exponential of next_layer fixes its rates by the "
        "total number of steps: more epochs are another schedule, not a longer one",
    ),
    "pbt with an architecture": (
        {"fidelity": PBT, "set": CONSTANT, "space": {BINS: {"int": [4, 8]}}},
        f"space.{BINS}: pbt changes settings in the middle of a training, this one is fixed by then",
    ),
    "pbt with Optuna": (
        {"fidelity": PBT, "set": CONSTANT, "search": {"kind": "optuna"}, "space": DECAYS},
        "search: pbt draws its first generation at random and changes it itself, found optuna",
    ),
    "a larger population than budget": (
        {"fidelity": PBT | {"population": 7}, "set": CONSTANT, "space": DECAYS},
        "fidelity.population: 7 members, but budget.trials is 6",
    ),
    "epochs under asha": (
        {
            "fidelity": {"kind": "asha", "min_epochs": 6},
            "set": CONSTANT,
            "space": {"training.next_layer.epochs": {"int": [9, 18]}},
        },
        "space.training.next_layer.epochs: asha itself decides how long a trial trains",
    ),
    "metric without the other components": (
        {"objective": FPD},
        "objective: fpd needs whole showers, trials train only next_layer",
    ),
    "metric without its bundle": (
        {"objective": FPD | {"bundle": "nothing"}},
        "objective.bundle: no bundle at nothing",
    ),
    "a field that the bundle's components share": (
        {
            "objective": FPD | {"bundle": "."},
            "run": {"scheme.voxel_space": "share"},
            "space": {"scheme.voxel_noise": {"uniform": [0.001, 0.01]}},
        },
        "space.scheme.voxel_noise: all components share it, and those of . were trained with another value",
    ),
    "no such metric": (
        {"objective": {"kind": "metric", "name": "fdp"}},
        "objective.name: no metric of the evaluation is called that, did you mean 'fpd'?",
    ),
    "twice the same objective": (
        {"objective": [{"kind": "nll"}, {"kind": "nll"}]},
        "objective: nll_bits_per_dim stands twice",
    ),
    "BOHB with two objectives": (
        {"search": {"kind": "bohb"}, "objective": [{"kind": "nll"}, {"kind": "ms_per_shower"}]},
        "search: bohb minimises one objective, found 2",
    ),
    "no such group": (
        {"components": ["nextlayer"]},
        "components: 'nextlayer' is no component of the scheme inductive, did you mean 'next_layer'?",
    ),
    "the same component twice": (
        {"components": ["next_layer", "next_layer"]},
        "components: 'next_layer' stands twice",
    ),
    "no validation split": (
        {"run": {"data.split": {"train": 0.9, "validation": 0.0, "test": 0.1}}},
        "{here}/run.yaml: data.split.validation is 0, but trials are compared on validation showers",
    ),
    "no test split": (
        {"run": {"data.split": {"train": 0.9, "validation": 0.1, "test": 0.0}}},
        "confirm.split: test, but data.split.test of the run config is 0",
    ),
    "nothing to reuse": (
        {"finish": {"bundle": True, "reuse": "nothing"}},
        "finish.reuse: no run directory at nothing",
    ),
    "a trial larger than Ray": (
        {"cluster": {"num_cpus": 2}, "trial": {"cpus": 2, "workers": 2}},
        "trial.cpus: a trial takes 4 CPUs, cluster.num_cpus is 2",
    ),
}


@pytest.mark.parametrize(("changes", "message"), BAD.values(), ids=BAD)
def test_a_bad_campaign_is_told_in_one_line(campaign, tmp_path, monkeypatch, changes, message):
    monkeypatch.chdir(tmp_path)
    path = campaign(**changes)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ConfigError) as caught:
        load_tuning(path)
    found = re.sub(r"( \(found [^()]*\))?(; and \d+ more)?$", "", caught.value.message)
    assert found.removeprefix(f"{path}: ") == message.replace("{here}", str(tmp_path))
    assert caught.value.hint
    assert "\n" not in caught.value.message + caught.value.hint
    assert (caught.value.code, caught.value.exit_code) == ("CR-100", 78)
    assert sorted(tmp_path.iterdir()) == before
