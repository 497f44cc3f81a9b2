"""What each workload does with a server, and which figures come out.

`measure` runs in the generator's process. A figure is a number with a name; the first of
a workload is the one that servers are compared by.
"""

from __future__ import annotations

import logging
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import redis
from attrs import frozen

from gateway import Job

from . import machine
from .load.clients import Clients
from .load.driver import Load, Span, load
from .load.feeds import Ports
from .load.posts import Posts
from .load.search import highest
from .peers import CENTRIFUGO_6
from .servers import ARRIVING, IN_MEMORY, LATEST_20, OURS, STARLETTE, Server

__all__ = ["WORKLOADS", "Figures", "Run", "Subject", "Workload"]

log = logging.getLogger("bench")

Figures = dict[str, float]

AGE = 250.0
"""Milliseconds: a rate is borne while 99 % of the events are younger."""
DELIVERED = 0.97
"""Share of what is due that must arrive in time for a rate to be borne."""


@frozen
class Run:
    """A server that runs, and how much time there is for it. Goes between processes."""

    ports: Ports
    pid: int
    log: Path
    quick: bool
    hint: float | None = None
    """The rate it bore in the rounds before."""


@frozen
class Subject:
    """What is measured: which server, and where it runs."""

    server: Server
    run: Run

    @property
    def ours(self) -> bool:
        return self.server.name.startswith(OURS.name)

    @property
    def seconds(self) -> float:
        """Of a span: at a limit of 250 ms a tenth too much shows after 2.5 s."""
        return 0.6 if self.run.quick else 3.0


@frozen
class Workload:
    name: str
    title: str
    figure: str
    """The one by which servers are compared."""
    measure: Callable[[Subject], Figures]
    shown: Sequence[str] = ()
    """What else of them is worth a column."""
    servers: Sequence[Server] | None = None
    """Who takes part, if it is not ours and every peer."""
    rounds: int = 2
    quick: bool = False
    """Whether a quick run has it."""


def _borne(subject: Subject, under: Load, *, due: float, start: float) -> Figures:
    """The highest rate that a server bears, and how it is at half of that."""
    limited = False

    def probe(rate: float) -> Span | None:
        nonlocal limited
        span = under.span(rate, subject.seconds, due=due)
        log.debug("%s: %s", subject.server.name, span)
        borne = span.p99 < AGE and span.events > DELIVERED * span.due and not under.clients.lost
        if not borne:
            limited = span.generator_limited
        return span if borne else None

    hint = subject.run.hint
    found = highest(
        probe,
        start=hint * 0.85 if hint else start,
        factor=1.2 if hint else 2.0,
        precision=1.2 if subject.run.quick else 1.08,
    )
    if found is None:  # not one event reaches all in time: what it does regardless of time
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


def _fanout(subject: Subject) -> Figures:
    jobs, clients = ["job:1"], 1_000
    with _load(subject, jobs, [jobs] * clients) as under:
        return _borne(subject, under, due=clients, start=subject.server.begin)


def _jobs(subject: Subject) -> Figures:
    jobs = [f"job:{n}" for n in range(1_000)]
    with _load(subject, jobs, [[job] for job in jobs]) as under:
        return _borne(subject, under, due=1, start=40 * subject.server.begin)


def _pages(subject: Subject) -> Figures:
    jobs = [f"job:{n}" for n in range(5_000)]
    wanted = [[jobs[(n * 37 + k * 101) % len(jobs)] for k in range(50)] for n in range(1_000)]
    with _load(subject, jobs, wanted, latest=True) as under:
        span = under.span(10_000, subject.seconds, due=10, settle=1.0)
        return _figures(span)


def _storm(subject: Subject) -> Figures:
    jobs = [f"job:{n}" for n in range(100)]
    wanted = [[jobs[n % 100]] for n in range(1_000)]
    found: Figures = {}
    rates = (2_000, 6_500, 20_000)
    server = subject.server
    # What reading the feed alone costs: one job, which is not among those published.
    with _load(subject, jobs, [["job:none"]], latest=True) as under:
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


def _idle(subject: Subject) -> Figures:
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


