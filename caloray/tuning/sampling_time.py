"""Milliseconds per shower on one CPU thread: of a whole model, or of the components that a trial trained."""

from __future__ import annotations

__all__ = ["calls_per_shower", "time_component", "time_model"]

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from nflows.flows.base import Flow
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from caloray.bundle import Bundle
from caloray.errors import NumericalError
from caloray.evaluation.stopwatch import Plan, measure
from caloray.evaluation.timing import TimingSettings, time_bundle
from caloray.flows.freeze import freeze
from caloray.flows.inverse import Backend, fingerprint, resolve
from caloray.io.store import LayerStore
from caloray.rng import StreamKey
from caloray.schemes.component import Component
from caloray.schemes.draws import image, one_thread

REPETITIONS = 5
LIMIT = 20.0
"""Seconds for one component or model, at most."""


def calls_per_shower(component: Component, store: LayerStore) -> int:
    """How often a shower asks a component: once for each layer that it draws, once for all layer energies."""
    return len(np.unique(component.rows(store)[:, 1]))


def time_model(bundle: Bundle, batch: int) -> tuple[float, dict[str, Any]]:
    """CPU milliseconds per shower of a whole model, by the protocol of ``caloray evaluate --timing``.

    Returns:
        The median, and what stands behind it.

    Raises:
        NumericalError: Not one batch was over within the limit.
    """
    wanted = TimingSettings(batches=(batch,), repetitions=REPETITIONS, limit=LIMIT)
    record = time_bundle(bundle.path, wanted)
    return _median(record["measurements"][0], {"of": "bundle", "backend": record["backend"]})


def time_component(
    component: Component, flow: Flow, store: LayerStore, batch: int, backend: Backend = "auto"
) -> tuple[float, dict[str, Any]]:
    """CPU milliseconds that a component adds to a shower: those of one call times the calls per shower.

    The conditions are those of held-out showers; preparing them and the way back to MeV are not in it.

    Args:
        component: The component.
        flow: Its trained flow on the CPU.
        store: Showers whose conditions are taken.
        batch: Showers asked for at once.
        backend: What inverts the flow.

    Raises:
        NumericalError: Not one batch was over within the limit.
    """
    chosen = resolve(backend, "cpu")
    flow = copy.deepcopy(flow).eval()  # what was frozen cannot be trained or scored again
    freeze(flow, chosen)
    weight = next(flow.parameters())
    key = StreamKey(0, component.name, "timing")
    rows = component.rows(store)[key.generator().permutation(len(component.rows(store)))]
    rows = np.resize(rows, (batch, 2))
    draws = torch.Generator().manual_seed(key.seed64())
    _, context = component.batch(store, rows, draws, weight.dtype)
    noise = torch.randn((batch, component.features), generator=draws, dtype=weight.dtype)

    def draw(count: int, index: int) -> None:
        del index
        image(flow, noise[:count], flow._embedding_net(context[:count]))

    with threadpool_limits(limits=1), one_thread(), torch.no_grad():
        record = measure(draw, Plan(batch, batch, REPETITIONS, LIMIT))
    calls = calls_per_shower(component, store)
    ms, facts = _median(record, {"of": "component", "backend": fingerprint(chosen), "calls": calls})
    return ms * calls, facts


def _median(record: Mapping[str, Any], facts: dict[str, Any]) -> tuple[float, dict[str, Any]]:
    if record["ms"] is None:
        raise NumericalError(
            f"ms_per_shower: nothing was timed ({record['skipped']})", hint="ask for a smaller batch"
        )
    numbers = {"ms": record["cpu_ms"]["median"], "wall_ms": record["ms"]["median"]}
    return float(numbers["ms"]), facts | numbers | {"batch": record["batch"], "showers": record["showers"]}
