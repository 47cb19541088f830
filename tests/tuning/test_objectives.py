"""Objectives of toy trials: likelihood, time, metrics of generated showers, weighted sums."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

from caloray.config import RunConfig
from caloray.errors import CaloRayError, ConfigError, InterruptedRunError, NumericalError
from caloray.evaluation.results import Results
from caloray.io.source import open_source
from caloray.training.score import score_component
from caloray.tuning import objectives
from caloray.tuning.generated import FirstShowers, TrainedTrial, evaluate_trial, whole_model
from caloray.tuning.objective_settings import Objective
from caloray.tuning.objectives import measure
from caloray.tuning.readiness import require_ready
from caloray.tuning.sampling_time import calls_per_shower, time_component
from caloray.tuning.settings import TuneConfig

SHOWERS = 150


def objective(*values: dict[str, Any]) -> tuple[Objective, ...]:
    return tuple(TypeAdapter(Objective).validate_python(value) for value in values)


@pytest.fixture(scope="module")
def shards(toy, tmp_path_factory) -> Path:
    """A directory with a training, a validation and a test split."""
    spec = importlib.util.spec_from_file_location(
        "calibration_conftest", Path(__file__).parents[1] / "calibration" / "conftest.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    splits = {name: toy.showers(SHOWERS, seed=i) for i, name in enumerate(("train", "validation", "test"))}
    return module.write_shards(tmp_path_factory.mktemp("tuning") / "shards", splits, toy.GEOMETRY)


@pytest.fixture(scope="module")
def trial(toy, shards, tmp_path_factory):
    """A function that makes a trained trial of the given components."""

    def make(*names: str, **other: Any) -> TrainedTrial:
        chosen = names or ("layer_energies", "first_layer", "next_layer")
        run = RunConfig.model_validate(
            {
                "name": "toy",
                "output": "runs/toy",
                "data": {"files": ["a.hdf5"]},
                "scheme": other.pop("scheme", toy.config()).model_dump(),
                "block_size": 32,
            }
        )
        weights = {name: state for name, state in toy.weights().items() if name in chosen}
        store = toy.store_of(toy.showers(SHOWERS, 1))
        folder = tmp_path_factory.mktemp("trial")
        made = {"stores": {"validation": store}, "shards": shards, "folder": folder} | other
        return TrainedTrial(run, toy.GEOMETRY, toy.statistics(), weights, **made)

    return make


def test_the_likelihood_of_one_component_is_its_score(trial):
    trained = trial("first_layer")
    found = measure(objective({"kind": "nll", "rows": 100}), trained)
    part, flow = trained.scheme.component("first_layer"), objectives._Judge(trained, "", None).flows
    score = score_component(
        part, flow["first_layer"], trained.stores["validation"], rows=100, seed=objectives.SCORE_SEED
    )
    assert found.values == {"nll_bits_per_dim": pytest.approx(score.nll_bits_per_dim)}
    facts = found.facts["likelihood"]["components"]["first_layer"]
    assert facts["error"] == score.error
    assert facts["rows"] == 100


def test_the_likelihood_of_all_components_is_that_of_a_shower(trial):
    """All bits over all dimensions: 3 layer energies, 12 voxels once and twice."""
    trained = trial()
    found = measure(objective({"kind": "nll"}), trained)
    parts = {name: one["nll_bits_per_dim"] for name, one in found.facts["likelihood"]["components"].items()}
    dims = {"layer_energies": 3, "first_layer": 12, "next_layer": 2 * 12}
    mean = sum(dims[name] * parts[name] for name in dims) / sum(dims.values())
    assert found.values["nll_bits_per_dim"] == pytest.approx(mean)
    assert measure(objective({"kind": "nll"}), trained).values == found.values


def test_calls_per_shower(toy, trial):
    trained = trial()
    calls = {
        name: calls_per_shower(trained.scheme.component(name), trained.stores["validation"])
        for name in trained.weights
    }
    assert calls == {"layer_energies": 1, "first_layer": 1, "next_layer": 2}


def test_time_of_a_component_alone_counts_its_calls(trial):
    trained = trial("next_layer")
    found = measure(objective({"kind": "ms_per_shower", "batch": 16}), trained)
    facts = found.facts["time"]
    assert facts["of"] == "components"
    one = facts["components"]["next_layer"]
    assert one["calls"] == 2
    assert found.values["ms_per_shower"] == pytest.approx(2 * one["ms"])
    assert one["batch"] == 16


def test_timing_leaves_the_flow_as_it_was(trial):
    trained = trial("first_layer")
    flow = objectives._Judge(trained, "", None).flows["first_layer"]
    before = {name: value.clone() for name, value in flow.state_dict().items()}
    part, store = trained.scheme.component("first_layer"), trained.stores["validation"]
    time_component(part, flow, store, 8)
    assert all(torch.equal(value, before[name]) for name, value in flow.state_dict().items())
    score_component(part, flow, store, rows=50, seed=0)


def test_time_of_a_whole_model_is_that_of_its_bundle(trial):
    found = measure(objective({"kind": "ms_per_shower", "batch": 32}), trial())
    assert found.facts["time"]["of"] == "bundle"
    assert found.values["ms_per_shower"] > 0


def test_metrics_of_generated_showers(trial):
    wanted = [{"kind": "metric", "name": name, "showers": 100} for name in ("separation", "auc_trees", "fpd")]
    term = [{"weight": 2.0, "of": wanted[0]}, {"weight": 0.5, "of": {"kind": "nll"}}]
    found = measure(objective(*wanted, {"kind": "weighted", "terms": term}), trial())
    assert set(found.values) == {"separation_mean", "auc/high/trees", "fpd", "weighted"}
    assert 0 < found.values["separation_mean"] <= 1
    assert 0.5 < found.values["auc/high/trees"] <= 1
    terms = found.facts["terms"]
    assert found.values["weighted"] == pytest.approx(
        2.0 * found.values["separation_mean"] + 0.5 * terms[1]["value"]
    )
    assert found.facts["showers"]["reference"] == found.facts["showers"]["generated"] == 100


def test_a_metric_of_which_more_is_better_changes_its_sign():
    rows = [
        {"name": "prdc/recall", "value": 0.7, "better": "higher"},
        {"name": "fpd", "value": 0.2, "better": "lower"},
    ]
    separations = [{"observable": "e_ratio", "separation": 0.1}, {"observable": "hits", "separation": 0.3}]
    separations.append({"observable": "start", "separation": None})
    numbers = objectives._numbers(Results({"metrics": rows, "separations": separations}))
    assert numbers == {
        "prdc/recall": -0.7,
        "fpd": 0.2,
        "separation/e_ratio": 0.1,
        "separation/hits": 0.3,
        "separation_mean": pytest.approx(0.2),
    }


def test_an_auc_below_a_half_is_no_merit(trial, monkeypatch):
    record = {"metrics": [{"name": "auc/high/trees", "value": 0.44, "better": "lower"}], "separations": []}
    record |= {"reference": {"showers": 100}, "generated": {"showers": 100}}
    monkeypatch.setattr(objectives, "evaluate_trial", lambda *_, **__: Results(record))
    found = measure(objective({"kind": "metric", "name": "auc_trees"}), trial())
    assert found.values == {"auc/high/trees": 0.5}
    assert found.facts["showers"]["numbers"]["auc/high/trees"] == 0.44


def test_the_same_model_gives_the_same_showers(trial):
    trained = trial()
    wanted = {"split": "validation", "showers": 60, "seed": 4}
    with whole_model(trained) as bundle:
        first = evaluate_trial(trained, bundle, objectives.METRICS, **wanted)
        again = evaluate_trial(trained, bundle, objectives.METRICS, **wanted)
    assert first.data["generated"]["digest"] == again.data["generated"]["digest"]
    assert not list(trained.folder.iterdir())


def test_components_are_lent_by_a_bundle(toy, trial, tmp_path):
    lender = toy.bundle(tmp_path / "lender")
    trained = trial("next_layer", bundle=lender.path, folder=tmp_path)
    with whole_model(trained) as bundle:
        own = bundle.flows["next_layer"].state_dict()
        lent = bundle.flows["first_layer"].state_dict()
        for name, value in lender.flows["first_layer"].state_dict().items():
            assert torch.equal(lent[name], value)
        key = next(name for name in own if name.endswith("weight"))
        assert torch.equal(own[key], trained.weights["next_layer"][key])


def test_another_architecture_fits_to_lent_components(toy, trial, tmp_path):
    """The trial's splines differ from the lender's; the lent components keep theirs."""
    lender = toy.bundle(tmp_path / "lender")
    flows = toy.config().flows
    wide = flows.next_layer.model_copy(
        update={"spline": flows.next_layer.spline.model_copy(update={"bins": 5})}
    )
    scheme = toy.config().model_copy(update={"flows": flows.model_copy(update={"next_layer": wide})})
    trained = trial("next_layer", scheme=scheme, bundle=lender.path)
    state = trained.scheme.component("next_layer").build().state_dict()
    other = TrainedTrial(
        trained.run, toy.GEOMETRY, toy.statistics(), {"next_layer": state}, trained.stores, bundle=lender.path
    )
    with whole_model(other) as bundle:
        assert bundle.scheme.config.flows.next_layer.spline.bins == 5
        assert bundle.scheme.config.flows.first_layer == lender.scheme.config.flows.first_layer
        assert np.isfinite(bundle.sample([2e3, 1e4]).voxels).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "trains next_layer alone; a whole shower also needs layer_energies, first_layer"),
        ({"alpha": 1e-4}, r"scheme\.alpha is 1e-06, the trial has 0\.0001"),
    ],
)
def test_components_that_do_not_make_a_whole(toy, trial, tmp_path, changes, message):
    bundle = toy.bundle(tmp_path / "lender").path if changes else None
    trained = trial("next_layer", scheme=toy.config(**changes), bundle=bundle)
    with pytest.raises(ConfigError, match=message), whole_model(trained):
        pass


def test_a_metric_needs_showers_to_compare_with(trial):
    wanted = objective({"kind": "metric", "name": "fpd"})
    with pytest.raises(ConfigError, match="need ingested showers"):
        measure(wanted, trial(shards=None))


def test_a_metric_that_these_showers_do_not_have(trial):
    wanted = objective({"kind": "metric", "name": "separation/centre_x", "showers": 100})
    with pytest.raises(ConfigError, match="separation/centre_x: the evaluation of these showers does not"):
        measure(wanted, trial())


def test_what_is_not_finite_is_told(trial, monkeypatch):
    monkeypatch.setattr(objectives._Judge, "_likelihood", lambda *_: float("nan"))
    with pytest.raises(NumericalError, match="objective nll_bits_per_dim is nan"):
        measure(objective({"kind": "nll"}), trial("first_layer"))


def test_the_first_showers_of_a_split(shards):
    whole = open_source(shards, "validation")
    some = FirstShowers(whole, 70)
    parts = list(some.chunks(32))
    assert [len(part) for part in parts] == [32, 32, 6]
    ids = np.concatenate([part.ids for part in parts])
    assert np.array_equal(ids, next(iter(whole.chunks(70))).ids)
    assert some.n_showers == 70
    assert FirstShowers(whole, 10_000).n_showers == SHOWERS
    assert some.digest != FirstShowers(whole, 71).digest


def test_a_stop_between_two_stages_of_measuring(trial):
    stages: list[int] = []

    def stop() -> None:
        stages.append(len(stages))
        if len(stages) == 2:
            raise InterruptedRunError("the time is over")

    with pytest.raises(InterruptedRunError):
        measure(objective({"kind": "nll", "rows": 50}, {"kind": "ms_per_shower"}), trial(check=stop))
    assert stages == [0, 1]


def ready(trial, shards, toy, wanted: dict[str, Any], **changes: Any) -> None:
    """Ask for readiness with one objective, a component and a range."""
    trained = trial()
    settings = TuneConfig.model_validate(
        {
            "name": "toy",
            "config": "none.yaml",
            "output": "out",
            "components": ["first_layer"],
            "space": {"scheme.flows.first_layer.blocks": {"int": [1, 3]}},
            "objective": wanted,
            **changes,
        }
    )
    require_ready(settings, trained.run, toy.GEOMETRY, toy.statistics(), shards)


def test_what_no_trial_could_get_over_is_found_before_the_first(trial, shards, toy, tmp_path):
    ready(trial, shards, toy, {"kind": "nll"})
    every = {"components": ["layer_energies", "first_layer", "next_layer"]}
    ready(trial, shards, toy, {"kind": "metric", "name": "separation/e_ratio"}, **every)
    with pytest.raises(ConfigError, match="separation/nonsense: the evaluation of these showers does not"):
        ready(trial, shards, toy, {"kind": "metric", "name": "separation/nonsense"}, **every)
    with pytest.raises(ConfigError, match="a whole shower also needs layer_energies, next_layer"):
        ready(trial, shards, toy, {"kind": "metric", "name": "fpd"})
    with pytest.raises(CaloRayError, match="nowhere"):
        ready(trial, shards, toy, {"kind": "metric", "name": "fpd", "bundle": str(tmp_path / "nowhere")})
    space = {"training.first_layer.warm_start": {"choice": [None, "layer_energies"]}}
    with pytest.raises(
        ConfigError, match=r"space\.training\.first_layer\.warm_start at layer_energies: first"
    ):
        ready(trial, shards, toy, {"kind": "nll"}, space=space)


def test_the_bundle_of_another_scheme_is_found_before_the_first_trial(trial, shards, toy, tmp_path):
    with whole_model(trial()) as bundle:
        lent = {"kind": "metric", "name": "fpd", "bundle": str(bundle.path)}
        ready(trial, shards, toy, lent)
        space = {"scheme.threshold": {"uniform": [0.5, 3.0]}}
        with pytest.raises(ConfigError, match=r"space\.scheme\.threshold at .*components of both do not fit"):
            ready(trial, shards, toy, lent, space=space)


def test_the_score_is_taken_where_the_component_was_trained(trial, monkeypatch):
    judge = objectives._Judge(trial("first_layer"), "validation", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert judge._device("first_layer").type == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert judge._device("first_layer").type == "cpu"
