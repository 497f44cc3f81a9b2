"""Prometheus metrics at `/metrics`: a node's counters and statistics at the moment of a scrape.

Nothing is stored here. Each scrape is made from numbers that the node keeps anyway, so metrics
cost nothing between scrapes. Labels have few values, none of which a client or a worker chooses.
Series that an alert waits for exist from the start, with 0; otherwise `rate` would miss the first
increase.
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

from ..node.node import Node
from ..observability.counters import TRANSPORTS, Counters, Histogram
from ..protocol.close_codes import CLOSE_CODES
from ..protocol.commands import Command
from ..protocol.messages import Kind
from .responses import REFUSED

__all__ = ["CONTENT_TYPE_LATEST", "Metrics"]

PREFIX = "progress_gateway_"


class Metrics(Collector):
    """Collects the metrics of one node and of its process."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._registry = CollectorRegistry()
        self._registry.register(self)
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry)

    def page(self) -> bytes:
        """Returns all metrics in Prometheus's text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Yields the metrics of the node. Must be called in Trio, whose clock some of them read."""
        yield from _state(self._node)
        counters = self._node.counters
        yield from _clients(counters)
        yield from _deliveries(counters)
        yield from _feed(counters)


def _state(node: Node) -> Iterator[Metric]:
    statistics = node.statistics()
    hub, sets = statistics.hub, statistics.sets
    probe = node.probe
    yield _gauge("ready", "1 if this node is ready for new clients.", node.not_ready_reason is None)
    yield _gauge(
        "stale", "1 if clients of this node may see outdated states.", node.stale_reason is not None
    )
    yield _gauge("connections", "Open client connections.", statistics.connections)
    yield _gauge("subscriptions", "Subscriptions of clients to jobs.", hub.subscriptions)
    yield _gauge(
        "topics", "Jobs that clients of this node watch, or did until recently.", hub.topics
    )
    yield _gauge(
        "topics_free",
        "How many more jobs clients can watch on this node; at 0, further jobs are denied "
        "(node_full).",
        hub.free,
    )
    yield _gauge("topics_loading", "Topics whose state is still being read.", hub.loading)
    yield _gauge("sets", "Sets that clients watch, or did until recently.", sets.sets)
    yield _gauge("sets_loading", "Sets whose jobs are still being read.", sets.loading)
    yield _gauge("set_jobs", "Jobs in all sets.", sets.jobs)
    yield _gauge(
        "feed_lag_events",
        "Events in the broker's feed that this node has not read yet, when it last looked.",
        node.broker.lag,
    )
    yield _count(
        "unreadable_records",
        "Values read from the broker that are not valid records of the gateway.",
        node.broker.unreadable,
    )
    yield _gauge(
        "probe_pending_seconds",
        "Age of the probe event that has not come back yet; 0 if none is pending.",
        probe.pending_for,
    )
    yield _gauge(
        "probe_round_trip_seconds",
        "Time from publishing the last probe event until it was received from the feed.",
        probe.round_trip or 0.0,
    )