def _arrival(subject: Subject) -> Figures:
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


def _stuck(subject: Subject) -> Figures:
    jobs, clients = ["job:1"], 1_000
    rate = 10 * subject.server.begin if subject.ours else subject.server.begin
    with _load(subject, jobs, [jobs] * clients) as under:
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


def _updates(subject: Subject) -> Figures:
    """What workers produce: `Job` sends at most 20 updates a second."""
    return _steady(subject, rate=20, clients=1_000)


def _spread(subject: Subject) -> Figures:
    return _steady(subject, rate=2, clients=10_000)


def _steady(subject: Subject, *, rate: float, clients: int) -> Figures:
    """One job, through the way that publishers take, to so many clients."""
    count = clients // 4 if subject.run.quick else clients
    with _load(subject, ["job:1"], [["job:1"]] * count, latest=True, published=True) as under:
        found = _figures(under.span(rate, max(3.0, subject.seconds), due=count, settle=1.0))
    return {**found, "cpu": 100 * found["cpu"]}


def _published_jobs(subject: Subject) -> Figures:
    """`jobs`, as publishers publish: through the script in Redis, on the generator's core."""
    jobs = [f"job:{n}" for n in range(1_000)]
    with _load(subject, jobs, [[job] for job in jobs], published=True) as under:
        return _borne(subject, under, due=1, start=10 * subject.server.begin)


def _posts(subject: Subject) -> Figures:
    """Updates over HTTP: one a request, a hundred a request, and one a request while 1,000
    clients watch the job that they are about."""
    post = subject.server.post
    if post is None:
        raise NotImplementedError("it takes no HTTP requests here")
    port, seconds = subject.run.ports.server, max(3.0, subject.seconds)
    single = _answered(Posts(port, lambda n: post(n, 1), connections=32), seconds)
    found = {"per_second": single.per_second, "p99": single.p99}
    if subject.server is STARLETTE:
        return found
    batches = _answered(Posts(port, lambda n: post(n, 100), connections=4), seconds)
    found["in_batches"] = 100 * batches.per_second
    jobs = ["job:1"]
    clients = Clients(port, subject.server.latest)
    try:
        clients.connect([jobs] * 1_000)
        posts = Posts(port, lambda n: post(n, 1), connections=32)
        busy = _answered(posts, seconds, meanwhile=lambda: clients.poll())
        return {**found, "watched": busy.per_second, "watched_p99": busy.p99}
    finally:
        clients.close()


@frozen
class _Answered:
    per_second: float
    p99: float
    """Milliseconds from a request to its answer."""


def _answered(
    posts: Posts, seconds: float, *, meanwhile: Callable[[], object] = lambda: None
) -> _Answered:
    try:
        began = time.monotonic()
        while (now := time.monotonic()) < began + seconds:
            posts.poll(0.002)
            meanwhile()
        return _Answered(posts.answered / (now - began), posts.times.percentile(99))
    finally:
        posts.close()


def _publish(subject: Subject) -> Figures:
    """What one update costs Redis, and what `Job.update()` costs a worker."""
    found = _posts(subject)
    client = redis.Redis(port=subject.run.ports.redis)
    calls: Any = client.info("commandstats")
    client.close()
    found["updates"] = _updates_per_second(subject)
    found["redis_us"] = calls["cmdstat_evalsha"]["usec_per_call"]
    return found


def _updates_per_second(subject: Subject, *, calls: int = 200_000) -> float:
    with Job("job:2", total=calls, url=f"http://127.0.0.1:{subject.run.ports.server}") as job:
        began = time.perf_counter()
        for done in range(calls):
            job.update(done=done)
        took = time.perf_counter() - began
    return calls / took


def _start(subject: Subject) -> Figures:
    """Our own two beginnings; the server that runs already is left alone."""
    serving: list[float] = []
    importing: list[float] = []
    port = machine.free_port()
    ports = Ports(port, subject.run.ports.redis)
    for _ in range(3):
        began = time.monotonic()
        with machine.run_program(
            OURS.start(ports).arguments,
            core=machine.SERVER_CORE,
            ready=lambda: _is_ready(port),
            log=subject.run.log.with_suffix(".start.log"),
        ):
            serving.append(time.monotonic() - began)
        with machine.on_core(machine.SERVER_CORE):
            importing.append(_seconds_of("import gateway") - _seconds_of("pass"))
    return {
        "serve_ms": 1000 * statistics.median(serving),
        "import_ms": 1000 * statistics.median(importing),
    }


