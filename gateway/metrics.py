"""What Prometheus reads at `/metrics`: a node's tally and statistics, as they are just now.

Nothing is kept here. Each answer is made from the numbers that the node keeps anyway, so
being watched costs nothing until somebody looks. Labels have few values, none of which a
client or a worker chooses. Those that an alert may wait for are there from the start,
with 0: otherwise no rate would show the first of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import get_args

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from .answers import TURNED_AWAY
from .endings import ENDINGS
from .node import Node
from .protocol import Command
from .tally import TRANSPORTS, Histogram, Tally

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
        """Those of the node. Called in Trio: some ask how late it is."""
        yield from _state(self._node)
        tally = self._node.tally
        yield from _clients(tally)
        yield from _deliveries(tally)
        yield from _feed(tally)


def _state(node: Node) -> Iterator[Metric]:
    statistics = node.statistics()
    hub = statistics.hub
    yield _gauge("ready", "1 if new clients should be sent here.", node.not_ready is None)
    yield _gauge("stale", "1 if what clients see here may be old.", bool(node.stale))
    yield _gauge("connections", "Clients at present.", statistics.connections)
    yield _gauge("subscriptions", "Interests of clients in jobs.", hub.subscriptions)
    yield _gauge("topics", "Jobs that somebody watches here, or did just now.", hub.topics)
    yield _gauge("topics_loading", "Those that are still being read.", hub.loading)
    yield _gauge(
        "feed_behind",
        "Events of the feed that are not read yet, as far as known.",
        node.broker.behind,
    )
    yield _gauge(
        "canary_out_seconds", "How long the canary is out; 0 if it is back.", node.canary.out_for
    )
    yield _gauge(
        "canary_round_trip_seconds",
        "From publishing the last canary until it was back.",
        node.canary.round_trip or 0.0,
    )


def _clients(tally: Tally) -> Iterator[Metric]:
    yield _counter("connected", "Clients that came, by transport.", "transport", tally.connected)
    yield _counter(
        "refused",
        "Clients that were turned away at the door, by close code.",
        "code",
        {str(ending.code): tally.refused[ending.code] for ending in ENDINGS},
    )
    yield _counter(
        "problems",
        "Requests that were not answered as asked, by status; not those for a job never seen.",
        "status",
        {str(status): tally.problems[status] for status in {*TURNED_AWAY, *tally.problems}},
    )
    ended = CounterMetricFamily(
        "gateway_ended",
        "Connections that ended, by transport and close code.",
        labels=("transport", "code"),
    )
    for transport in TRANSPORTS:
        for ending in ENDINGS:
            times = tally.ended[transport, ending.code]
            ended.add_metric((transport, str(ending.code)), times)
    yield ended
    yield _histogram("connection_seconds", "How long connections lasted.", tally.lasted)
    yield _histogram("heartbeat_seconds", "From a ping until its pong.", tally.round_trip)
    yield _counter(
        "commands",
        "What clients said, by type.",
        "type",
        {
            str(command.__struct_config__.tag): tally.commands[command]
            for command in get_args(Command)
        },
    )
    yield _counter(
        "violations", "What clients did wrong and were told so, by code.", "code", tally.violations
    )
    yield _counter(
        "subscribed",
        "Jobs that clients began to watch, by where they stood in them: nowhere, or at a position.",
        "from",
        {"nowhere": tally.subscribed[False], "position": tally.subscribed[True]},
    )


def _deliveries(tally: Tally) -> Iterator[Metric]:
    yield _counter(
        "sent",
        "Objects written to clients, by what they are to them: answer, step, snapshot, resync "
        "(a snapshot instead of what cannot be continued), gap.",
        "kind",
        tally.sent,
    )
    yield _count("sent_bytes", "Bytes of them, without the frames around them.", tally.sent_bytes)
    yield _count("writes", "Writes to clients, of one object or many.", tally.writes)
    yield _count(
        "conflated", "Events that clients did not need, for a newer one came.", tally.conflated
    )
    yield _histogram(
        "queue_seconds",
        "Since there was something for a client until its writer took it (one write in seven).",
        tally.queued,
    )
    yield _histogram(
        "write_seconds",
        "How long writes took that had to wait for the client; behind hypercorn all do.",
        tally.waited,
    )
    yield _histogram(
        "delivery_seconds",
        "From an update to the socket, of the last event of a write (one write in seven).",
        tally.delivered,
    )


def _feed(tally: Tally) -> Iterator[Metric]:
    yield _counter("updates", "Updates over HTTP, by result.", "result", tally.published)
    yield _count("events", "Events from the broker.", tally.events)
    yield _histogram("event_age_seconds", "From an update to its fan-out here.", tally.age)
    yield _count("feed_lost", "Times the feed may have lost something.", tally.lost)
    yield _count("reaped", "Silent workers noticed here.", tally.reaped)


def _gauge(name: str, about: str, value: float) -> Metric:
    return GaugeMetricFamily(f"gateway_{name}", about, value=value)


def _count(name: str, about: str, value: float) -> Metric:
    return CounterMetricFamily(f"gateway_{name}", about, value=value)


def _counter(name: str, about: str, label: str, counted: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(f"gateway_{name}", about, labels=(label,))
    for value, times in sorted(counted.items()):
        family.add_metric((value,), times)
    return family


def _histogram(name: str, about: str, histogram: Histogram) -> Metric:
    names = [*(f"{bound:g}" for bound in histogram.bounds), "+Inf"]
    buckets = list(zip(names, map(float, accumulate(histogram.counts)), strict=True))
    family = HistogramMetricFamily(f"gateway_{name}", about)
    family.add_metric((), buckets, sum_value=histogram.total)
    return family
