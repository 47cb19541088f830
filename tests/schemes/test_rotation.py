"""The augmentation by the symmetries of an axially symmetric readout."""

from __future__ import annotations

import numpy as np
import torch

N_ALPHA, N_R = 4, 3


def elements() -> list[np.ndarray]:
    """The flat index maps of all 8 turns and mirror images, built cell by cell."""
    out = []
    for sign in (1, -1):
        for shift in range(N_ALPHA):
            cells = [((shift + sign * a) % N_ALPHA) * N_R + r for a in range(N_ALPHA) for r in range(N_R)]
            out.append(np.array(cells))
    return out


def test_each_row_is_turned_by_one_element_in_both_layers(toy):
    part = toy.scheme(augment="rotate").component("next_layer")
    here = torch.arange(12.0).repeat(400, 1) + 1
    before = here + 100
    turned, turned_before = part.turned(torch.Generator().manual_seed(1), 400, here, before)
    seen = []
    for row, row_before in zip(turned.numpy(), turned_before.numpy(), strict=True):
        matches = [k for k, index in enumerate(elements()) if np.array_equal(row, here[0].numpy()[index])]
        assert len(matches) == 1
        assert np.array_equal(row_before, before[0].numpy()[elements()[matches[0]]])
        seen.append(matches[0])
    # All turns and all mirror images, each in an eighth of the rows.
    counts = np.bincount(seen, minlength=8)
    assert counts.min() > 25
    assert counts.max() < 85


def test_sums_and_radial_sums_are_conserved(toy):
    part = toy.scheme(augment="rotate").component("first_layer")
    voxels = torch.from_numpy(toy.showers(100).voxels[:, :12]).double()
    (turned,) = part.turned(torch.Generator().manual_seed(2), 100, voxels)
    assert not torch.equal(turned, voxels)
    radial, radial_turned = (v.view(100, N_ALPHA, N_R).sum(1) for v in (voxels, turned))
    np.testing.assert_allclose(radial_turned, radial, rtol=1e-12)
    assert torch.equal(turned.sort(dim=1).values, voxels.sort(dim=1).values)


def test_none_leaves_rows_alone(toy):
    part = toy.scheme(augment="none").component("first_layer")
    voxels = torch.rand(5, 12)
    generator = torch.Generator().manual_seed(3)
    state = generator.get_state()
    (same,) = part.turned(generator, 5, voxels)
    assert torch.equal(same, voxels)
    assert torch.equal(generator.get_state(), state)


def test_batches_are_turned_with_their_condition(toy):
    """With next to no noise, target and condition of a row are the true ones under one element."""
    quiet = {"voxel_space": "share", "voxel_noise": 1e-12}
    plain = toy.scheme(**quiet).component("next_layer")
    rotated = toy.scheme(**quiet, augment="rotate").component("next_layer")
    store = toy.store_of(toy.showers(60))
    rows = plain.rows(store)
    target, context = (x.numpy() for x in plain.batch(store, rows, torch.Generator().manual_seed(1)))
    turned, turned_context = (x.numpy() for x in rotated.batch(store, rows, torch.Generator().manual_seed(1)))
    moved = 0
    for i in range(len(rows)):
        fits = [
            index
            for index in elements()
            if np.allclose(turned[i], target[i][index], atol=1e-3)
            and np.allclose(turned_context[i, 3:15], context[i, 3:15][index], atol=1e-3)
        ]
        assert fits
        moved += not np.allclose(turned[i], target[i], atol=1e-3)
    assert moved > len(rows) // 2
    assert np.array_equal(turned_context[:, :3], context[:, :3])
    assert np.array_equal(turned_context[:, 15:], context[:, 15:])
