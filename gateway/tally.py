"""What a node has done since it began: plain numbers, counted where it happens.

An addition costs some nanoseconds, a metric of a library about a microsecond; `metrics`
turns these into what Prometheus reads when somebody asks.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import Final

from attrs import define, field

__all__ = ["AGES", "Histogram", "Tally"]

AGES: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds: from "at once" over what an eye notices to what a person waits for."""


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
    lasted: Histogram = field(factory=lambda: Histogram((1, 10, 60, 600, 3_600, 36_000)))
    """Seconds they were open."""
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
