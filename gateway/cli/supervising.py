"""`gateway serve --workers N`: so many processes at one address, and this one above them.

A worker here is a process that serves, a node like any other; the kernel deals out who
comes. This process serves nobody. It opens the sockets, so that a wrong address is told
once, and keeps them open: when a worker dies, who waits in its backlog is served by its
successor, and nobody is refused. It starts workers anew, also one that lives but hangs, passes
on what it is told, and speaks for all of them to systemd.
"""

from __future__ import annotations

import logging
import signal
import socket
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import chain
from typing import Any

import trio

from ..errors import InvalidSettings
from ..settings import MAX_PORT, REDIS
from ..settings_file import limits_of
from ..transports.sockets import open_listeners, open_sets
from .serving import announce
from .signals import run_until_told
from .supervised import Worker
from .systemd import keep_watchdog, notify, reloading

__all__ = ["CannotStart", "check_workers", "internal_binds", "supervise_until_told"]

log = logging.getLogger("gateway.cli")


class CannotStart(Exception):
    """A worker ended before it served, as all will. It has said why; `code` is to be ours."""

    def __init__(self, code: int) -> None:
        super().__init__(f"exit code {code}")
        self.code = code


def supervise_until_told(
    bind: str,
    *,
    limits: Mapping[str, Any],
    workers: int,
    redis: str | None,
    internal_bind: str | None,
    drain: float,
) -> None:
    """Have `workers` processes serve until SIGINT or SIGTERM, then let them drain.

    The arguments are the settings of those names, and the file's table `limits`; workers find
    all others themselves, where we have. Raises `InvalidSettings` and `CannotStart`.
    """
    check_workers(workers, redis)
    silence = limits_of(limits).worker_silence
    crew = [Worker(number, drain, silence) for number in range(1, workers + 1)]

    def end_at_once() -> None:
        for worker in crew:
            worker.kill()

    serve = partial(_supervise, crew, bind, internal_binds(internal_bind, workers))
    told_by = run_until_told(serve, at_once=end_at_once)
    if told_by is not None:
        log.info("all have left, as told by %s", told_by.name)


def check_workers(workers: int, redis: str | None) -> None:
    """Raise `InvalidSettings` if so many processes would have no jobs in common."""
    if workers > 1 and redis is None:
        raise InvalidSettings(
            "more than one need a Redis, or each would have jobs of its own: "
            f"set {REDIS.flag} ({REDIS.variable})",
            field="workers",
        )


def internal_binds(bind: str | None, workers: int) -> list[str]:
    """Where each of so many workers listens inside: from the port of `bind` on.

    Raises `InvalidSettings` if there are not so many ports.
    """
    if bind is None or workers == 1:
        return [] if bind is None else [bind]
    host, _, port = bind.rpartition(":")
    if port == "0":
        return [bind] * workers
    if not port.isdigit() or int(port) + workers - 1 > MAX_PORT:
        raise InvalidSettings(
            f"{bind} is no HOST:PORT with a port for each of {workers} workers",
            field="internal_bind",
        )
    return [f"{host}:{int(port) + number}" for number in range(workers)]


async def _supervise(crew: Sequence[Worker], bind: str, internal: Sequence[str]) -> None:
    async with trio.open_nursery() as nursery:
        # Closed as soon as we are to leave: who comes then is refused, instead of waiting
        # for nobody.
        with ExitStack() as listening:
            for worker, sockets in zip(crew, await open_sets(bind, len(crew)), strict=True):
                worker.public = [listening.enter_context(sock) for sock in sockets]
            for worker, address in zip(crew, internal, strict=False):
                sockets = await open_listeners(address)
                worker.inside = [listening.enter_context(sock) for sock in sockets]
            await nursery.start(_reload_when_told, crew)
            await _start(crew, nursery)
            inside = chain.from_iterable(worker.inside for worker in crew)
            announce(_names(crew[0].public), _names(inside))
            nursery.start_soon(keep_watchdog)
            try:
                await trio.sleep_forever()
            finally:
                notify("STOPPING=1")


async def _start(crew: Sequence[Worker], nursery: trio.Nursery) -> None:
    """Start all of them, in `nursery`; returns when they serve. Raises `CannotStart`."""

    def tell_when_ready() -> None:
        if all(worker.ready for worker in crew):
            notify("READY=1")

    async def start(worker: Worker) -> None:
        codes.append(await nursery.start(worker.keep, tell_when_ready))

    codes: list[int | None] = []
    first, *others = crew
    await start(first)  # alone: what is wrong for all of them is told once
    if codes == [None]:
        async with trio.open_nursery() as starting:
            for worker in others:
                starting.start_soon(start, worker)
    for code in codes:
        if code is not None:
            raise CannotStart(128 - code if code < 0 else code or 1)


def _names(listeners: Iterable[socket.socket]) -> list[tuple[str, int]]:
    return [listener.getsockname()[:2] for listener in listeners]


async def _reload_when_told(crew: Sequence[Worker], *, task_status: trio.TaskStatus[None]) -> None:
    with trio.open_signal_receiver(signal.SIGHUP) as signals:
        task_status.started()
        async for _ in signals:
            notify(*reloading())
            for worker in crew:
                worker.reload()
