"""Bundles are untrusted files: every byte is accounted for, and nothing in them is executed."""

from __future__ import annotations

import json
import os
import shutil
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from caloray.bundle import Bundle, verify_bundle
from caloray.bundle_file import MAX_JSON
from caloray.errors import BundleError

FILES = [
    "bundle.json",
    "components/first_layer.safetensors",
    "components/layer_energies.safetensors",
    "components/next_layer.safetensors",
    "golden.safetensors",
]


@pytest.mark.parametrize("name", FILES)
def test_any_flipped_byte_is_told_with_its_file(bundle_copy, name):
    """G15: every k-th byte of every file."""
    file = bundle_copy / name
    good = file.read_bytes()
    for at in [0, 8, *range(1, len(good), max(1, len(good) // 25)), len(good) - 2]:
        data = bytearray(good)
        data[at] ^= 1
        file.write_bytes(bytes(data))
        with pytest.raises(BundleError) as caught:
            verify_bundle(bundle_copy)
        assert str(file) in caught.value.message
        assert caught.value.exit_code == 66


@pytest.mark.parametrize("name", ["n" * 300, "m", "m/inside/bundle"])
def test_names_where_no_bundle_can_be(tmp_path, name):
    with pytest.raises(BundleError) as caught:
        Bundle.load(tmp_path / name)
    assert str(tmp_path / name) in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.exit_code == 66


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["missing", "truncated", "folder"])
def test_a_missing_or_short_file_is_told(bundle_copy, name, damage):
    file = bundle_copy / name
    data = file.read_bytes()
    file.unlink()
    if damage == "truncated":
        file.write_bytes(data[:-1] if name.endswith("safetensors") else data[: len(data) // 2])
    elif damage == "folder":
        file.mkdir()
    with pytest.raises(BundleError, match=Path(name).name):
        verify_bundle(bundle_copy)


def test_a_newer_format_says_update(toy, bundle_copy):
    toy.edit(bundle_copy, lambda value: value.update(format=2))
    with pytest.raises(BundleError, match="format 2, this caloray reads 1") as caught:
        Bundle.load(bundle_copy)
    assert caught.value.hint == "update caloray"


@pytest.mark.parametrize(
    "path", ["../out.safetensors", "/tmp/out.safetensors", "a/../../out.safetensors", "x\0y.safetensors"]
)
def test_names_that_lead_out_are_refused(toy, bundle_copy, path):
    """G29."""
    shutil.copy(bundle_copy / FILES[1], bundle_copy.parent / "out.safetensors")
    toy.edit(bundle_copy, lambda value: value["components"]["first_layer"].update(path=path))
    with pytest.raises(BundleError, match="leads out of the bundle"):
        Bundle.load(bundle_copy)


def test_links_that_lead_out_are_refused(bundle_copy):
    file = bundle_copy / FILES[1]
    shutil.move(file, bundle_copy.parent / "out.safetensors")
    file.symlink_to(bundle_copy.parent / "out.safetensors")
    with pytest.raises(BundleError, match="leads out of the bundle"):
        Bundle.load(bundle_copy)


class Evil:
    def __reduce__(self):
        return os.mkdir, ("evil-was-here",)


@pytest.mark.parametrize("place", ["model.pt", "model.bin.dat", "bundle/bundle.json", "component"])
def test_a_pickle_is_refused_and_not_executed(toy, bundle_copy, tmp_path, monkeypatch, place):
    """G27: by its name, by its first bytes, and in place of each kind of file."""
    monkeypatch.chdir(tmp_path)
    target = tmp_path / place
    if place == "component":
        target = bundle_copy / FILES[1]
    target.parent.mkdir(exist_ok=True)
    torch.save({"a": Evil()}, target)
    if place == "component":
        toy.reseal(bundle_copy, "first_layer")
    offered = bundle_copy if place == "component" else target.parent if place.endswith("json") else target
    with pytest.raises(BundleError):
        Bundle.load(offered)
    assert not (tmp_path / "evil-was-here").exists()


def test_a_pickle_named_as_component_is_refused(toy, bundle_copy):
    shutil.move(bundle_copy / FILES[1], bundle_copy / "components" / "first_layer.pt")
    toy.edit(
        bundle_copy, lambda value: value["components"]["first_layer"].update(path="components/first_layer.pt")
    )
    with pytest.raises(BundleError, match=r"only \.safetensors"):
        Bundle.load(bundle_copy)


def test_what_is_no_bundle(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").write_text("hello")
    for path in (tmp_path / "empty", tmp_path / "absent", tmp_path / "text.txt"):
        with pytest.raises(BundleError, match=r"no bundle\.json"):
            Bundle.load(path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        '{"format": 1}',
        '{"format": 1, "seed": NaN}',
        "[" * 200_000,
        "\ud800".encode("utf-8", "surrogatepass"),
    ],
    ids=["empty", "null", "list", "bare", "nan", "deep", "no text"],
)
def test_a_malformed_description(bundle_copy, text):
    (bundle_copy / "bundle.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(BundleError, match=r"bundle\.json"):
        Bundle.load(bundle_copy)


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value["statistics"].pop("max_ratio"),
        lambda value: value["statistics"].update(max_ratio="much"),
        lambda value: value["geometry"]["layers"][0].update(first=[1.0, 0.5]),
        lambda value: value["geometry"]["layers"][0]["second"].__setitem__(-1, 5.0),
        lambda value: value["components"].pop("next_layer"),
        lambda value: value["scheme"].update(kind="other"),
        lambda value: value["scheme"]["flows"]["next_layer"].update(hidden=17),
        lambda value: value.update(block_size=0),
        lambda value: value.update(extra=1),
    ],
)
def test_an_edited_description_is_refused(toy, bundle_copy, change):
    toy.edit(bundle_copy, change)
    with pytest.raises(BundleError):
        Bundle.load(bundle_copy)


def test_edits_without_the_seal_are_noticed(toy, bundle_copy):
    toy.edit(bundle_copy, lambda value: value["statistics"].update(max_ratio=3.0), seal=False)
    with pytest.raises(BundleError, match="differs from the sha256 that it holds"):
        Bundle.load(bundle_copy)


def test_an_oversized_description_is_not_read(bundle_copy):
    with (bundle_copy / "bundle.json").open("ab") as file:
        file.truncate(MAX_JSON + 1)
    with pytest.raises(BundleError, match="larger than"):
        Bundle.load(bundle_copy)


def test_tensors_that_do_not_fit(toy, bundle_copy):
    file = bundle_copy / FILES[1]
    good = load_file(file)
    key = next(key for key in good if key.endswith("weight"))
    for weights in (
        {**good, key: good[key][:, :-1].contiguous()},
        {name: value for name, value in good.items() if name != key},
        {**good, "extra": torch.zeros(1)},
    ):
        save_file(weights, file)
        toy.reseal(bundle_copy, "first_layer")
        with pytest.raises(BundleError, match="does not fit component first_layer"):
            Bundle.load(bundle_copy)


@pytest.mark.parametrize(
    "header",
    [
        {"a": {"dtype": "F32", "shape": [10], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}},
        {"a": {"dtype": "X", "shape": [1], "data_offsets": [0, 4]}},
        [],
        {f"t{i}": {} for i in range(100_001)},
    ],
    ids=["short", "huge", "dtype", "list", "many"],
)
def test_crafted_weight_files(toy, bundle_copy, header):
    text = json.dumps(header).encode()
    (bundle_copy / FILES[1]).write_bytes(struct.pack("<Q", len(text)) + text + b"\0" * 4)
    toy.reseal(bundle_copy, "first_layer")
    with pytest.raises(BundleError, match="first_layer"):
        Bundle.load(bundle_copy)


def test_a_header_longer_than_the_file(toy, bundle_copy):
    (bundle_copy / FILES[1]).write_bytes(struct.pack("<Q", 1 << 62) + b"{}")
    toy.reseal(bundle_copy, "first_layer")
    with pytest.raises(BundleError, match="not a safetensors file"):
        Bundle.load(bundle_copy)
