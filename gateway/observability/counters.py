"""Counts what a node has done since it started: plain numbers, which the code increments directly.

An addition takes nanoseconds, an update of a metric of the Prometheus library about a microsecond.
`http/metrics` makes metrics from these numbers when they are scraped.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from typing import Final

from attrs import define, field

__all__ = ["DURATION_BOUNDS", "SAMPLE_EVERY", "TRANSPORTS", "Counters", "Histogram"]

DURATION_BOUNDS: Final = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
)
"""Bucket bounds in seconds, from imperceptible to the time that a person waits."""

TRANSPORTS: Final = ("websocket", "sse")

SAMPLE_EVERY: Final = 7
"""One write in this number is timed, because reading two clocks and updating two histograms takes 2
% of the time of a write. A prime, so that the timed writes are not always those of the same
client."""


@define
class Histogram:
    """Counts the observed values in each bucket."""

    bounds: tuple[float, ...] = DURATION_BOUNDS
    counts: list[int] = field(init=False)
    """A number for each bound, not cumulated, and one for values above all bounds."""
    total: float = field(default=0.0, init=False)

    def __attrs_post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def observe_all(self, values: list[float]) -> None:
        """Observes each of `values`. For many values this is faster than `observe`."""
        if len(values) < 8:
            for value in values:
                self.observe(value)
            return
        values.sort()
        counted = 0
        for index, bound in enumerate(self.bounds):
            end = bisect_right(values, bound, counted)
            self.counts[index] += end - counted
            counted = end
        self.counts[-1] += len(values) - counted
        self.total += sum(values)


@define
class Counters:
    """The counters of one node."""

    connections_opened: Counter[str] = field(factory=Counter)
    """Connections opened, by transport."""
    connections_closed: Counter[tuple[str, int]] = field(factory=Counter)
    """Connections closed, by transport and close code."""
    connections_refused: Counter[int] = field(factory=Counter)
    """Connections refused before they were served, by close code."""
    http_errors: Counter[int] = field(factory=Counter)
    """HTTP error responses, by status."""
    connection_durations: Histogram = field(
        factory=lambda: Histogram((1, 10, 60, 600, 3_600, 36_000))
    )
    """Seconds that connections were open."""
    commands: Counter[type] = field(factory=Counter)
    """Commands of clients, by class."""
    protocol_errors: Counter[str] = field(factory=Counter)
    """Errors reported to clients about what they sent, by error code."""
    ping_round_trips: Histogram = field(factory=Histogram)
    """Seconds from a `ping` until its `pong`."""
    subscriptions_opened: Counter[bool] = field(factory=Counter)
    """Subscriptions, by whether the client sent a position from which to continue."""
    messages_sent: defaultdict[str, int] = field(factory=lambda: defaultdict(int))
    """JSON objects written to clients, by kind. (An assignment to an item of a `Counter` looks up
    a method, and takes four times as long.)"""
    sent_bytes: int = 0
    """Bytes of the JSON objects written to clients, without framing."""
    writes: int = 0
    sample_next_write: bool = True
    """Whether the next write is timed."""
    events_conflated: int = 0
    """Events not sent because a newer one replaced them (mode `latest`)."""
    queue_waits: Histogram = field(factory=Histogram)
    """Seconds from the first notification of a batch until the batch is written."""
    write_durations: Histogram = field(factory=Histogram)
    """Seconds of writes that had to wait for the client."""
    delivery_delays: Histogram = field(factory=Histogram)
    """Seconds from an update until it is written, for the last event of each timed write."""
    updates: Counter[str] = field(factory=Counter)
    """Updates over HTTP, by result: `applied`, or the reason why an update was not applied."""
    job_requests: Counter[str] = field(factory=Counter)
    """Requests for workers (such as to cancel), by result: `applied`, or the reason why a request
    was not stored."""
    feed_events: int = 0
    """Events read from the broker's feed."""
    event_ages: Histogram = field(factory=Histogram)
    """Seconds from an update until this node reads it from the feed."""
    feed_resets: int = 0
    """The number of times that the feed may have lost events."""
    leases_expired: int = 0
    """Leases that this node has expired."""
