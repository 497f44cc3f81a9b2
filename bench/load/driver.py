"""The generator's loop: the clients and the publisher of one server."""

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

__all__ = ["Load", "Measurement", "open_load"]

IDLE_AFTER = 0.3
"""Seconds without an event after which no event is in flight any more."""
BUSY = 0.9
"""The share of a core above which a process counts as the bottleneck."""


@frozen
class Measurement:
    """The deliveries at one rate, and the CPU times."""

    rate: float
    """Events published a second."""
    seconds: float
    events: int
    """The number of deliveries of events that were due in these seconds, whenever they arrived."""
    expected_events: int
    """The number of deliveries that were due."""
    p50: float
    p99: float
    """Milliseconds from the time at which an event was due until a client has received it."""
    cpu: float
    """CPU time of the server, as a share of a core."""
    generator_cpu: float
    """CPU time of the generator, as a share of a core."""

    @property
    def per_second(self) -> float:
        return self.events / self.seconds

    @property
    def generator_limited(self) -> bool:
        """Whether the generator may have been the bottleneck."""
        return self.generator_cpu > BUSY and self.cpu < BUSY


class Load:
    """A server under load. All methods run in the process of the generator."""

    def __init__(self, clients: Clients, publisher: Publisher, *, pid: int) -> None:
        self.clients = clients
        self.publisher = publisher
        self.pid = pid

    def measure(
        self, rate: float, seconds: float, *, deliveries_per_event: float, warm_up: float = 0.3
    ) -> Measurement:
        """Publishes at `rate` events a second: `warm_up` seconds, then `seconds` that are measured.

        Returns when all events are delivered, or 8 s later.
        """
        self.publisher.start(rate)
        self._run_for(warm_up)
        published = self.publisher.published
        self.clients.reset(self.publisher.next_at)
        began, cpu, own = time.monotonic(), cpu_seconds(self.pid), time.process_time()
        self._run_for(seconds)
        seconds_taken, cpu, own = (
            time.monotonic() - began,
            cpu_seconds(self.pid) - cpu,
            time.process_time() - own,
        )
        expected = (self.publisher.published - published) * deliveries_per_event
        self.publisher.start(0)
        self.read_until_idle()
        ages = self.clients.ages
        return Measurement(
            rate=rate,
            seconds=seconds_taken,
            events=self.clients.events,
            expected_events=round(expected),
            p50=ages.percentile(50),
            p99=ages.percentile(99),
            cpu=cpu / seconds_taken,
            generator_cpu=own / seconds_taken,
        )

    def read_until_idle(self, patience: float = 8.0) -> float:
        """Reads the events that are still in flight, for `patience` seconds at most. Returns the
        time at which the last one arrived."""
        until = time.monotonic() + patience
        idle_since = time.monotonic()
        while (now := time.monotonic()) < until and now - idle_since < IDLE_AFTER:
            self.publisher.publish_due()
            if self.clients.poll():
                idle_since = time.monotonic()
            time.sleep(TICK)
        return idle_since

    def throughput(self, rate: float, events: int) -> float:
        """Returns the deliveries a second while the server handles this number of events, however
        late they are."""
        self.publisher.start(rate)
        before, began = self.clients.total, time.monotonic()
        self._run_for(events / rate)
        self.publisher.start(0)
        last = self.read_until_idle()
        return (self.clients.total - before) / (last - began)

    def idle(self, seconds: float) -> None:
        """Publishes nothing for some seconds, and answers pings."""
        self.publisher.start(0)
        self._run_for(seconds)

    def _run_for(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (now := time.monotonic()) < until:
            self.publisher.publish_due()
            self.clients.poll()
            seconds_left = now + TICK - time.monotonic()
            if seconds_left > 0:
                time.sleep(seconds_left)


@contextmanager
def open_load(
    ports: Ports,
    *,
    pid: int,
    feed: FeedMaker,
    dialect: Dialect,
    jobs: Sequence[str],
    wanted: Sequence[Sequence[str]],
) -> Iterator[Load]:
    """Opens clients, one for each list of jobs in `wanted`, and a publisher for `jobs`."""
    publisher = Publisher(feed(ports, jobs), len(jobs))
    clients = Clients(ports.server, dialect)
    try:
        clients.connect(wanted)
        load = Load(clients, publisher, pid=pid)
        load.read_until_idle()
        yield load
    finally:
        clients.close()
        publisher.close()