def _clients(counters: Counters) -> Iterator[Metric]:
    yield _counter(
        "connections_opened",
        "Connections accepted, by transport.",
        "transport",
        counters.connections_opened,
    )
    yield _counter(
        "connections_refused",
        "Connections refused before they were served, by close code.",
        "code",
        {
            str(close_code.code): counters.connections_refused[close_code.code]
            for close_code in CLOSE_CODES
        },
    )
    yield _counter(
        "http_errors",
        "HTTP error responses, by status; without 404 for unknown jobs.",
        "status",
        {str(status): counters.http_errors[status] for status in {*REFUSED, *counters.http_errors}},
    )
    closed = CounterMetricFamily(
        f"{PREFIX}connections_closed",
        "Connections closed, by transport and close code.",
        labels=("transport", "code"),
    )
    for transport in TRANSPORTS:
        for close_code in CLOSE_CODES:
            times = counters.connections_closed[transport, close_code.code]
            closed.add_metric((transport, str(close_code.code)), times)
    yield closed
    yield _histogram(
        "connection_duration_seconds",
        "How long closed connections were open.",
        counters.connection_durations,
    )
    yield _histogram(
        "ping_round_trip_seconds", "Time from a ping until its pong.", counters.ping_round_trips
    )
    yield _counter(
        "commands",
        "Commands received from clients, by type.",
        "type",
        {
            str(command.__struct_config__.tag): counters.commands[command]
            for command in get_args(Command)
        },
    )
    yield _counter(
        "protocol_errors",
        "Errors reported to clients about what they sent, by error code.",
        "code",
        counters.protocol_errors,
    )
    yield _counter(
        "subscriptions_opened",
        "Subscriptions opened, by how they start: with a snapshot, or at the client's position.",
        "from",
        {
            "snapshot": counters.subscriptions_opened[False],
            "position": counters.subscriptions_opened[True],
        },
    )


def _deliveries(counters: Counters) -> Iterator[Metric]:
    yield _counter(
        "messages_sent",
        "JSON objects sent to clients, by kind: answer, step, snapshot, resync "
        "(a snapshot because the client's position cannot be continued), gap, set.",
        "kind",
        {kind: counters.messages_sent[kind] for kind in get_args(Kind)},
    )
    yield _count("sent_bytes", "Bytes of those objects, without framing.", counters.sent_bytes)
    yield _count("writes", "Writes to client connections.", counters.writes)
    yield _count(
        "events_conflated",
        "Events not sent because a newer one replaced them (mode latest).",
        counters.events_conflated,
    )
    yield _histogram(
        "queue_wait_seconds",
        "Time from the first queued message until the connection's writer takes it (sampled: "
        "one write in seven).",
        counters.queue_waits,
    )
    yield _histogram(
        "write_duration_seconds",
        "Duration of writes that had to wait for the client; under hypercorn, of all writes.",
        counters.write_durations,
    )
    yield _histogram(
        "delivery_delay_seconds",
        "Time from an update until it is written to a client, for the last event of a write "
        "(sampled: one write in seven).",
        counters.delivery_delays,
    )


def _feed(counters: Counters) -> Iterator[Metric]:
    yield _counter("updates", "Updates received over HTTP, by result.", "result", counters.updates)
    yield _counter(
        "job_requests",
        "Requests for workers, such as to cancel a job, by result.",
        "result",
        counters.job_requests,
    )
    yield _count("feed_events", "Events read from the broker's feed.", counters.feed_events)
    yield _histogram(
        "event_age_seconds",
        "Time from an update until this node reads it from the feed.",
        counters.event_ages,
    )
    yield _count(
        "feed_resets",
        "How often the feed may have lost events, so that all topics were read again.",
        counters.feed_resets,
    )
    yield _count(
        "leases_expired",
        "Leases that this node found expired; their jobs become stalled or lost.",
        counters.leases_expired,
    )


def _gauge(name: str, description: str, value: float) -> Metric:
    return GaugeMetricFamily(f"{PREFIX}{name}", description, value=value)


def _count(name: str, description: str, value: float) -> Metric:
    return CounterMetricFamily(f"{PREFIX}{name}", description, value=value)


def _counter(name: str, description: str, label: str, counted: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(f"{PREFIX}{name}", description, labels=(label,))
    for value, times in sorted(counted.items()):
        family.add_metric((value,), times)
    return family


def _histogram(name: str, description: str, histogram: Histogram) -> Metric:
    names = [*(f"{bound:g}" for bound in histogram.bounds), "+Inf"]
    buckets = list(zip(names, map(float, accumulate(histogram.counts)), strict=True))
    family = HistogramMetricFamily(f"{PREFIX}{name}", description)
    family.add_metric((), buckets, sum_value=histogram.total)
    return family
