"""Clients and publisher together, against one server: the generator's loop."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from attrs import frozen

from ..machine import cpu_seconds
from .clients import TICK, Clients
from .feeds import FeedMaker, Ports
from .publisher import Publisher
from .wire import Dialect

__all__ = ["Load", "Span", "load"]

QUIET = 0.3
"""Seconds without an event after which nothing more is on its way."""
BUSY = 0.9
"""Share of a core from which on a process counts as its own limit."""


@frozen
class Span:
    """What happened in some seconds at one rate."""

    rate: float
    """Events published a second."""
    seconds: float
    events: int
    """Deliveries of what was due in these seconds, whenever they arrived."""
    due: int
    """The number of deliveries that were due."""
    p50: float
    p99: float
    """Milliseconds from the time at which an event was due until a client has received it."""
    cpu: float
    """CPU time of the server, as a share of a core."""
    generator: float
    """CPU time of the generator, as a share of a core."""

    @property
    def per_second(self) -> float:
        return self.events / self.seconds

    @property
    def generator_limited(self) -> bool:
        """Whether it may have been the generator that could not do more."""
        return self.generator > BUSY and self.cpu < BUSY


class Load:
    """A server under load. Everything in here runs in the generator's process."""

    def __init__(self, clients: Clients, publisher: Publisher, *, pid: int) -> None:
        self.clients = clients
        self.publisher = publisher
        self.pid = pid

    def span(self, rate: float, seconds: float, *, due: float, settle: float = 0.3) -> Span:
        """Publish at `rate`; `due` is how many deliveries each event makes.

        It ends when what was published is delivered, or after `settle`'s patience.
        """
        self.publisher.start(rate)
        self._turn(settle)
        published = self.publisher.published
        self.clients.reset(self.publisher.next_at)
        began, cpu, own = time.monotonic(), cpu_seconds(self.pid), time.process_time()
        self._turn(seconds)
        took, cpu, own = (
            time.monotonic() - began,
            cpu_seconds(self.pid) - cpu,
            time.process_time() - own,
        )
        expected = (self.publisher.published - published) * due
        self.publisher.start(0)
        self.settle()
        ages = self.clients.ages
        return Span(
            rate=rate,
            seconds=took,
            events=self.clients.events,
            due=round(expected),
            p50=ages.percentile(50),
            p99=ages.percentile(99),
            cpu=cpu / took,
            generator=own / took,
        )

    def settle(self, patience: float = 8.0) -> float:
        """Read the events that are still in flight; returns when the last one has arrived."""
        until = time.monotonic() + patience
        quiet_since = time.monotonic()
        while (now := time.monotonic()) < until and now - quiet_since < QUIET:
            self.publisher.publish_due()
            if self.clients.poll():
                quiet_since = time.monotonic()
            time.sleep(TICK)
        return quiet_since

    def throughput(self, rate: float, events: int) -> float:
        """Deliveries a second while it is busy with so many events, however late they are."""
        self.publisher.start(rate)
        before, began = self.clients.total, time.monotonic()
        self._turn(events / rate)
        self.publisher.start(0)
        last = self.settle()
        return (self.clients.total - before) / (last - began)

    def idle(self, seconds: float) -> None:
        """Publish nothing; only answer heartbeats."""
        self.publisher.start(0)
        self._turn(seconds)

    def _turn(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (now := time.monotonic()) < until:
            self.publisher.publish_due()
            self.clients.poll()
            left = now + TICK - time.monotonic()
            if left > 0:
                time.sleep(left)


@contextmanager
def load(
    ports: Ports,
    *,
    pid: int,
    feed: FeedMaker,
    dialect: Dialect,
    jobs: Sequence[str],
    wanted: Sequence[Sequence[str]],
) -> Iterator[Load]:
    """Clients, one for each list of jobs in `wanted`, and a publisher for `jobs`."""
    publisher = Publisher(feed(ports, jobs), len(jobs))
    clients = Clients(ports.server, dialect)
    try:
        clients.connect(wanted)
        under_load = Load(clients, publisher, pid=pid)
        under_load.settle()
        yield under_load
    finally:
        clients.close()
        publisher.close()
