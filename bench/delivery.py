"""Workloads that measure the way of events from the feed to the clients."""

from __future__ import annotations

import logging
from typing import Any

import redis

from . import machine
from .load.clients import Clients
from .load.driver import Load, Span, load
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
"""Milliseconds: a server sustains a rate while 99 % of the events are younger."""
DELIVERED = 0.97
"""The share of the due events that must arrive in time for a rate to be sustained."""


def _highest_rate(subject: Subject, under: Load, *, due: float, start: float) -> Figures:
    """The highest rate that the server sustains, and its figures at half of that."""
    limited = False

    def probe(rate: float) -> Span | None:
        nonlocal limited
        span = under.span(rate, subject.seconds, due=due)
        log.debug("%s: %s", subject.server.name, span)
        sustained = span.p99 < AGE and span.events > DELIVERED * span.due and not under.clients.lost
        if not sustained:
            limited = span.generator_limited
        return span if sustained else None

    hint = subject.run.hint
    found = highest(
        probe,
        start=hint * 0.85 if hint else start,
        factor=1.2 if hint else 2.0,
        precision=1.2 if subject.run.quick else 1.08,
    )
    if found is None:  # no rate was sustained: its throughput, however late the events are
        return {"per_second": under.throughput(start, round(2 * start) or 1)}
    rate, best = found
    half = under.span(rate / 2, subject.seconds, due=due)
    return {
        "per_second": best.per_second,
        "p99": best.p99,
        "half_p99": half.p99,
        "half_cpu": half.cpu,
        "half_generator": half.generator,
        "rate": rate,
        "cpu": best.cpu,
        "generator": best.generator,
        "generator_limited": float(limited),
    }


def fanout(subject: Subject) -> Figures:
    jobs, clients = ["job:1"], 1_000
    with load_on(subject, jobs, [jobs] * clients) as under:
        return _highest_rate(subject, under, due=clients, start=subject.server.begin)


def jobs(subject: Subject) -> Figures:
    jobs = [f"job:{n}" for n in range(1_000)]
    with load_on(subject, jobs, [[job] for job in jobs]) as under:
        return _highest_rate(subject, under, due=1, start=40 * subject.server.begin)


def pages(subject: Subject) -> Figures:
    jobs = [f"job:{n}" for n in range(5_000)]
    wanted = [[jobs[(n * 37 + k * 101) % len(jobs)] for k in range(50)] for n in range(1_000)]
    with load_on(subject, jobs, wanted, latest=True) as under:
        span = under.span(10_000, subject.seconds, due=10, settle=1.0)
        return figures_of(span)


def storm(subject: Subject) -> Figures:
    jobs = [f"job:{n}" for n in range(100)]
    wanted = [[jobs[n % 100]] for n in range(1_000)]
    found: Figures = {}
    rates = (2_000, 6_500, 20_000)
    server = subject.server
    # What reading the feed alone costs: one job, which is not among those published.
    with load_on(subject, jobs, [["job:none"]], latest=True) as under:
        alone = [under.span(rate, subject.seconds, due=0).cpu for rate in rates]
    with load(
        subject.run.ports,
        pid=subject.run.pid,
        feed=server.feed,
        dialect=LATEST_20 if subject.ours else server.latest,
        jobs=jobs,
        wanted=wanted,
    ) as under:
        spans = [under.span(rate, subject.seconds, due=10) for rate in rates]
    for rate, span, reading in zip(rates, spans, alone, strict=True):
        found[f"p99_{rate}"] = span.p99
        found[f"cpu_{rate}"] = span.cpu
        found[f"reading_{rate}"] = reading
    found["p99"] = max(span.p99 for span in spans)
    found["growth"] = (spans[-1].cpu - spans[0].cpu) - (alone[-1] - alone[0])
    found["generator_limited"] = float(any(span.generator_limited for span in spans))
    return found


