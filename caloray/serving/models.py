"""The models behind a service, what clients are told about them, and the check of a request against one.

Nothing here loads a model: these are the facts that the front of a service needs, in a process without torch.
"""

from __future__ import annotations

__all__ = ["Order", "Served", "check_order", "choose"]

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from caloray.errors import ConfigError
from caloray.geometry import Geometry
from caloray.preprocess.condition_range import (
    ConditionRange,
    require_inside,
    require_names,
    require_unit_length,
)
from caloray.preprocess.energy_range import outside
from caloray.serving.problems import invalid, unknown_model
from caloray.serving.request import MAX_FIRST, ShowerRequest

if TYPE_CHECKING:
    from caloray.bundle import Bundle


@dataclass(frozen=True)
class Served:
    """One model of the service.

    Args:
        name: What requests call it.
        digest: sha256 that names the bundle.
        geometry: Readout of its showers.
        energy_range: Incident energies that it was trained on [MeV].
        conditions: Name, unit and trained range of what it needs besides the incident energy.
        block_size: Showers per block, the unit of randomness.
        smallest: Rows that the smallest batch costs, however few of them are wanted.
    """

    name: str
    digest: str
    geometry: Geometry
    energy_range: tuple[float, float]
    conditions: tuple[ConditionRange, ...]
    block_size: int
    smallest: int = 1

    @staticmethod
    def of(name: str, bundle: Bundle, smallest: int | None = None) -> Served:
        """The facts of an open bundle; ``smallest`` where its replicas sample elsewhere than this one."""
        return Served(
            name,
            bundle.digest,
            bundle.geometry,
            bundle.energy_range,
            tuple(bundle.conditions),
            bundle.block_size,
            bundle.joint_sizes[0] if smallest is None else smallest,
        )

    @property
    def condition_names(self) -> tuple[str, ...]:
        """Names of the conditions, in the model's order."""
        return tuple(item.name for item in self.conditions)

    def facts(self, max_showers: int, max_body_bytes: int) -> dict[str, Any]:
        """What ``GET /v1/models`` says about it."""
        low, high = self.energy_range
        return {
            "name": self.name,
            "digest": self.digest,
            "geometry": {
                "name": self.geometry.name,
                "digest": self.geometry.digest,
                "kind": self.geometry.kind,
                "particle": self.geometry.particle,
                "n_layers": self.geometry.n_layers,
                "n_voxels": self.geometry.n_voxels,
                "layer_shapes": [list(layer.shape) for layer in self.geometry.layers],
            },
            "energy_range": [low, high],
            "conditions": [
                {"name": item.name, "unit": item.unit, "low": item.low, "high": item.high}
                for item in self.conditions
            ],
            "block_size": self.block_size,
            "max_showers": max_showers,
            "max_body_bytes": max_body_bytes,
        }


@dataclass(frozen=True, eq=False)
class Order:
    """A request that the model can carry out.

    Args:
        model: What makes the showers.
        energies: (n,) float64 [MeV].
        conditions: (n, P) float64 in the model's order; None for a model without.
        seed: Of the random numbers.
        first: Id of the first shower.
    """

    model: Served
    energies: np.ndarray
    conditions: np.ndarray | None
    seed: int
    first: int

    def __len__(self) -> int:
        """Number of showers."""
        return len(self.energies)


def choose(models: Mapping[str, Served], name: str | None) -> Served:
    """The model that a request names.

    Raises:
        Problem: 404 for a name that is not served; 422 for none where there are several.
    """
    if name is None:
        if len(models) > 1:
            raise invalid("model is missing", f"served are: {', '.join(list(models)[:20])}")
        return next(iter(models.values()))
    if name not in models:
        raise unknown_model(list(models))
    return models[name]


def check_order(models: Mapping[str, Served], request: ShowerRequest, max_showers: int) -> Order:
    """Check a request against its model.

    Raises:
        Problem: 404 or 422: unknown model, too many showers, outside the trained ranges, other conditions.
    """
    model = choose(models, request.model)
    count = len(request.energies)
    if count > max_showers:
        raise invalid(
            f"energies must have at most {max_showers} entries",
            "ask for the rest in further requests, with `first`",
        )
    if request.first + count - 1 > MAX_FIRST:
        raise invalid(f"the last id must be at most {MAX_FIRST}")
    energies = np.asarray(request.energies, dtype=np.float64)
    _require_trained(energies, model)
    return Order(model, energies, _conditions(model, request, count), request.seed, request.first)


def _require_trained(energies: np.ndarray, model: Served) -> None:
    low, high = model.energy_range
    strange = np.flatnonzero(outside(energies, (low, high)))
    if strange.size:
        raise invalid(
            f"energies[{strange[0]}] is outside the trained range {low:g} to {high:g} MeV",
            "energies are in MeV",
        )


def _conditions(model: Served, request: ShowerRequest, count: int) -> np.ndarray | None:
    """The conditions as a table (count, P) in the model's order."""
    names = model.condition_names
    try:
        require_names(names, request.conditions)
    except ConfigError:
        raise invalid(f"conditions must be: {', '.join(names) or 'none'}", _see(model)) from None
    columns = {item.name: _column(item, request.conditions[item.name], count) for item in model.conditions}
    try:
        require_unit_length(columns)
    except ConfigError:
        raise invalid("conditions: directions must have length 1", "give unit vectors") from None
    return np.stack(list(columns.values()), axis=1) if columns else None


def _column(item: ConditionRange, values: float | list[float], count: int) -> np.ndarray:
    if isinstance(values, list) and len(values) != count:
        raise invalid(f"conditions: {item.name} must have one value, or as many as there are energies")
    column = np.broadcast_to(np.asarray(values, dtype=np.float64), (count,))
    try:
        require_inside(item, column, allow_extrapolation=False)
    except ConfigError:
        unit = "" if item.unit in {"", "1"} else f" {item.unit}"
        raise invalid(
            f"conditions: {item.name} is outside the trained range {item.low:g} to {item.high:g}{unit}"
        ) from None
    return column


def _see(model: Served) -> str:
    return "GET /v1/models tells names, units and ranges" if model.conditions else "leave them out"
