"""Fields of a scheme: accepted where the batches of a trained component depend on them, refused elsewhere."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from caloray.config import RunConfig
from caloray.preprocess.statistics import TrainingStatistics
from caloray.schemes.build import build_scheme
from caloray.tuning.fields import influences
from caloray.tuning.space import Parameter

INDUCTIVE: dict[str, tuple[Any, Any]] = {
    "voxel_noise": (1e-3, 5e-3),
    "alpha": (1e-6, 1e-3),
    "energy_space": ("unit", "absolute"),
    "energy_context": ("log", "logit"),
    "max_layer_energy": (5e3, 9e3),
    "voxel_space": ("log", "share"),
    "fill_mean": (1e-4, 1e-3),
    "fill_std": (0.1, 0.2),
    "augment": ("none", "rotate"),
    "threshold": (0.01, 0.02),
}
LAYERWISE: dict[str, tuple[Any, Any]] = {
    "previous": (1, 2),
    "threshold": (0.02, 3.0),
    "voxel_noise": (1e-3, 5e-3),
    "energy_noise": (1e-3, 5e-3),
    "fill_mean": (1e-4, 1e-3),
    "fill_std": (0.1, 0.2),
    "alpha": (1e-3, 1e-2),
    "energy_alpha": (1e-6, 1e-3),
    "energy_space": ("unit", "absolute"),
    "max_layer_energy": (5e3, 9e3),
    "augment": ("none", "rotate"),
}
SETTINGS: dict[str, list[dict[str, Any]]] = {
    "inductive": [{}, {"energy_space": "absolute"}, {"energy_context": "logit"}, {"voxel_space": "share"}],
    "layerwise": [{}, {"energy_space": "absolute"}, {"voxel_noise": 1e-3}],
}
CONV = {"blocks": 2, "hidden": 3, "squeeze": (1, 2), "kernels": ((1, 2),), "context_channels": 2}
CASES = [("inductive", name) for name in INDUCTIVE] + [("layerwise", name) for name in LAYERWISE]


def batches(toy, store, scheme: dict[str, Any], name: str) -> list[torch.Tensor]:
    config = RunConfig.model_validate(
        {
            "name": "fields",
            "output": "runs/fields",
            "data": {"files": ["none.hdf5"]},
            "scheme": scheme,
            "training": {},
        }
    )
    maxima = tuple(float(value) for value in store.layer_maxima)
    statistics = TrainingStatistics.of(store.layer_energies, store.incident_energies, voxel_maxima=maxima)
    part = build_scheme(config.scheme, toy.GEOMETRY, statistics, 1).component(name)
    return list(part.measured_batch(store, part.rows(store)[:64], torch.Generator().manual_seed(1)))


@pytest.mark.parametrize(("kind", "field"), CASES)
def test_a_field_is_accepted_where_the_batches_depend_on_it(toy, kind, field):
    store = toy.store_of(toy.showers())
    ends = (INDUCTIVE if kind == "inductive" else LAYERWISE)[field]
    components = {
        "inductive": ("layer_energies", "first_layer", "next_layer"),
        "layerwise": ("layer_energies", "layer_02"),
    }[kind]
    for fixed in SETTINGS[kind]:
        scheme = {"kind": kind} | {key: value for key, value in fixed.items() if key != field}
        scheme |= {"flows": {"layer": CONV}} if kind == "layerwise" else {}
        run = RunConfig.model_validate(
            {
                "name": "fields",
                "output": "runs/fields",
                "data": {"files": ["none.hdf5"]},
                "scheme": scheme,
                "training": {},
            }
        )
        for name in components:
            one, other = (batches(toy, store, scheme | {field: end}, name) for end in ends)
            differ = any(a.shape != b.shape or not torch.equal(a, b) for a, b in zip(one, other, strict=True))
            reason = influences(run, [name], f"scheme.{field}")
            sampling = field == "threshold"
            assert (not reason) == (differ or sampling), (fixed, name, reason)


def test_a_field_may_be_searched_with_the_one_that_it_needs():
    run = RunConfig.model_validate(
        {"name": "f", "output": "runs/f", "data": {"files": ["none.hdf5"]}, "scheme": {"kind": "inductive"}}
        | {"training": {}}
    )
    field, names = "scheme.max_layer_energy", ["layer_energies"]
    assert "without scheme.energy_space: absolute" in influences(run, names, field)
    space = {"scheme.energy_space": Parameter.model_validate({"choice": ["unit", "absolute"]})}
    assert influences(run, names, field, space) == ""
