"""Numbers about the service in Prometheus' text form, summed over the processes that answer requests."""

from __future__ import annotations

__all__ = ["CONTENT_TYPE", "Family", "ServiceMetrics", "render"]

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST as CONTENT_TYPE
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
Sample = tuple[str, tuple[tuple[str, str], ...], float]


@dataclass(frozen=True)
class Family:
    """One metric of one process, as it travels to the process that is asked for all of them."""

    name: str
    text: str
    kind: str
    samples: tuple[Sample, ...]


class ServiceMetrics:
    """What one process counts."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter(
            "caloray_requests", "Finished requests.", ("path", "method", "status"), registry=registry
        )
        self.latency = Histogram(
            "caloray_request_seconds",
            "From the request's head to the end of the reply.",
            ("path",),
            buckets=_SECONDS,
            registry=registry,
        )
        self.showers = Counter("caloray_showers", "Showers made.", ("model",), registry=registry)
        self.redrawn = Counter(
            "caloray_redrawn_showers", "Showers whose first draw was invalid.", ("model",), registry=registry
        )
        self.pending_requests = Gauge(
            "caloray_pending_requests", "Requests for showers under way.", registry=registry
        )
        self.pending_showers = Gauge(
            "caloray_pending_showers", "Showers of these requests.", registry=registry
        )
        self.batch_rows = Histogram(
            "caloray_batch_rows",
            "Showers in the joint batch that a piece of a request was sampled in.",
            ("model",),
            buckets=_ROWS,
            registry=registry,
        )
        self.piece_seconds = Histogram(
            "caloray_piece_seconds",
            "From a piece's arrival in the queue of its replica to its end.",
            ("model",),
            buckets=_SECONDS,
            registry=registry,
        )
        self.retries = Counter(
            "caloray_piece_retries",
            "Pieces that were given to another replica.",
            ("model",),
            registry=registry,
        )

    def snapshot(self) -> list[Family]:
        """The present values, to be sent to another process."""
        return [
            Family(
                metric.name,
                metric.documentation,
                metric.type,
                tuple(
                    (sample.name, tuple(sorted(sample.labels.items())), sample.value)
                    for sample in metric.samples
                    if not sample.name.endswith("_created")
                ),
            )
            for metric in self._registry.collect()
        ]


class _Fixed(Collector):
    def __init__(self, metrics: Sequence[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        yield from self._metrics


def render(snapshots: Iterable[Sequence[Family]]) -> bytes:
    """The sum over processes as text; equal names with equal labels are added up."""
    totals: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    families: dict[str, Family] = {}
    for family in (family for snapshot in snapshots for family in snapshot):
        families.setdefault(family.name, family)
        values = totals.setdefault(family.name, {})
        for name, labels, value in family.samples:
            values[name, labels] = values.get((name, labels), 0.0) + value
    metrics = []
    for family in families.values():
        metric = Metric(family.name, family.text, family.kind)
        for (name, labels), value in totals[family.name].items():
            metric.add_sample(name, dict(labels), value)
        metrics.append(metric)
    registry = CollectorRegistry()
    registry.register(_Fixed(metrics))
    return generate_latest(registry)
