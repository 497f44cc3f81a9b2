"""`gateway serve --processes N`: several server processes at one address, and their supervisor.

Each server process is a node; the kernel distributes connections among them. The supervisor
itself serves no clients: it opens the listening sockets and keeps them open, so that connections in
the backlog of a process that exits are served by its successor. The supervisor restarts server
processes that exit or hang, forwards signals to them, and reports to systemd for all of them.
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

from ...config.settings import MAX_PORT, REDIS
from ...config.settings_file import limits_of
from ...model.errors import InvalidSettings
from ...transports.sockets import open_listeners, open_socket_groups
from ..signals import run_until_signal
from .processes import ServerProcess
from .server_process import default_shutdown_delay, print_addresses
from .systemd import keep_watchdog, notify, reloading

__all__ = ["CannotStart", "check_processes", "internal_binds", "supervise_until_signal"]

log = logging.getLogger("gateway.cli")


class CannotStart(Exception):
    """A server process exited before it was ready, so the other ones would exit too. It has logged
    the reason; `code` is its exit code."""

    def __init__(self, code: int) -> None:
        super().__init__(f"exit code {code}")
        self.code = code


def supervise_until_signal(
    bind: str,
    *,
    limits: Mapping[str, Any],
    processes: int,
    broker_url: str | None,
    internal_bind: str | None,
    shutdown_timeout: float,
    shutdown_delay: float | None,
) -> None:
    """Runs `processes` server processes until SIGINT or SIGTERM, then lets them drain.

    The arguments are the settings of those names, and the file's table `limits`; server processes
    read all other settings themselves. Raises `InvalidSettings` and `CannotStart`.
    """
    check_processes(processes, broker_url)
    hang_timeout = limits_of(limits).hang_timeout
    delay = default_shutdown_delay(supervised=True) if shutdown_delay is None else shutdown_delay
    servers = [
        ServerProcess(number, delay + shutdown_timeout, hang_timeout)
        for number in range(1, processes + 1)
    ]

    def end_at_once() -> None:
        for server in servers:
            server.kill()

    serve = partial(_supervise, servers, bind, internal_binds(internal_bind, processes))
    stop_signal = run_until_signal(serve, at_once=end_at_once)
    if stop_signal is not None:
        log.info("all server processes have exited after %s", stop_signal.name)


def check_processes(processes: int, broker_url: str | None) -> None:
    """Raises `InvalidSettings` if the processes would not share their jobs."""
    if processes > 1 and broker_url is None:
        raise InvalidSettings(
            "several processes need a Redis, because each would otherwise have separate jobs: "
            f"set {REDIS.flag} ({REDIS.variable})",
            field="processes",
        )


def internal_binds(bind: str | None, processes: int) -> list[str]:
    """Returns the internal address of each process: the ports follow that of `bind`.

    Raises `InvalidSettings` if there are too few ports.
    """
    if bind is None or processes == 1:
        return [] if bind is None else [bind]
    host, _, port = bind.rpartition(":")
    if port == "0":
        return [bind] * processes
    if not port.isdigit() or int(port) + processes - 1 > MAX_PORT:
        raise InvalidSettings(
            f"{bind} has too few ports after it for {processes} processes, or is not HOST:PORT",
            field="internal_bind",
        )
    return [f"{host}:{int(port) + number}" for number in range(processes)]


async def _supervise(servers: Sequence[ServerProcess], bind: str, internal: Sequence[str]) -> None:
    async with trio.open_nursery() as nursery:
        # Closed as soon as the supervisor exits, so that new connections are refused instead of
        # waiting for a process.
        with ExitStack() as listening:
            for server, sockets in zip(
                servers, await open_socket_groups(bind, len(servers)), strict=True
            ):
                server.public_sockets = [listening.enter_context(sock) for sock in sockets]
            for server, address in zip(servers, internal, strict=False):
                sockets = await open_listeners(address)
                server.internal_sockets = [listening.enter_context(sock) for sock in sockets]
            await nursery.start(_reload_on_sighup, servers)
            await _start(servers, nursery)
            internal_sockets = chain.from_iterable(server.internal_sockets for server in servers)
            print_addresses(_addresses(servers[0].public_sockets), _addresses(internal_sockets))
            nursery.start_soon(keep_watchdog)
            try:
                await trio.sleep_forever()
            finally:
                notify("STOPPING=1")


async def _start(servers: Sequence[ServerProcess], nursery: trio.Nursery) -> None:
    """Starts all server processes in `nursery`; returns when they serve. Raises `CannotStart`."""

    def notify_when_ready() -> None:
        if all(server.ready for server in servers):
            notify("READY=1")

    async def start(server: ServerProcess) -> None:
        codes.append(await nursery.start(server.keep_running, notify_when_ready))

    codes: list[int | None] = []
    first, *others = servers
    await start(first)  # alone, so that an error that concerns all is logged once
    if codes == [None]:
        async with trio.open_nursery() as starting:
            for server in others:
                starting.start_soon(start, server)
    for code in codes:
        if code is not None:
            raise CannotStart(128 - code if code < 0 else code or 1)


def _addresses(listeners: Iterable[socket.socket]) -> list[tuple[str, int]]:
    return [listener.getsockname()[:2] for listener in listeners]


async def _reload_on_sighup(
    servers: Sequence[ServerProcess], *, task_status: trio.TaskStatus[None]
) -> None:
    with trio.open_signal_receiver(signal.SIGHUP) as signals:
        task_status.started()
        async for _ in signals:
            notify(*reloading())
            for server in servers:
                server.reload()