def idle(subject: Subject) -> Figures:
    count = 2_000 if subject.run.quick else 10_000
    before = machine.memory(subject.run.pid)
    jobs = [f"job:{n}" for n in range(count)]
    with load(
        subject.run.ports,
        pid=subject.run.pid,
        feed=subject.server.feed,
        dialect=subject.server.latest,
        jobs=["job:0"],
        wanted=[[job] for job in jobs],
    ) as under:
        under.idle(1.0)
        held = machine.memory(subject.run.pid) - before
        if not subject.ours:
            return {"kib": held / count / 1024}
        used = machine.cpu_seconds(subject.run.pid)
        # The whole of a heartbeat's period, pings at its end included.
        seconds = 5.0 if subject.run.quick else 30.0
        under.idle(seconds)
        used = machine.cpu_seconds(subject.run.pid) - used
        return {"kib": held / count / 1024, "cpu": used / seconds, "lost": under.clients.lost}


def arrival(subject: Subject) -> Figures:
    jobs, count = ["job:1"], 2_000
    subject.server.feed(subject.run.ports, jobs).socket.close()  # the job exists
    reads = _redis_reads(subject)
    clients = Clients(subject.run.ports.server, ARRIVING if subject.ours else subject.server.every)
    try:
        took = clients.connect([jobs] * count)
    finally:
        clients.close()
    found = {"per_second": count / took}
    if subject.ours:
        # Of the job's snapshot; a probe published meanwhile has its script read one more.
        found["reads"] = _redis_reads(subject) - reads
    return found


def stuck(subject: Subject) -> Figures:
    jobs, clients = ["job:1"], 1_000
    rate = 10 * subject.server.begin if subject.ours else subject.server.begin
    with load_on(subject, jobs, [jobs] * clients) as under:
        without = under.span(rate, subject.seconds, due=clients)
        before = machine.memory(subject.run.pid)
        under.clients.stop_reading(0.1)
        with_stuck = under.span(rate, subject.seconds, due=0.9 * clients)
        grown = machine.memory(subject.run.pid) - before
    return {
        "ratio": with_stuck.p99 / max(without.p99, 1.0),
        "p99": with_stuck.p99,
        "p99_without": without.p99,
        "rate": rate,
        "grown_mib": grown / 2**20,
    }


def updates(subject: Subject) -> Figures:
    """What workers produce: `Job` sends at most 20 updates a second."""
    return _steady(subject, rate=20, clients=1_000)


def spread(subject: Subject) -> Figures:
    return _steady(subject, rate=2, clients=10_000)


def _steady(subject: Subject, *, rate: float, clients: int) -> Figures:
    """One job, through the way that publishers take, to so many clients."""
    count = clients // 4 if subject.run.quick else clients
    with load_on(subject, ["job:1"], [["job:1"]] * count, latest=True, published=True) as under:
        found = figures_of(under.span(rate, max(3.0, subject.seconds), due=count, settle=1.0))
    return {**found, "cpu": 100 * found["cpu"]}


def published_jobs(subject: Subject) -> Figures:
    """`jobs`, as publishers publish: through the script in Redis, on the generator's core."""
    jobs = [f"job:{n}" for n in range(1_000)]
    with load_on(subject, jobs, [[job] for job in jobs], published=True) as under:
        return _highest_rate(subject, under, due=1, start=10 * subject.server.begin)


def growth(subject: Subject) -> Figures:
    """CPU and memory at ten and a hundred times as many clients, jobs, events."""
    found: Figures = {}

    def point(line: str, x: int, *, jobs: int, clients: int, rate: float) -> None:
        names = [f"job:{n}" for n in range(jobs)]
        wanted = [[names[n % jobs]] for n in range(clients)]
        before = machine.memory(subject.run.pid)
        with load_on(subject, names, wanted) as under:
            span = under.span(rate, subject.seconds, due=clients / jobs)
        found[f"{line}_{x}"] = span.cpu
        found[f"{line}_{x}_p99"] = span.p99
        found[f"{line}_{x}_mib"] = (machine.memory(subject.run.pid) - before) / 2**20

    for clients in (100, 1_000, 10_000):
        point("clients", clients, jobs=1, clients=clients, rate=2)
    for jobs in (10, 100, 1_000):
        point("jobs", jobs, jobs=jobs, clients=1_000, rate=10 * jobs)
    for rate in (20, 200, 2_000):
        point("rate", rate, jobs=1, clients=1_000, rate=rate)
    return found


def _redis_reads(subject: Subject) -> int:
    client = redis.Redis(port=subject.run.ports.redis)
    calls: Any = client.info("commandstats")
    client.close()
    return int(calls.get("cmdstat_hgetall", {}).get("calls", 0))
