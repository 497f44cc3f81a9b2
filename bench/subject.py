"""What a workload measures: one server that runs, and the load that is put on it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from attrs import frozen

from .load.driver import Load, Span, load
from .load.feeds import Ports
from .servers import OURS, Server

__all__ = ["Figures", "Run", "Subject", "figures_of", "load_on"]

Figures = dict[str, float]


@frozen
class Run:
    """A server that runs, and how much time there is for it. Goes between processes."""

    ports: Ports
    pid: int
    log: Path
    quick: bool
    hint: float | None = None
    """The rate that it sustained in the rounds before."""


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
        """Length of a span: a rate that is 10 % too high exceeds a limit of 250 ms after 2.5 s."""
        return 0.6 if self.run.quick else 3.0


def load_on(
    subject: Subject,
    jobs: Sequence[str],
    wanted: Sequence[Sequence[str]],
    *,
    latest: bool = False,
    published: bool = False,
) -> AbstractContextManager[Load]:
    """Clients of the server that watch `wanted`, and a feed that publishes `jobs`.

    Args:
        latest: Whether the clients get the newest state only.
        published: Whether the feed takes the way of publishers.
    """
    server = subject.server
    return load(
        subject.run.ports,
        pid=subject.run.pid,
        feed=server.publish or server.feed if published else server.feed,
        dialect=server.latest if latest else server.every,
        jobs=jobs,
        wanted=wanted,
    )


def figures_of(span: Span) -> Figures:
    return {
        "per_second": span.per_second,
        "p99": span.p99,
        "p50": span.p50,
        "cpu": span.cpu,
        "generator": span.generator,
        "generator_limited": float(span.generator_limited),
    }
