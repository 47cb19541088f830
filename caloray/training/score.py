"""How well a trained component describes held-out showers, in a unit that no preprocessing changes."""

from __future__ import annotations

__all__ = ["Score", "score_component"]

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from nflows.flows.base import Flow
from torch import Tensor

from caloray.errors import NumericalError
from caloray.io.store import LayerStore
from caloray.schemes.component import Component
from caloray.training.rows import RowPlan

PURPOSE = "score"
OUTSIDE_SHARE, OUTSIDE_ROWS = 0.01, 5
"""Rows beyond the fitted range that a score puts up with: held-out showers exceed the others now and then."""


@dataclass(frozen=True)
class Score:
    """Negative log-likelihood of held-out rows, given their contexts; smaller is better.

    Args:
        nll_bits_per_dim: Mean over rows [bits per dimension] of the energies' density: per MeV where there
            is energy, point masses where there is none (:meth:`Component.measured_batch`). It is the same
            number for the same model of the showers whatever the noise, margins and spaces, up to what
            variational dequantisation costs.
        error: Its standard error, from the scatter between showers [bits per dimension]; NaN for one shower.
        rows: How many rows it is the mean of.
        features: Dimensions of a row.
        nats_per_row: The mean in flow space [nats per row], as the training's loss is; not comparable.
        outside: Rows beyond the range that the maps were fitted to. A model gives them no density at all; a
            few of them count as the worst of all other rows, so that no flow gains by where they are clamped.
    """

    nll_bits_per_dim: float
    error: float
    rows: int
    features: int
    nats_per_row: float
    outside: int = 0


def score_component(
    component: Component,
    flow: Flow,
    store: LayerStore,
    *,
    rows: int,
    seed: int,
    batch: int = 512,
    device: str | torch.device = "cpu",
) -> Score:
    """Score a trained flow on a fixed subsample with fixed noise, one draw for each row.

    Subsample and noise are a function of the seed, the component's name, the number of rows in the store and
    the batch; another flow of the same component is scored on the same. The flow comes back in the mode and
    on the device that it had.

    Args:
        component: Maps of the flow.
        flow: Its weights.
        store: Held-out showers.
        rows: Rows at most.
        seed: Any; the same for scores that are to be compared.
        batch: Rows at a time.
        device: Where to evaluate.

    Raises:
        NumericalError: The sum over the rows is not finite, or more than a few rows lie beyond the range of
            the maps, where the density is zero.
        DataError: There are no rows.
    """
    dtype = next(flow.parameters()).dtype
    plan = RowPlan(component, store, batch, seed, dtype=dtype)
    showers, plain, volume = [], [], []
    with _evaluating(flow, torch.device(device)), torch.no_grad():
        for piece, key in plan.fixed_batches(rows, PURPOSE):
            target, context, log_volume = plan.measured_batch(piece, key)
            log_prob: Tensor = flow.log_prob(target.to(device), context.to(device, dtype))
            showers.append(piece[:, 0])
            plain.append(log_prob.double().cpu().numpy())
            volume.append(log_volume.numpy())
    log_prob_, log_volume_ = np.concatenate(plain), np.concatenate(volume)
    outside = np.isneginf(log_volume_)
    _require_inside(component, outside)
    nats = -(log_prob_ + np.where(outside, 0.0, log_volume_))
    _require_finite(component, nats, store.event_ids[np.concatenate(showers)])
    nats[outside] = nats[~outside].max()
    unit = math.log(2) * component.features
    return Score(
        nll_bits_per_dim=float(nats.mean()) / unit,
        error=_standard_error(nats, np.concatenate(showers)) / unit,
        rows=len(nats),
        features=component.features,
        nats_per_row=-float(log_prob_.mean()),
        outside=int(outside.sum()),
    )


def _require_finite(component: Component, nats: np.ndarray, events: np.ndarray) -> None:
    bad = np.flatnonzero(~np.isfinite(nats))
    if len(bad):
        raise NumericalError(
            f"component {component.name}: the log-likelihood of {len(bad)} of {len(nats)} held-out rows "
            f"is not finite (events {events[bad[:5]].tolist()} ...)",
            hint="the weights are unusable; look at the training history of this component",
            component=component.name,
        )


def _require_inside(component: Component, outside: np.ndarray) -> None:
    rows, count = len(outside), int(outside.sum())
    if count > min(rows // 2, max(OUTSIDE_ROWS, int(OUTSIDE_SHARE * rows))):
        raise NumericalError(
            f"component {component.name}: {count} of {rows} held-out rows lie beyond the range that its maps "
            "were fitted to, where it gives them no density",
            hint="train on more showers, or leave scheme.max_layer_energy to the training split",
            component=component.name,
        )


def _standard_error(values: np.ndarray, groups: np.ndarray) -> float:
    """Of the mean of ``values`` (n,), whose ``groups`` (n,) are independent of each other, but not within."""
    _, group = np.unique(groups, return_inverse=True)
    sums = np.bincount(group, weights=values - values.mean())
    if len(sums) < 2:
        return math.nan
    return math.sqrt(len(sums) / (len(sums) - 1) * float((sums**2).sum())) / len(values)


@contextmanager
def _evaluating(flow: Flow, device: torch.device) -> Iterator[None]:
    """The flow in evaluation mode on a device meanwhile; every part gets its own mode back."""
    modes = [(part, part.training) for part in flow.modules()]
    home = next(flow.parameters()).device
    try:
        flow.to(device).eval()
        yield
    finally:
        flow.to(home)
        for part, training in modes:
            part.training = training
