"""Runs the rounds, alternating between the servers (A B C A B C), so that a machine that becomes
slower affects all servers."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from os import getloadavg, sched_setaffinity
from pathlib import Path

from attrs import define, field, frozen

from . import machine
from .load.feeds import Ports
from .peers import EVERYONE
from .servers import CACHE, Server, Unavailable
from .subject import Figures, Run, Subject
from .workloads import WORKLOADS, Workload

__all__ = ["Outcome", "Results", "Step", "measure"]


Generate = Callable[[str, str, Run], Figures]
"""Measures a workload with a server; both are given by name."""


@frozen
class Outcome:
    """The outcome of one server in one workload."""

    rounds: Sequence[Figures]
    failed: str | None = None
    """Why there are no metrics, or no further ones."""

    @property
    def medians(self) -> Figures:
        names = self.rounds[0] if self.rounds else {}
        return {name: statistics.median(figures[name] for figures in self.rounds) for name in names}


@define
class Results:
    """The outcomes by workload and server."""

    outcomes: dict[str, dict[str, Outcome]] = field(factory=dict)
    skipped: dict[str, str] = field(factory=dict)
    """Servers that could not be installed or started, and why."""
    load: float = field(factory=lambda: getloadavg()[0])
    """The load average before the run."""


@frozen
class Step:
    """The current step of the run, for a progress display."""

    description: str
    done: int
    of: int


def measure(
    workloads: Sequence[Workload],
    servers: Sequence[Server],
    *,
    quick: bool,
    report: Callable[[Step], None],
) -> Results:
    """Runs all workloads with all servers. Raises `DidNotStart` if there is no Redis."""
    CACHE.mkdir(exist_ok=True)
    results = Results()
    present = list(_installed(servers, results, report))
    plan = [
        (workload, round_, server)
        for workload in workloads
        for round_ in range(1 if quick else workload.rounds)
        for server in workload.servers or present
        if round_ == 0 or server.tier < 3 or workload.servers
    ]
    with _generator() as generate:
        for done, (workload, _, server) in enumerate(plan):
            report(Step(f"{workload.name}: {server.name}", done, len(plan)))
            outcomes = results.outcomes.setdefault(workload.name, {})
            earlier = outcomes.get(server.name, Outcome([]))
            if earlier.failed:
                continue
            try:
                figures = _round(workload, server, earlier, quick=quick, generate=generate)
                outcomes[server.name] = Outcome([*earlier.rounds, figures])
            except Exception as error:  # noqa: BLE001 - a peer that fails is a result
                why = f"{type(error).__name__}: {error}"
                outcomes[server.name] = Outcome(earlier.rounds, why)
    report(Step("done", len(plan), len(plan)))
    return results


def _installed(
    servers: Sequence[Server], results: Results, report: Callable[[Step], None]
) -> Iterator[Server]:
    for number, server in enumerate(servers):
        report(Step(f"install {server.name}", number, len(servers)))
        try:
            server.install()
        except Unavailable as error:
            results.skipped[server.name] = str(error)
        else:
            yield server


def _round(
    workload: Workload,
    server: Server,
    earlier: Outcome,
    *,
    quick: bool,
    generate: Generate,
) -> Figures:
    """Starts one server and a Redis, measures the workload, and stops both."""
    port = machine.free_port(3)
    ports = Ports(server=port, redis=port + 2)
    command = server.start(ports)
    log = CACHE / f"{server.name.replace(' ', '-')}.log"
    with (
        _redis(ports.redis),
        machine.run_program(
            command.arguments,
            core=machine.SERVER_CORE,
            ready=lambda: machine.takes_connections(ports.server),
            log=log,
            env=command.env,
        ) as process,
    ):
        earlier_rate = (
            statistics.median(f["rate"] for f in earlier.rounds) if _has_rate(earlier) else None
        )
        run = Run(ports, process.pid, log=log, quick=quick, earlier_rate=earlier_rate)
        return generate(workload.name, server.name, run)


def _has_rate(earlier: Outcome) -> bool:
    return bool(earlier.rounds) and all("rate" in figures for figures in earlier.rounds)


@contextmanager
def _redis(port: int) -> Iterator[None]:
    """Runs a Redis without persistence on the core of the generator."""
    program = shutil.which("redis-server")
    if program is None:
        raise machine.DidNotStart("redis-server is not on the PATH")
    with tempfile.TemporaryDirectory() as directory:
        arguments = [
            *(program, "--port", str(port), "--bind", "127.0.0.1", "--save", ""),
            *("--appendonly", "no", "--dir", directory),
        ]
        with machine.run_program(
            arguments,
            core=machine.GENERATOR_CORE,
            ready=lambda: machine.takes_connections(port),
            log=Path(directory) / "log",
        ):
            yield


@contextmanager
def _generator() -> Iterator[Generate]:
    """Runs a process on a core of its own, in which workloads are measured."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, initializer=_prepare) as executor:
        yield lambda *names_and_run: executor.submit(_measure, *names_and_run).result()


def _prepare() -> None:
    sched_setaffinity(0, {machine.GENERATOR_CORE})
    logging.basicConfig(filename=CACHE / "generator.log", filemode="w", level=logging.DEBUG)


def _measure(workload: str, server: str, run: Run) -> Figures:
    gc.collect()
    gc.disable()  # a pause of the generator would look like one of the server
    try:
        return WORKLOADS[workload].measure(Subject(EVERYONE[server], run))
    finally:
        gc.enable()
