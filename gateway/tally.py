"""What a node has done since it began: plain numbers, counted where it happens.

An addition costs some nanoseconds, a metric of a library about a microsecond; `metrics`
turns these into what Prometheus reads when somebody asks.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from typing import Final, get_args

from attrs import define, field

from .protocol import Command, Kind, Message

__all__ = ["AGES", "TIMED", "TRANSPORTS", "Histogram", "Tally"]

AGES: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds: from "at once" over what an eye notices to what a person waits for."""

TRANSPORTS: Final = ("websocket", "sse")

TIMED: Final = 7
"""One write in so many is timed: two clocks and two histograms cost a fiftieth of it. A prime,
so that it is not always the same client's."""


@define
class Histogram:
    """How often a value was at most this."""

    bounds: tuple[float, ...] = AGES
    counts: list[int] = field(init=False)
    """One for each bound, not cumulated, and one for what is above all."""
    total: float = field(default=0.0, init=False)

    def __attrs_post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def observe(self, value: float, times: int = 1) -> None:
        self.counts[bisect_left(self.bounds, value)] += times
        self.total += value * times


@define
class Tally:
    """Of one node."""

    connected: Counter[str] = field(factory=Counter)
    """Clients, by transport."""
    ended: Counter[tuple[str, int]] = field(factory=Counter)
    """Connections that have ended, by transport and close code."""
    refused: Counter[int] = field(factory=Counter)
    """Clients that were turned away before they were one, by close code."""
    problems: Counter[int] = field(factory=Counter)
    """Requests that were answered with what is wrong, by status."""
    lasted: Histogram = field(factory=lambda: Histogram((1, 10, 60, 600, 3_600, 36_000)))
    """Seconds connections were open."""
    commands: Counter[type[Command]] = field(factory=Counter)
    violations: Counter[str] = field(factory=Counter)
    """What clients were told that they did wrong, by code."""
    round_trip: Histogram = field(factory=Histogram)
    """Seconds from a `ping` until its `pong`."""
    subscribed: Counter[bool] = field(factory=Counter)
    """Subscriptions, by whether the client had been there and said how far it was."""
    sent: dict[str, int] = field(factory=lambda: dict.fromkeys(get_args(Kind), 0))
    """Objects written to clients."""
    sent_bytes: int = 0
    """Theirs, without the frames around them."""
    writes: int = 0
    timing: bool = True
    """Whether the next write is one of those that are timed."""
    conflated: int = 0
    """Events that clients were spared: newer ones stood for them (mode `latest`)."""
    queued: Histogram = field(factory=Histogram)
    """Seconds from the first mark of a batch until the writer takes it."""
    waited: Histogram = field(factory=Histogram)
    """Seconds of a write that had to wait for its client."""
    delivered: Histogram = field(factory=Histogram)
    """Seconds from an update until it is written, of the last one in each write."""
    published: Counter[str] = field(factory=Counter)
    """Updates over HTTP, by result: `applied`, or the reason why not."""
    events: int = 0
    """Events that the broker's feed has brought."""
    age: Histogram = field(factory=Histogram)
    """Seconds from an update until this node fans it out."""
    lost: int = 0
    """How often the feed said that it may have lost something."""
    reaped: int = 0
    """Silent workers noticed here."""

    def wrote(self, messages: Sequence[Message], *, since: float) -> None:
        """Count a write. What was reported before the client came, `since` then (Unix
        time), is not late."""
        for message in messages:
            self.sent[message.kind] += len(message.texts)
            self.sent_bytes += message.size
            self.conflated += message.skipped
        if self.timing:
            event = messages[-1].event
            reported_at = event.state.reported_at if event else None
            if reported_at is not None and reported_at > since:
                self.delivered.observe(max(0.0, time.time() - reported_at))
        self.writes += 1
        self.timing = self.writes % TIMED == 0
