"""Runs the demo: a gateway in this process, its workers, and the output in the terminal."""

from __future__ import annotations

import time
from functools import partial

import trio
from attrs import field, frozen
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from ..brokers import open_broker
from ..cli.signals import run_until_signal
from ..cli.watch.format import describe
from ..model.errors import InvalidSettings
from ..model.limits import Limits
from ..server import Gateway, serve_gateway
from .jobs import JOBS, DemoJob
from .runner import Attempt, WorkerLimit, run_once

__all__ = ["run_demo"]

MAX_WORKERS = 2  # workers at the same time, because the machine is used for other things too
RERUN_PAUSE = 5.0  # seconds between two attempts at a job, so that its final state can be seen
SHUTDOWN_TIMEOUT = 3.0  # seconds to drain after Ctrl-C
READY_TIMEOUT = 10.0  # seconds
ANY_PORT = "127.0.0.1:0"


def run_demo(
    bind: str, *, any_port: bool, once: bool, quick: bool, broker_url: str | None = None
) -> int:
    """Runs the demo until a signal, or once; returns the exit code.

    With `any_port`, another port is used if `bind` is in use. With `quick`, the workers work on
    fewer files. `broker_url` is the URL of a Redis
    for the gateway and the workers. Raises `InvalidSettings`, `BrokerUnavailable`.
    """
    console = Console(highlight=False)
    attempts: list[Attempt] = []
    context = _Context(console, broker_url=broker_url, once=once, quick=quick)
    signal = run_until_signal(partial(_demo, context, bind, any_port=any_port, attempts=attempts))
    if not once:
        return 0
    if signal is not None:
        return 128 + signal
    console.print(_table(attempts))
    return 0 if all(attempt.as_expected for attempt in attempts) else 1


@frozen
class _Context:
    """The objects that all modules of the demo use."""

    console: Console
    broker_url: str | None = field(kw_only=True)
    once: bool = field(kw_only=True)
    quick: bool = field(kw_only=True)


async def _demo(context: _Context, bind: str, *, any_port: bool, attempts: list[Attempt]) -> None:
    async with trio.open_nursery() as nursery:
        try:
            gateway, server_scope = await _serve(nursery, bind, context.broker_url)
        except InvalidSettings as error:
            if not any_port:
                raise
            context.console.print(f"{error}; using another port", style="yellow", markup=False)
            gateway, server_scope = await _serve(nursery, ANY_PORT, context.broker_url)
        context.console.print(_welcome(gateway, once=context.once))
        # It stops after the workers, so that they can report their final states.
        server_scope.shield = True
        try:
            worker_limit = WorkerLimit(MAX_WORKERS)
            async with trio.open_nursery() as workers:
                for job in JOBS:
                    # `start` and not `start_soon`, so that the workers wait for the limit in the
                    # order of `JOBS`.
                    await workers.start(
                        partial(_run, context, job, gateway, worker_limit, attempts)
                    )
        finally:
            server_scope.cancel()


async def _serve(
    nursery: trio.Nursery, bind: str, broker_url: str | None
) -> tuple[Gateway, trio.CancelScope]:
    """Starts the gateway in `nursery`, with its own cancel scope."""
    scope = trio.CancelScope()
    limits = Limits(shutdown_timeout=SHUTDOWN_TIMEOUT)
    broker = open_broker(broker_url, limits)

    async def serve(*, task_status: trio.TaskStatus[Gateway]) -> None:
        with scope:
            await serve_gateway(bind, broker, limits, task_status=task_status)

    gateway: Gateway = await nursery.start(serve)
    with trio.move_on_after(READY_TIMEOUT):  # other nodes may restore states first
        while gateway.node.not_ready_reason is not None:  # noqa: ASYNC110 - once, at the start
            await trio.sleep(0.05)
    return gateway, scope


async def _run(
    context: _Context,
    job: DemoJob,
    gateway: Gateway,
    worker_limit: WorkerLimit,
    attempts: list[Attempt],
    *,
    task_status: trio.TaskStatus[None],
) -> None:
    """Runs a job once or repeatedly. Reports to be started when it waits for the limit."""
    task_status.started()
    while True:
        url = context.broker_url or gateway.url  # where the worker reports
        attempt = await run_once(
            job, gateway.node.broker, url=url, quick=context.quick, worker_limit=worker_limit
        )
        if context.once:
            attempts.append(attempt)
        context.console.print(_line(attempt))
        if context.once:
            return
        await trio.sleep(RERUN_PAUSE)


def _welcome(gateway: Gateway, *, once: bool) -> Panel:
    text = Text.assemble(
        "Open ",
        (f"{gateway.url}/", "bold underline cyan"),
        " in a browser\n\n",
        (
            "Workers hash, compress, parse and index your Python installation.\n"
            "One is a group that you can stop. One fails, and one is killed, on purpose.\n",
            "dim",
        ),
        ("Each job runs once." if once else "They run until you press Ctrl-C.", "dim"),
    )
    return Panel(text, title="progress-gateway", expand=False, padding=(1, 3))


def _line(attempt: Attempt) -> Text:
    """Returns a line about the end of an attempt, with the worker's stderr if it was unexpected."""
    view = describe(attempt.state, now=time.time())
    style = "green" if attempt.as_expected else "bold red"
    parts = [view.word, view.attempt_text, view.time, view.text]
    line = Text.assemble(
        (f"{view.icon} ", style), (attempt.job.name, "bold"), "  ", " · ".join(filter(None, parts))
    )
    if not attempt.as_expected:
        line.append(f"\n  It should have {_expected(attempt.job)}. {attempt.stderr}", style)
    return line


def _expected(job: DemoJob) -> str:
    return "been lost" if job.ending == "lost" else job.ending


def _table(attempts: list[Attempt]) -> Table:
    table = Table(title="How the jobs ended", title_justify="left", title_style="bold")
    table.add_column("Job", no_wrap=True)
    table.add_column("Ended", no_wrap=True)
    table.add_column("As expected")
    table.add_column("Result", overflow="fold")
    for attempt in sorted(attempts, key=lambda attempt: JOBS.index(attempt.job)):
        view = describe(attempt.state, now=time.time())
        verdict = Text("yes", "green") if attempt.as_expected else Text("no", "bold red")
        text = " · ".join(filter(None, [view.time, view.text]))
        table.add_row(attempt.job.name, f"{view.icon} {view.word}", verdict, text)
    return table
