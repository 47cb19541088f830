"""Bundles: what is saved is what is sampled, everywhere and in any portion."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from caloray.atomic import sha256_file
from caloray.bundle import Bundle, save_bundle, verify_bundle
from caloray.errors import BundleError, ConfigError
from caloray.rng import StreamKey
from caloray.schemes.streams import BlockStreams

ENERGIES = np.geomspace(2e3, 4e4, 20)
FILES = [
    "bundle.json",
    "components/first_layer.safetensors",
    "components/layer_energies.safetensors",
    "components/next_layer.safetensors",
    "golden.safetensors",
]


def test_what_is_saved_is_what_is_loaded(toy, bundle_path):
    bundle = Bundle.load(bundle_path)
    assert sorted(toy.content(bundle_path)) == FILES
    assert (bundle.block_size, bundle.info, bundle.geometry) == (8, {"data": "toy"}, toy.GEOMETRY)
    statistics = toy.statistics()
    assert bundle.energy_range == (statistics.min_incident, statistics.max_incident)
    expected = toy.weights()
    for name, flow in bundle.flows.items():
        state = flow.state_dict()
        assert all(torch.equal(state[key], value) for key, value in expected[name].items())
        assert not flow.training
        assert not any(p.requires_grad for p in flow.parameters())


def test_sampled_bytes_are_those_before_saving(toy, tmp_path):
    bundle = toy.bundle(tmp_path / "bundle")
    scheme, flows = toy.scheme(), {}
    for name, state in toy.weights().items():
        flows[name] = scheme.component(name).build()
        flows[name].load_state_dict(state)
        flows[name].eval()
    before = scheme.sample(flows, ENERGIES[:8], BlockStreams(StreamKey(5, "", "", 2))).voxels
    assert before.tobytes() == bundle.sample_block(ENERGIES[:8], 5, 2).tobytes()
    assert before.tobytes() == Bundle.load(tmp_path / "bundle").sample_block(ENERGIES[:8], 5, 2).tobytes()


def test_two_saves_are_the_same_bytes(toy, bundle_path, tmp_path):
    again = toy.bundle(tmp_path / "elsewhere" / "bundle")
    assert toy.content(again.path) == toy.content(bundle_path)
    assert again.digest == Bundle.load(bundle_path).digest


def test_the_digest_follows_weights_and_settings_and_nothing_else(toy, bundle_path, tmp_path):
    digest = Bundle.load(bundle_path).digest

    def save(weights, **changes) -> str:
        arguments = {
            "config": toy.config(),
            "geometry": toy.GEOMETRY,
            "statistics": toy.statistics(),
            "seed": 1,
            "block_size": 8,
            "info": {"data": "toy"},
        }
        return save_bundle(tmp_path / "b", weights=weights, **{**arguments, **changes}).digest

    weights = toy.weights()
    assert save(weights, info={"other": 1}) == digest
    assert save(weights, block_size=16) != digest
    assert save(weights, config=toy.config(threshold=0.5)) != digest
    one = next(key for key in weights["next_layer"] if key.endswith("bias"))
    weights["next_layer"][one][0] += 1e-6
    assert save(weights) != digest


def test_any_number_of_showers_is_the_concatenation_of_blocks(bundle_path):
    bundle = Bundle.load(bundle_path)
    whole = bundle.sample(ENERGIES, seed=4)
    blocks = [bundle.sample_block(ENERGIES[i : i + 8], 4, i // 8) for i in (0, 8, 16)]
    assert whole.voxels.tobytes() == np.concatenate(blocks).tobytes()
    assert whole.ids.tolist() == list(range(20))
    assert np.array_equal(whole.incident_energies, ENERGIES)
    for count in (0, 1, 7, 8, 9, 19):
        part = bundle.sample(ENERGIES[:count], seed=4)
        assert part.voxels.shape == (count, 36)
        assert np.array_equal(part.voxels, whole.voxels[:count])


def test_a_short_block_is_the_beginning_of_a_whole_one(bundle_path):
    bundle = Bundle.load(bundle_path)
    whole = bundle.sample_block(ENERGIES[:8], 1, 0)
    for count in range(1, 8):
        assert bundle.sample_block(ENERGIES[:count], 1, 0).tobytes() == whole[:count].tobytes()
    for energies in (ENERGIES[:0], ENERGIES[:9]):
        with pytest.raises(ConfigError, match="a block takes 1 to 8 energies"):
            bundle.sample_block(energies, 1, 0)


def test_threads_do_not_change_a_byte_and_are_given_back(bundle_path):
    bundle = Bundle.load(bundle_path)
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(bundle.sample_block(ENERGIES[:8], 1, 0).tobytes())
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert found[0] == found[1]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_told(bundle_path):
    with pytest.raises(ConfigError, match="device cuda: torch sees no GPU"):
        Bundle.load(bundle_path, device="cuda")


def test_the_fingerprint_says_what_bits_depend_on(bundle_path):
    found = Bundle.load(bundle_path, backend="torch").numerics
    assert found["backend"] == "torch"
    assert found["device"] == "cpu"
    assert {"caloray", "torch", "numpy", "hardware", "cpu_capability"} < set(found)
    assert Bundle.load(bundle_path, backend="jacobi").numerics == {**found, "backend": "jacobi"}


@pytest.mark.parametrize("energy", [999.0, 1e6, 0.0, -1.0, float("nan"), float("inf")])
def test_energies_outside_the_trained_range_are_refused(bundle_path, energy):
    """G10."""
    with pytest.raises(ConfigError, match=r"outside the trained .*1\d\d\d.* to 4\d\d\d\d") as caught:
        Bundle.load(bundle_path).sample([5e3, energy])
    assert "inside the range" in caught.value.hint


@pytest.mark.parametrize("backend", ["torch", "jacobi"])
def test_golden_showers_are_drawn_by_the_backend_that_made_them(toy, bundle_copy, backend):
    bundle = Bundle.load(bundle_copy, backend=backend)
    golden = bundle.file.golden
    voxels = torch.from_numpy(bundle.sample_block(np.array(golden.energies), golden.seed, 0))
    replace_golden(toy, bundle_copy, voxels, numerics=bundle.numerics)
    report = verify_bundle(bundle_copy)
    assert report.identical
    assert report.same_numerics


@pytest.mark.parametrize("change", [{"backend": "no-such-backend 7"}, {"backend": ""}])
def test_golden_showers_of_an_unknown_backend_are_close(toy, bundle_copy, change):
    toy.edit(bundle_copy, lambda value: value["golden"]["numerics"].update(change))
    report = verify_bundle(bundle_copy)
    assert not report.same_numerics
    assert report.relative < 1e-3


def test_the_golden_showers_come_out_again(bundle_path):
    report = verify_bundle(bundle_path)
    assert report.identical
    assert report.same_numerics
    assert (report.largest, report.relative) == (0, 0)


def replace_golden(toy, folder: Path, voxels: torch.Tensor, **changes) -> None:
    save_file({"voxels": voxels}, folder / "golden.safetensors")
    file = folder / "golden.safetensors"
    facts = {"sha256": sha256_file(file), "bytes": file.stat().st_size, **changes}
    toy.edit(folder, lambda value: value["golden"].update(facts))


def test_other_golden_showers_are_an_error(toy, bundle_copy):
    voxels = load_file(bundle_copy / "golden.safetensors")["voxels"]
    voxels[0, 0] += 1.0
    replace_golden(toy, bundle_copy, voxels)
    with pytest.raises(BundleError, match="golden showers deviate by 1 MeV"):
        verify_bundle(bundle_copy)
    replace_golden(toy, bundle_copy, voxels[:, :-1].contiguous())
    with pytest.raises(BundleError, match="voxels"):
        verify_bundle(bundle_copy)


def test_another_machine_may_differ_a_little(toy, bundle_copy):
    voxels = load_file(bundle_copy / "golden.safetensors")["voxels"]
    replace_golden(toy, bundle_copy, voxels * (1 + 1e-5), numerics={"torch": "0.0"})
    report = verify_bundle(bundle_copy)
    assert not report.identical
    assert not report.same_numerics
    assert 0 < report.relative < 1e-4
    replace_golden(toy, bundle_copy, voxels * 1.01, numerics={"torch": "0.0"})
    with pytest.raises(BundleError, match="deviate"):
        verify_bundle(bundle_copy)


def test_a_bundle_without_golden_showers_does_not_verify(toy, bundle_copy):
    toy.edit(bundle_copy, lambda value: value.update(golden=None))
    Bundle.load(bundle_copy)
    with pytest.raises(BundleError, match="no golden sample"):
        verify_bundle(bundle_copy)


def test_state_dicts_of_nflows_with_their_masks_are_taken(toy, bundle_path):
    weights = toy.weights()
    assert any(key.endswith(".mask") for key in weights["next_layer"])
    kept = load_file(bundle_path / FILES[3])
    assert not any(key.endswith((".mask", ".degrees")) for key in kept)
    assert any(key.endswith("_permutation") for key in kept)


def test_saving_replaces_an_older_bundle_and_leaves_nothing_else(toy, tmp_path):
    old = toy.bundle(tmp_path / "bundle")
    (tmp_path / "bundle" / "stale").write_text("")
    new = toy.bundle(tmp_path / "bundle", seed=1)
    assert new.digest != old.digest
    assert sorted(toy.content(tmp_path / "bundle")) == FILES
    assert [p.name for p in tmp_path.iterdir()] == ["bundle"]


def test_a_failed_save_leaves_nothing(toy, tmp_path):
    weights = toy.weights()
    key = next(iter(weights["first_layer"]))
    del weights["first_layer"][key]
    with pytest.raises(BundleError):
        save_bundle(
            tmp_path / "bundle",
            config=toy.config(),
            geometry=toy.GEOMETRY,
            statistics=toy.statistics(),
            seed=1,
            weights=weights,
            block_size=8,
        )
    assert not list(tmp_path.iterdir())


def test_float64_weights_stay_float64(toy, tmp_path):
    weights = {
        name: {k: v.double() if v.is_floating_point() else v for k, v in state.items()}
        for name, state in toy.weights().items()
    }
    bundle = save_bundle(
        tmp_path / "bundle",
        config=toy.config(),
        geometry=toy.GEOMETRY,
        statistics=toy.statistics(),
        seed=1,
        weights=weights,
        block_size=8,
    )
    assert {p.dtype for flow in bundle.flows.values() for p in flow.parameters()} == {torch.float64}
    assert verify_bundle(tmp_path / "bundle").identical


def test_a_bundle_of_format_1_loads_forever():
    """G28: written by the first version; its golden showers come out on whatever runs this."""
    bundle = Bundle.load(Path(__file__).parent / "golden" / "bundle_v1")
    assert bundle.digest == "61a007c0151748058f1d6cbcf34ea169a14328ddaa8ee5807261688eceb6d1a8"
    assert verify_bundle(bundle.path).relative < 1e-3
