"""Workloads that measure the delivery of events from the feed to the clients."""

from __future__ import annotations

import logging
from typing import Any

import redis

from . import machine
from .load.clients import Clients
from .load.driver import Load, Measurement, open_load
from .load.search import highest
from .servers import ARRIVING, LATEST_20
from .subject import Figures, Subject, figures_of, load_on

__all__ = [
    "arrival",
    "fanout",
    "growth",
    "idle",
    "jobs",
    "pages",
    "published_jobs",
    "spread",
    "storm",
    "stuck",
    "updates",
]

log = logging.getLogger("bench")

AGE = 250.0
"""Milliseconds. A server sustains a rate if 99 % of the events are younger."""
DELIVERED = 0.97
"""The share of the due events that must arrive in time for a rate to be sustained."""


def _highest_rate(
    subject: Subject, load: Load, *, deliveries_per_event: float, start: float
) -> Figures:
    """Returns the highest rate that the server sustains, and its metrics at half of that rate."""
    limited = False

    def probe(rate: float) -> Measurement | None:
        nonlocal limited
        measurement = load.measure(rate, subject.seconds, deliveries_per_event=deliveries_per_event)
        log.debug("%s: %s", subject.server.name, measurement)
        sustained = (
            measurement.p99 < AGE
            and measurement.events > DELIVERED * measurement.expected_events
            and not load.clients.lost
        )
        if not sustained:
            limited = measurement.generator_limited
        return measurement if sustained else None

    earlier_rate = subject.run.earlier_rate
    figures = highest(
        probe,
        start=earlier_rate * 0.85 if earlier_rate else start,
        factor=1.2 if earlier_rate else 2.0,
        precision=1.2 if subject.run.quick else 1.08,
    )
    if figures is None:  # no rate was sustained: its throughput, however late the events are
        return {"per_second": load.throughput(start, round(2 * start) or 1)}
    rate, best = figures
    half = load.measure(rate / 2, subject.seconds, deliveries_per_event=deliveries_per_event)
    return {
        "per_second": best.per_second,
        "p99": best.p99,
        "half_p99": half.p99,
        "half_cpu": half.cpu,
        "half_generator": half.generator_cpu,
        "rate": rate,
        "cpu": best.cpu,
        "generator": best.generator_cpu,
        "generator_limited": float(limited),
    }


def fanout(subject: Subject) -> Figures:
    jobs, clients = ["job:1"], 1_000
    with load_on(subject, jobs, [jobs] * clients) as load:
        return _highest_rate(
            subject, load, deliveries_per_event=clients, start=subject.server.search_from
        )


def jobs(subject: Subject) -> Figures:
    jobs = [f"job:{n}" for n in range(1_000)]
    with load_on(subject, jobs, [[job] for job in jobs]) as load:
        return _highest_rate(
            subject, load, deliveries_per_event=1, start=40 * subject.server.search_from
        )


def pages(subject: Subject) -> Figures:
    jobs = [f"job:{n}" for n in range(5_000)]
    wanted = [[jobs[(n * 37 + k * 101) % len(jobs)] for k in range(50)] for n in range(1_000)]
    with load_on(subject, jobs, wanted, latest=True) as load:
        measurement = load.measure(10_000, subject.seconds, deliveries_per_event=10, warm_up=1.0)
        return figures_of(measurement)


def storm(subject: Subject) -> Figures:
    jobs = [f"job:{n}" for n in range(100)]
    wanted = [[jobs[n % 100]] for n in range(1_000)]
    figures: Figures = {}
    rates = (2_000, 6_500, 20_000)
    server = subject.server
    # Measures the cost of reading the feed alone: the client watches one job that is never
    # published.
    with load_on(subject, jobs, [["job:none"]], latest=True) as load:
        alone = [load.measure(rate, subject.seconds, deliveries_per_event=0).cpu for rate in rates]
    with open_load(
        subject.run.ports,
        pid=subject.run.pid,
        feed=server.feed,
        dialect=LATEST_20 if subject.ours else server.latest,
        jobs=jobs,
        wanted=wanted,
    ) as load:
        measurements = [
            load.measure(rate, subject.seconds, deliveries_per_event=10) for rate in rates
        ]
    for rate, measurement, reading in zip(rates, measurements, alone, strict=True):
        figures[f"p99_{rate}"] = measurement.p99
        figures[f"cpu_{rate}"] = measurement.cpu
        figures[f"reading_{rate}"] = reading
    figures["p99"] = max(measurement.p99 for measurement in measurements)
    figures["growth"] = (measurements[-1].cpu - measurements[0].cpu) - (alone[-1] - alone[0])
    figures["generator_limited"] = float(
        any(measurement.generator_limited for measurement in measurements)
    )
    return figures


