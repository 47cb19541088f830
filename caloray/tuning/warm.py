"""Weights that the components of a trial start from."""

from __future__ import annotations

__all__ = ["not_before", "require_sources", "source_of"]

from collections.abc import Sequence
from pathlib import Path

from caloray.config import RunConfig
from caloray.errors import ConfigError
from caloray.schemes.build import Scheme
from caloray.schemes.layerwise_config import layer_name
from caloray.training.warm import find_source


def source_of(run: RunConfig, scheme: Scheme, name: str) -> str | None:
    """Where a component's weights come from: a component's name or a path; None where it starts afresh."""
    wanted = run.training_of(name).warm_start
    layers = [layer_name(layer) for layer in range(len(scheme.components))]
    if wanted == "previous" and name in layers:
        wanted = layers[layers.index(name) - 1] if name != layers[0] else None
    return None if wanted == name else wanted


def require_sources(run: RunConfig, scheme: Scheme, names: Sequence[str]) -> None:
    """Refuse components that start from weights which will not be there.

    Args:
        run: A trial's run config.
        scheme: Its scheme.
        names: Components that the trial trains, in order.

    Raises:
        ConfigError: A component that the trial does not train before, or a path without weights.
    """
    for place, name in enumerate(names):
        wanted = source_of(run, scheme, name)
        if wanted is None:
            continue
        if wanted not in scheme.components:
            find_source(Path(wanted), name)
        elif wanted not in names[:place]:
            raise not_before(wanted, name)


def not_before(wanted: str, name: str) -> ConfigError:
    """That a trial does not train ``wanted`` before ``name``, which starts from its weights."""
    return ConfigError(
        f"{name} starts from the weights of {wanted}, which the trial does not train before it",
        hint=f"put {wanted} before {name} in `components`, or set training.{name}.warm_start otherwise",
    )
