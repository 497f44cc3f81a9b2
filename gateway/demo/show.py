"""The demo as a whole: a gateway in this process, its workers, and words in the terminal."""

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
from ..cli.signals import run_until_told
from ..cli.view import describe
from ..errors import InvalidSettings
from ..limits import Limits
from ..server import Gateway, serve_gateway
from .jobs import JOBS, DemoJob
from .runner import AtOnce, Attempt, run_once

__all__ = ["run_demo"]

AT_ONCE = 2  # workers: the machine belongs to somebody
PAUSE = 5.0  # seconds between two attempts at a job, so that its end can be seen
DRAIN = 3.0  # seconds: whoever pressed Ctrl-C waits for it
ANY_PORT = "127.0.0.1:0"


def run_demo(bind: str, *, any_port: bool, once: bool, redis: str | None = None) -> int:
    """Run it until told to stop, or once; returns the exit code.

    `any_port`: if `bind` is taken, another port will do. `redis` is the URL of one, for
    the gateway and for the workers. Raises `InvalidSettings`, `BrokerUnavailable`.
    """
    console = Console(highlight=False)
    attempts: list[Attempt] = []
    stage = _Stage(console, redis=redis, once=once)
    signal = run_until_told(partial(_demo, stage, bind, any_port=any_port, attempts=attempts))
    if not once:
        return 0
    if signal is not None:
        return 128 + signal
    console.print(_table(attempts))
    return 0 if all(attempt.good for attempt in attempts) else 1


@frozen
class _Stage:
    """What all of the demo has in common."""

    console: Console
    redis: str | None = field(kw_only=True)
    once: bool = field(kw_only=True)


async def _demo(stage: _Stage, bind: str, *, any_port: bool, attempts: list[Attempt]) -> None:
    async with trio.open_nursery() as nursery:
        try:
            gateway, serving = await _serve(nursery, bind, stage.redis)
        except InvalidSettings as error:
            if not any_port:
                raise
            stage.console.print(f"{error}; taking another port", style="yellow", markup=False)
            gateway, serving = await _serve(nursery, ANY_PORT, stage.redis)
        stage.console.print(_welcome(gateway, once=stage.once))
        # It outlives the workers: when they are told to stop they have a last word.
        serving.shield = True
        try:
            at_once = AtOnce(AT_ONCE)
            async with trio.open_nursery() as working:
                for job in JOBS:
                    # `start`, so that they queue for a place in this order.
                    await working.start(partial(_run, stage, job, gateway, at_once, attempts))
        finally:
            serving.cancel()


async def _serve(
    nursery: trio.Nursery, bind: str, redis: str | None
) -> tuple[Gateway, trio.CancelScope]:
    """Start the gateway in `nursery`, in a scope of its own."""
    scope = trio.CancelScope()
    limits = Limits(drain_timeout=DRAIN)
    broker = open_broker(redis, limits)

    async def serve(*, task_status: trio.TaskStatus[Gateway]) -> None:
        with scope:
            await serve_gateway(bind, broker, limits, task_status=task_status)

    gateway: Gateway = await nursery.start(serve)
    return gateway, scope


async def _run(
    stage: _Stage,
    job: DemoJob,
    gateway: Gateway,
    at_once: AtOnce,
    attempts: list[Attempt],
    *,
    task_status: trio.TaskStatus[None],
) -> None:
    """Run a job once, or again and again. Started when it is in the queue."""
    task_status.started()
    while True:
        url = stage.redis or gateway.url  # where the worker reports
        attempt = await run_once(job, gateway.node.broker, url=url, at_once=at_once)
        if stage.once:
            attempts.append(attempt)
        stage.console.print(_words(attempt))
        if stage.once:
            return
        await trio.sleep(PAUSE)


def _welcome(gateway: Gateway, *, once: bool) -> Panel:
    words = Text.assemble(
        "Open ",
        (f"{gateway.url}/", "bold underline cyan"),
        " in a browser\n\n",
        (
            "Workers hash, compress, parse and index your Python installation.\n"
            "One fails, and one is killed in the middle: that is part of it.\n",
            "dim",
        ),
        ("Each job runs once." if once else "They go on until you press Ctrl-C.", "dim"),
    )
    return Panel(words, title="progress-gateway", expand=False, padding=(1, 3))


def _words(attempt: Attempt) -> Text:
    """A line about how an attempt ended; with what the worker said if that was wrong."""
    view = describe(attempt.state, now=time.time())
    style = "green" if attempt.good else "bold red"
    parts = [view.word, view.attempt, view.time, view.text]
    line = Text.assemble(
        (f"{view.icon} ", style), (attempt.job.name, "bold"), "  ", " · ".join(filter(None, parts))
    )
    if not attempt.good:
        line.append(f"\n  It should have {_expected(attempt.job)}. {attempt.said}", style)
    return line


def _expected(job: DemoJob) -> str:
    return "been lost" if job.ending == "lost" else job.ending


def _table(attempts: list[Attempt]) -> Table:
    table = Table(title="How the jobs ended", title_justify="left", title_style="bold")
    table.add_column("Job", no_wrap=True)
    table.add_column("Ended", no_wrap=True)
    table.add_column("As it should")
    table.add_column("Words", overflow="fold")
    for attempt in sorted(attempts, key=lambda attempt: JOBS.index(attempt.job)):
        view = describe(attempt.state, now=time.time())
        good = Text("yes", "green") if attempt.good else Text("no", "bold red")
        words = " · ".join(filter(None, [view.time, view.text]))
        table.add_row(attempt.job.name, f"{view.icon} {view.word}", good, words)
    return table