def _seconds_of(code: str) -> float:
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.monotonic() - began


def _is_ready(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as sock:
            sock.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            return sock.recv(64).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def _growth(subject: Subject) -> Figures:
    """CPU and memory at ten and a hundred times as many clients, jobs, events."""
    found: Figures = {}

    def point(line: str, x: int, *, jobs: int, clients: int, rate: float) -> None:
        names = [f"job:{n}" for n in range(jobs)]
        wanted = [[names[n % jobs]] for n in range(clients)]
        before = machine.memory(subject.run.pid)
        with _load(subject, names, wanted) as under:
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


def _load(
    subject: Subject,
    jobs: Sequence[str],
    wanted: Sequence[Sequence[str]],
    *,
    latest: bool = False,
    published: bool = False,
) -> AbstractContextManager[Load]:
    server = subject.server
    return load(
        subject.run.ports,
        pid=subject.run.pid,
        feed=server.publish or server.feed if published else server.feed,
        dialect=server.latest if latest else server.every,
        jobs=jobs,
        wanted=wanted,
    )


def _redis_reads(subject: Subject) -> int:
    client = redis.Redis(port=subject.run.ports.redis)
    calls: Any = client.info("commandstats")
    client.close()
    return int(calls.get("cmdstat_hgetall", {}).get("calls", 0))


def _figures(span: Span) -> Figures:
    return {
        "per_second": span.per_second,
        "p99": span.p99,
        "p50": span.p50,
        "cpu": span.cpu,
        "generator": span.generator,
        "generator_limited": float(span.generator_limited),
    }


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload(
            *("updates", "20 updates a second to 1,000 clients", "cpu", _updates),
            shown=["p50", "p99"],
            rounds=3,
            quick=True,
        ),
        Workload(
            *("spread", "2 updates a second to 10,000 clients", "cpu", _spread),
            shown=["p50", "p99"],
            quick=True,
        ),
        Workload(
            *("posts", "updates over HTTP, without a Redis", "per_second", _posts),
            shown=["in_batches", "watched", "watched_p99"],
            servers=[IN_MEMORY, CENTRIFUGO_6, STARLETTE],
            quick=True,
        ),
        Workload(
            *("published", "1,000 jobs, 1 client each, through the script", "per_second"),
            _published_jobs,
            servers=[OURS],
        ),
        Workload(
            "fanout",
            "1 job, 1,000 clients, every event",
            "per_second",
            _fanout,
            shown=["p99", "half_p99"],
            rounds=1,
            quick=True,
        ),
        Workload(
            "jobs",
            "1,000 jobs, 1 client each, every event",
            "per_second",
            _jobs,
            shown=["p99", "half_p99"],
            quick=True,
        ),
        Workload(
            "pages",
            "1,000 clients, 50 of 5,000 jobs each",
            "per_second",
            _pages,
            shown=["p99", "cpu"],
        ),
        Workload("stuck", "a tenth of the clients stops reading", "ratio", _stuck, servers=[OURS]),
        Workload("arrival", "2,000 clients come at once", "per_second", _arrival, quick=True),
        Workload("idle", "10,000 connections, one job each", "kib", _idle, rounds=1, quick=True),
        Workload(
            *("storm", "100 jobs, up to 20,000 updates a second", "p99", _storm),
            servers=[OURS],
        ),
        Workload(
            *("publish", "updates over HTTP, into Redis", "per_second", _publish),
            servers=[OURS],
        ),
        Workload("start", "how long it takes to begin", "serve_ms", _start, servers=[OURS]),
        Workload("growth", "ten times more", "clients_1000", _growth, servers=[OURS], rounds=1),
    )
}
LESS_IS_BETTER = {"cpu", "ratio", "kib", "p99", "serve_ms", "clients_1000"}
