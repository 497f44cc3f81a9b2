"""Workloads that measure how the gateway receives updates."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import redis
from attrs import frozen

from gateway import Job

from .load.clients import Clients
from .load.posts import Posts
from .servers import STARLETTE
from .subject import Figures, Subject

__all__ = ["posts", "publish"]


def posts(subject: Subject) -> Figures:
    """Publishes over HTTP: one update per request, a hundred per request, and one per request while
    1,000 clients watch the job."""
    post = subject.server.post
    if post is None:
        raise NotImplementedError("this server has no HTTP requests that publish")
    port, seconds = subject.run.ports.server, max(3.0, subject.seconds)
    single = _answered(Posts(port, lambda n: post(n, 1), connections=32), seconds)
    figures = {"per_second": single.per_second, "p99": single.p99}
    if subject.server is STARLETTE:
        return figures
    batches = _answered(Posts(port, lambda n: post(n, 100), connections=4), seconds)
    figures["in_batches"] = 100 * batches.per_second
    jobs = ["job:1"]
    clients = Clients(port, subject.server.latest)
    try:
        clients.connect([jobs] * 1_000)
        single_posts = Posts(port, lambda n: post(n, 1), connections=32)
        busy = _answered(single_posts, seconds, meanwhile=lambda: clients.poll())
        return {**figures, "watched": busy.per_second, "watched_p99": busy.p99}
    finally:
        clients.close()


@frozen
class _Answered:
    per_second: float
    p99: float
    """Milliseconds from a request to its response."""


def _answered(
    requests: Posts, seconds: float, *, meanwhile: Callable[[], object] = lambda: None
) -> _Answered:
    try:
        began = time.monotonic()
        while (now := time.monotonic()) < began + seconds:
            requests.poll(0.002)
            meanwhile()
        return _Answered(requests.answered / (now - began), requests.times.percentile(99))
    finally:
        requests.close()


def publish(subject: Subject) -> Figures:
    """Measures what one update costs Redis, and what `Job.update()` costs a worker."""
    figures = posts(subject)
    client = redis.Redis(port=subject.run.ports.redis)
    calls: Any = client.info("commandstats")
    client.close()
    figures["updates"] = _updates_per_second(subject)
    figures["redis_us"] = calls["cmdstat_evalsha"]["usec_per_call"]
    return figures


def _updates_per_second(subject: Subject, *, calls: int = 200_000) -> float:
    with Job("job:2", total=calls, url=f"http://127.0.0.1:{subject.run.ports.server}") as job:
        began = time.perf_counter()
        for done in range(calls):
            job.update(done=done)
        took = time.perf_counter() - began
    return calls / took