def idle(subject: Subject) -> Figures:
    count = 2_000 if subject.run.quick else 10_000
    before = machine.memory(subject.run.pid)
    jobs = [f"job:{n}" for n in range(count)]
    with open_load(
        subject.run.ports,
        pid=subject.run.pid,
        feed=subject.server.feed,
        dialect=subject.server.latest,
        jobs=["job:0"],
        wanted=[[job] for job in jobs],
    ) as load:
        load.idle(1.0)
        memory_used = machine.memory(subject.run.pid) - before
        if not subject.ours:
            return {"kib": memory_used / count / 1024}
        used = machine.cpu_seconds(subject.run.pid)
        # A whole interval between pings, including the pings at its end.
        seconds = 5.0 if subject.run.quick else 30.0
        load.idle(seconds)
        used = machine.cpu_seconds(subject.run.pid) - used
        return {"kib": memory_used / count / 1024, "cpu": used / seconds, "lost": load.clients.lost}


def arrival(subject: Subject) -> Figures:
    jobs, count = ["job:1"], 2_000
    subject.server.feed(subject.run.ports, jobs).socket.close()  # the job exists
    reads = _redis_reads(subject)
    clients = Clients(subject.run.ports.server, ARRIVING if subject.ours else subject.server.every)
    try:
        took = clients.connect([jobs] * count)
    finally:
        clients.close()
    figures = {"per_second": count / took}
    if subject.ours:
        # These are the reads of the job's snapshot. A probe that is published meanwhile adds one.
        figures["reads"] = _redis_reads(subject) - reads
    return figures


def stuck(subject: Subject) -> Figures:
    jobs, clients = ["job:1"], 1_000
    rate = 10 * subject.server.search_from if subject.ours else subject.server.search_from
    with load_on(subject, jobs, [jobs] * clients) as load:
        without = load.measure(rate, subject.seconds, deliveries_per_event=clients)
        before = machine.memory(subject.run.pid)
        load.clients.stop_reading(0.1)
        with_stuck = load.measure(rate, subject.seconds, deliveries_per_event=0.9 * clients)
        grown = machine.memory(subject.run.pid) - before
    return {
        "ratio": with_stuck.p99 / max(without.p99, 1.0),
        "p99": with_stuck.p99,
        "p99_without": without.p99,
        "rate": rate,
        "grown_mib": grown / 2**20,
    }


def updates(subject: Subject) -> Figures:
    """Measures the load of a usual worker: `Job` sends at most 20 updates a second."""
    return _steady(subject, rate=20, clients=1_000)


def spread(subject: Subject) -> Figures:
    return _steady(subject, rate=2, clients=10_000)


def _steady(subject: Subject, *, rate: float, clients: int) -> Figures:
    """Publishes one job to `clients` clients, as workers do: through the script in Redis."""
    count = clients // 4 if subject.run.quick else clients
    with load_on(subject, ["job:1"], [["job:1"]] * count, latest=True, published=True) as load:
        figures = figures_of(
            load.measure(rate, max(3.0, subject.seconds), deliveries_per_event=count, warm_up=1.0)
        )
    return {**figures, "cpu": 100 * figures["cpu"]}


def published_jobs(subject: Subject) -> Figures:
    """Measures like `jobs`, but publishes through the script in Redis, which runs on the
    generator's core."""
    jobs = [f"job:{n}" for n in range(1_000)]
    with load_on(subject, jobs, [[job] for job in jobs], published=True) as load:
        return _highest_rate(
            subject, load, deliveries_per_event=1, start=10 * subject.server.search_from
        )


def growth(subject: Subject) -> Figures:
    """Measures CPU and memory at ten and a hundred times as many clients, jobs, events."""
    figures: Figures = {}

    def point(line: str, x: int, *, jobs: int, clients: int, rate: float) -> None:
        names = [f"job:{n}" for n in range(jobs)]
        wanted = [[names[n % jobs]] for n in range(clients)]
        before = machine.memory(subject.run.pid)
        with load_on(subject, names, wanted) as load:
            measurement = load.measure(rate, subject.seconds, deliveries_per_event=clients / jobs)
        figures[f"{line}_{x}"] = measurement.cpu
        figures[f"{line}_{x}_p99"] = measurement.p99
        figures[f"{line}_{x}_mib"] = (machine.memory(subject.run.pid) - before) / 2**20

    for clients in (100, 1_000, 10_000):
        point("clients", clients, jobs=1, clients=clients, rate=2)
    for jobs in (10, 100, 1_000):
        point("jobs", jobs, jobs=jobs, clients=1_000, rate=10 * jobs)
    for rate in (20, 200, 2_000):
        point("rate", rate, jobs=1, clients=1_000, rate=rate)
    return figures


def _redis_reads(subject: Subject) -> int:
    client = redis.Redis(port=subject.run.ports.redis)
    calls: Any = client.info("commandstats")
    client.close()
    return int(calls.get("cmdstat_hgetall", {}).get("calls", 0))
