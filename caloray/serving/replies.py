"""The forms of a reply: an Arrow stream for programs, JSON for browsers and a few showers."""

from __future__ import annotations

__all__ = ["ARROW", "JSON", "MAX_JSON_SHOWERS", "choose_form", "json_reply", "stream_header"]

import json
from collections.abc import Iterable, Sequence

import numpy as np

from caloray.io.shower_stream import ATTEMPTS, END, MEDIA_TYPE, StreamHeader, encode_head
from caloray.io.sparse import SparseShowers
from caloray.io.stream_decoder import decode
from caloray.serving.models import Order
from caloray.serving.problems import not_acceptable

ARROW = MEDIA_TYPE
JSON = "application/json"
MAX_JSON_SHOWERS = 100
_MOST = 20


def choose_form(accept: str | None) -> str:
    """The media type of the reply for an ``Accept`` header: :data:`ARROW` (preferred) or :data:`JSON`.

    Raises:
        Problem: 406: neither is accepted.
    """
    if not accept:
        return ARROW
    wishes = [_wish(word) for word in accept.split(",")[:_MOST]]
    weights = {form: _weight(form, wishes) for form in (ARROW, JSON)}
    best = max(weights, key=lambda form: weights[form])
    if weights[best] <= 0:
        raise not_acceptable((ARROW, JSON))
    return best


def _wish(word: str) -> tuple[str, float]:
    """Media range and weight of one item of the header; what cannot be read counts for nothing."""
    kind, *parameters = (part.strip().lower() for part in word.split(";"))
    weight = 1.0
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                weight = min(1.0, max(0.0, float(parameter[2:])))
            except ValueError:
                weight = 0.0
    return kind, weight if weight == weight else 0.0  # noqa: PLR0124  (NaN)


def _weight(form: str, wishes: Sequence[tuple[str, float]]) -> float:
    """The weight of the most exact range that matches."""
    for pattern in (form, f"{form.split('/', maxsplit=1)[0]}/*", "*/*"):
        found = [weight for kind, weight in wishes if kind == pattern]
        if found:
            return max(found)
    return 0.0


def stream_header(order: Order) -> StreamHeader:
    """What the reply to ``order`` says before its showers."""
    model = order.model
    return StreamHeader(
        bundle=model.digest,
        geometry=model.geometry,
        seed=order.seed,
        rows=len(order),
        first=order.first,
        conditions=model.condition_names,
    )


def json_reply(order: Order, payloads: Iterable[bytes]) -> bytes:
    """The whole reply as JSON, from the record batches of its pieces.

    Energies of voxels are written with the fewest digits that make the same float32.
    """
    header = stream_header(order)
    _, showers = decode(b"".join([encode_head(header), *payloads, END]))
    geometry = header.geometry
    head = {
        "model": order.model.name,
        "bundle": header.bundle,
        "seed": header.seed,
        "geometry": {**geometry.to_dict(), "digest": geometry.digest},
    }
    rows = ",".join(_shower(showers, row) for row in range(len(showers)))
    return f'{json.dumps(head)[:-1]}, "showers": [{rows}]}}'.encode()


def _shower(showers: SparseShowers, row: int) -> str:
    hits = slice(int(showers.starts[row]), int(showers.starts[row + 1]))
    particle = {
        "event_id": int(showers.ids[row]),
        "incident_energy": float(showers.incident_energies[row]),
        "conditions": {name: float(values[row]) for name, values in showers.conditions.items()},
        "attempts": int(showers.extras[ATTEMPTS][row]),
    }
    voxel, energy = _numbers(showers.voxels[hits]), _numbers(showers.energies[hits])
    return f'{json.dumps(particle)[:-1]}, "voxel": [{voxel}], "energy": [{energy}]}}'


def _numbers(values: np.ndarray) -> str:
    return ",".join(values.astype("U").tolist())
