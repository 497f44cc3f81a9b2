"""The subject of a workload: one running server, and the load on it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from attrs import frozen

from .load.driver import Load, Measurement, open_load
from .load.feeds import Ports
from .servers import OURS, Server

__all__ = ["Figures", "Run", "Subject", "figures_of", "load_on"]

Figures = dict[str, float]


@frozen
class Run:
    """A running server, and whether the run is quick. It is passed between processes."""

    ports: Ports
    pid: int
    log: Path
    quick: bool
    earlier_rate: float | None = None
    """The median rate that the server sustained in earlier rounds."""


@frozen
class Subject:
    """A server, and where it runs."""

    server: Server
    run: Run

    @property
    def ours(self) -> bool:
        return self.server.name.startswith(OURS.name)

    @property
    def seconds(self) -> float:
        """The length of a measurement: a rate that is 10 % too high exceeds a limit of 250 ms after
        2.5 s."""
        return 0.6 if self.run.quick else 3.0


def load_on(
    subject: Subject,
    jobs: Sequence[str],
    wanted: Sequence[Sequence[str]],
    *,
    latest: bool = False,
    published: bool = False,
) -> AbstractContextManager[Load]:
    """Opens clients of the server that watch `wanted`, and a feed that publishes `jobs`.

    Args:
        latest: Whether the clients get the newest state only.
        published: Whether the feed publishes as workers do, through the script in Redis.
    """
    server = subject.server
    return open_load(
        subject.run.ports,
        pid=subject.run.pid,
        feed=server.publish or server.feed if published else server.feed,
        dialect=server.latest if latest else server.every,
        jobs=jobs,
        wanted=wanted,
    )


def figures_of(measurement: Measurement) -> Figures:
    return {
        "per_second": measurement.per_second,
        "p99": measurement.p99,
        "p50": measurement.p50,
        "cpu": measurement.cpu,
        "generator": measurement.generator_cpu,
        "generator_limited": float(measurement.generator_limited),
    }
