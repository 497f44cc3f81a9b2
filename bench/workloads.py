"""The workloads: what is measured, with which servers, and which metrics are shown.

`Workload.measure` runs in the process of the generator and returns the values of all metrics.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attrs import frozen

from . import delivery, publishing, starting
from .peers import CENTRIFUGO_6
from .servers import IN_MEMORY, OURS, STARLETTE, Server
from .subject import Figures, Subject

__all__ = ["LESS_IS_BETTER", "WORKLOADS", "Workload"]


@frozen
class Workload:
    """A measurement of one server, with its metrics."""

    name: str
    title: str
    main_metric: str
    """The metric by which servers are compared."""
    measure: Callable[[Subject], Figures]
    other_metrics: Sequence[str] = ()
    """The other metrics that get a column."""
    servers: Sequence[Server] | None = None
    """The servers that are measured. Default: the gateway and all peers."""
    rounds: int = 2
    quick: bool = False
    """Whether a quick run includes it."""


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload(
            *("updates", "20 updates a second to 1,000 clients", "cpu"),
            delivery.updates,
            other_metrics=["p50", "p99"],
            rounds=3,
            quick=True,
        ),
        Workload(
            *("spread", "2 updates a second to 10,000 clients", "cpu"),
            delivery.spread,
            other_metrics=["p50", "p99"],
            quick=True,
        ),
        Workload(
            *("posts", "updates over HTTP, without a Redis", "per_second"),
            publishing.posts,
            other_metrics=["in_batches", "watched", "watched_p99"],
            servers=[IN_MEMORY, CENTRIFUGO_6, STARLETTE],
            quick=True,
        ),
        Workload(
            *("published", "1,000 jobs, 1 client each, through the script", "per_second"),
            delivery.published_jobs,
            servers=[OURS],
        ),
        Workload(
            *("fanout", "1 job, 1,000 clients, every event", "per_second"),
            delivery.fanout,
            other_metrics=["p99", "half_p99"],
            rounds=1,
            quick=True,
        ),
        Workload(
            *("jobs", "1,000 jobs, 1 client each, every event", "per_second"),
            delivery.jobs,
            other_metrics=["p99", "half_p99"],
            quick=True,
        ),
        Workload(
            *("pages", "1,000 clients, 50 of 5,000 jobs each", "per_second"),
            delivery.pages,
            other_metrics=["p99", "cpu"],
        ),
        Workload(
            *("stuck", "a tenth of the clients does not read", "ratio"),
            delivery.stuck,
            servers=[OURS],
        ),
        Workload(
            *("arrival", "2,000 clients connect at once", "per_second"),
            delivery.arrival,
            quick=True,
        ),
        Workload(
            *("idle", "10,000 connections, one job each", "kib"),
            delivery.idle,
            rounds=1,
            quick=True,
        ),
        Workload(
            *("storm", "100 jobs, up to 20,000 updates a second", "p99"),
            delivery.storm,
            servers=[OURS],
        ),
        Workload(
            *("publish", "updates over HTTP, into Redis", "per_second"),
            publishing.publish,
            servers=[OURS],
        ),
        Workload(
            *("start", "the time until the gateway serves", "serve_ms"),
            starting.start,
            servers=[OURS],
        ),
        Workload(
            *("growth", "ten times as many", "clients_1000"),
            delivery.growth,
            servers=[OURS],
            rounds=1,
        ),
    )
}
LESS_IS_BETTER = {"cpu", "ratio", "kib", "p99", "serve_ms", "clients_1000"}
