"""What Prometheus reads at `/metrics`: a node's tally and statistics, as they are just now.

Nothing is kept here. Each answer is made from the numbers that the node keeps anyway, so
being watched costs nothing until somebody looks.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from .node import Node
from .tally import Histogram

__all__ = ["CONTENT_TYPE_LATEST", "Metrics"]


class Metrics(Collector):
    """Of one node, with those of its process."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._registry = CollectorRegistry()
        self._registry.register(self)
        for of_the_process in (ProcessCollector, PlatformCollector, GCCollector):
            of_the_process(registry=self._registry)

    def page(self) -> bytes:
        """All of them, in Prometheus's text form."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        node, tally = self._node, self._node.tally
        statistics = node.statistics()
        hub = statistics.hub
        yield _gauge("connections", "Clients at present.", statistics.connections)
        yield _gauge("topics", "Jobs that somebody watches here, or did just now.", hub.topics)
        yield _gauge("topics_loading", "Those that are still being read.", hub.loading)
        yield _gauge("subscriptions", "Interests of clients in jobs.", hub.subscriptions)
        yield _gauge("ready", "1 if new clients should be sent here.", node.not_ready is None)
        yield _gauge("stale", "1 if what clients see here may be old.", bool(node.stale))

        yield _counter("connected", "Clients that came.", ("transport",), tally.connected)
        ended = CounterMetricFamily(
            "gateway_ended", "Connections that ended.", labels=("transport", "code")
        )
        for (transport, code), times in sorted(tally.ended.items()):
            ended.add_metric((transport, str(code)), times)
        yield ended
        yield _histogram("connection_seconds", "How long connections lasted.", tally.lasted)
        yield _counter("updates", "Updates over HTTP.", ("result",), tally.published)
        yield _count("events", "Events from the broker.", tally.events)
        yield _count("feed_lost", "Times the feed may have lost something.", tally.lost)
        yield _count("reaped", "Silent workers noticed here.", tally.reaped)
        yield _histogram("event_age_seconds", "From an update to its fan-out here.", tally.age)


def _gauge(name: str, about: str, value: float) -> Metric:
    return GaugeMetricFamily(f"gateway_{name}", about, value=value)


def _count(name: str, about: str, value: float) -> Metric:
    return CounterMetricFamily(f"gateway_{name}", about, value=value)


def _counter(name: str, about: str, labels: tuple[str], counted: dict[str, int]) -> Metric:
    family = CounterMetricFamily(f"gateway_{name}", about, labels=labels)
    for label, times in sorted(counted.items()):
        family.add_metric((label,), times)
    return family


def _histogram(name: str, about: str, histogram: Histogram) -> Metric:
    names = [*(f"{bound:g}" for bound in histogram.bounds), "+Inf"]
    buckets = list(zip(names, map(float, accumulate(histogram.counts)), strict=True))
    family = HistogramMetricFamily(f"gateway_{name}", about)
    family.add_metric((), buckets, sum_value=histogram.total)
    return family
