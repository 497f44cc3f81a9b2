"""What a node has done since it started: plain numbers, incremented where it happens.

An addition costs nanoseconds, a metric of the Prometheus library about a microsecond.
`http/metrics` turns these numbers into metrics when they are scraped.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from typing import Final

from attrs import define, field

__all__ = ["AGES", "SAMPLE_EVERY", "TRANSPORTS", "Counters", "Histogram"]

AGES: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Bucket bounds in seconds: from imperceptible to what a person waits for."""

TRANSPORTS: Final = ("websocket", "sse")

SAMPLE_EVERY: Final = 7
"""One write in so many is timed: reading two clocks and updating two histograms costs 2 % of a
write. A prime, so that it is not always the same client's."""


@define
class Histogram:
    """How many observed values fall into each bucket."""

    bounds: tuple[float, ...] = AGES
    counts: list[int] = field(init=False)
    """One per bound, not cumulated, and one for values above all bounds."""
    total: float = field(default=0.0, init=False)

    def __attrs_post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def observe_all(self, values: list[float]) -> None:
        """Observe each of `values`, in less time than one by one if they are many."""
        if len(values) < 8:
            for value in values:
                self.observe(value)
            return
        values.sort()
        below = 0
        for index, bound in enumerate(self.bounds):
            up_to = bisect_right(values, bound, below)
            self.counts[index] += up_to - below
            below = up_to
        self.counts[-1] += len(values) - below
        self.total += sum(values)


@define
class Counters:
    """The counters of one node."""

    connections_opened: Counter[str] = field(factory=Counter)
    """By transport."""
    connections_closed: Counter[tuple[str, int]] = field(factory=Counter)
    """By transport and close code."""
    connections_refused: Counter[int] = field(factory=Counter)
    """Connections refused before they were served, by close code."""
    http_errors: Counter[int] = field(factory=Counter)
    """HTTP error responses, by status."""
    connection_durations: Histogram = field(
        factory=lambda: Histogram((1, 10, 60, 600, 3_600, 36_000))
    )
    """Seconds that connections were open."""
    commands: Counter[type] = field(factory=Counter)
    """By class."""
    protocol_errors: Counter[str] = field(factory=Counter)
    """Errors reported to clients about what they sent, by error code."""
    ping_round_trips: Histogram = field(factory=Histogram)
    """Seconds from a `ping` until its `pong`."""
    subscriptions_opened: Counter[bool] = field(factory=Counter)
    """By whether the client named a position to continue from."""
    messages_sent: defaultdict[str, int] = field(factory=lambda: defaultdict(int))
    """JSON objects written to clients, by kind. (An assignment to an item of a `Counter` looks up
    a method, and takes four times as long.)"""
    sent_bytes: int = 0
    """Bytes of those objects, without framing."""
    writes: int = 0
    sample_next_write: bool = True
    """Whether the next write is timed."""
    events_conflated: int = 0
    """Events not sent because a newer one replaced them (mode `latest`)."""
    queue_waits: Histogram = field(factory=Histogram)
    """Seconds from the first queued message of a batch until the writer takes it."""
    write_durations: Histogram = field(factory=Histogram)
    """Seconds of writes that had to wait for the client."""
    delivery_delays: Histogram = field(factory=Histogram)
    """Seconds from an update until it is written, for the last event of each timed write."""
    updates: Counter[str] = field(factory=Counter)
    """Updates over HTTP, by result: `applied`, or the reason why not."""
    job_requests: Counter[str] = field(factory=Counter)
    """Requests for workers (such as to cancel), by result: `applied`, or the reason why not."""
    feed_events: int = 0
    """Events read from the broker's feed."""
    event_ages: Histogram = field(factory=Histogram)
    """Seconds from an update until this node reads it from the feed."""
    feed_resets: int = 0
    """Times the feed may have lost events."""
    leases_expired: int = 0
    """Leases whose expiry this node noticed."""
