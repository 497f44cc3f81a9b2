"""A server process of `gateway serve --processes N`, in its supervisor: a slot in which one process
runs after the other.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from random import Random
from subprocess import DEVNULL

import trio
from attrs import define, field

from ...config.settings import BIND, INTERNAL_BIND, suspicious_variables
from ...transports.inherited_sockets import bind_of_inherited
from .supervisor_pipe import CHECKS_PER_TIMEOUT, SupervisorPipe

__all__ = ["ServerProcess"]

log = logging.getLogger("gateway.cli")

STABLE_AFTER = 10.0
"""A server process that exits after at least so many seconds is restarted at once."""
FIRST_RESTART_PAUSE, MAX_RESTART_PAUSE = 0.25, 5.0
"""Seconds until a process that exited sooner is restarted; doubled each time. The pause is not
longer, because the kernel routes connections to the process, which then wait."""
GRACE = 3.0
"""Seconds beyond the drain time after which a server process that has not exited is killed."""
STACKS_TIMEOUT = 2.0
"""Seconds for a process that hangs to print its stacks before it is killed."""


@define(eq=False)
class ServerProcess:
    """A slot for a server process, and the process that runs in it now."""

    number: int
    shutdown_time: float
    """The number of seconds that the process may take to exit: the shutdown delay and timeout."""
    hang_timeout: float
    """The number of seconds without a message after which the process is killed."""
    public_sockets: Sequence[socket.socket] = ()
    internal_sockets: Sequence[socket.socket] = ()
    random: Random = field(factory=Random)
    """The source of the random jitter of restart delays."""
    ready: bool = False
    """Whether the process serves, with the current settings."""
    _process: trio.Process | None = None
    _reload_due: bool = False

    def reload(self) -> None:
        """Makes the process read keys and limits again: at once, or as soon as it handles
        signals."""
        self._reload_due = not self.ready
        if self.ready and self._process is not None:
            self.ready = False
            self._process.send_signal(signal.SIGHUP)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()

    async def keep_running(
        self, on_ready: Callable[[], None], *, task_status: trio.TaskStatus[int | None]
    ) -> None:
        """Keeps a process running in this slot until cancelled; then lets it drain.

        It reports to be started with None when the process serves; or with the exit code if the
        process has exited before, and then it does not restart it.
        """
        started = False

        def ready() -> None:
            nonlocal started
            if not started:
                started = True
                task_status.started(None)
            on_ready()

        max_pause = 0.0  # the upper bound of the next pause
        while True:
            began = trio.current_time()
            process = await self._run(ready)
            code = await process.wait()
            cause = (
                f"signal {-code} ({signal.strsignal(-code)})" if code < 0 else f"exit code {code}"
            )
            if not started:
                if code < 0:  # otherwise it has logged the reason itself
                    log.error(
                        "server process exited before it was ready (%s)", cause, extra=self._context
                    )
                task_status.started(code)
                return
            was_stable = trio.current_time() - began > STABLE_AFTER
            max_pause = (
                0.0 if was_stable else min(MAX_RESTART_PAUSE, 2 * max_pause or FIRST_RESTART_PAUSE)
            )
            pause = max_pause * self.random.uniform(0.5, 1)
            log.error(
                "server process exited (%s), restarting in %.1f s",
                cause,
                pause,
                extra=self._context,
            )
            await trio.sleep(pause)

    async def _run(self, on_ready: Callable[[], None]) -> trio.Process:
        """Runs a process until it exits, and returns it. If cancelled, lets it drain."""
        with closing(SupervisorPipe()) as pipe:
            async with trio.open_nursery() as nursery:
                self.ready = self._reload_due = False
                process: trio.Process = await nursery.start(
                    partial(
                        trio.run_process,
                        self._command(),
                        env=_environment(pipe, self.hang_timeout),
                        pass_fds=[*self._descriptors(), pipe.descriptor],
                        stdin=DEVNULL,
                        check=False,
                        deliver_cancel=partial(self._drain, pipe),
                    )
                )
                self._process = process
                async with trio.open_nursery() as listening:
                    listening.start_soon(self._kill_if_silent, pipe, process)
                    async for line in pipe.lines():
                        if line == "READY=1":
                            self._on_ready(on_ready)
                    listening.cancel_scope.cancel()
                self.ready = False
        return process

    def _on_ready(self, on_ready: Callable[[], None]) -> None:
        self.ready = True
        if self._reload_due:
            self.reload()
        else:
            log.info("server process is ready", extra=self._context)
            on_ready()

    async def _kill_if_silent(self, pipe: SupervisorPipe, process: trio.Process) -> None:
        await pipe.wait_for_silence(self.hang_timeout)
        log.error("server process hangs (no watchdog message), killing it", extra=self._context)
        process.send_signal(signal.SIGABRT)  # `faulthandler` prints its stacks
        await trio.sleep(STACKS_TIMEOUT)
        process.kill()

    async def _drain(self, pipe: SupervisorPipe, process: trio.Process) -> None:
        pipe.release()
        if not self.ready:  # it has no clients yet, and may not listen
            process.terminate()
        await trio.sleep(self.shutdown_time + GRACE)
        log.error(
            "server process did not exit within the shutdown timeout, killing it",
            extra=self._context,
        )
        process.kill()

    @property
    def _context(self) -> dict[str, object]:
        return {"server_process": self.number, "pid": self._process and self._process.pid}

    def _command(self) -> list[str]:
        """Returns this program's own command line with its sockets: a later flag overrides an
        earlier one."""
        command = [sys.executable, *sys.orig_argv[1:], "--process-number", str(self.number)]
        command += [BIND.flag, bind_of_inherited(self.public_sockets)]
        if self.internal_sockets:
            command += [INTERNAL_BIND.flag, bind_of_inherited(self.internal_sockets)]
        return command

    def _descriptors(self) -> list[int]:
        return [sock.fileno() for sock in (*self.public_sockets, *self.internal_sockets)]


def _environment(pipe: SupervisorPipe, silence: float) -> dict[str, str]:
    """Returns this process's environment, with the supervisor in place of systemd. The server
    process sends two watchdog messages within the time of a check."""
    excluded_names = {
        "WATCHDOG_PID",
        *suspicious_variables(os.environ),
    }  # the supervisor has warned
    inherited = {name: text for name, text in os.environ.items() if name not in excluded_names}
    watchdog = str(int(silence / CHECKS_PER_TIMEOUT * 2 * 1_000_000))
    return inherited | {"NOTIFY_SOCKET": pipe.address, "WATCHDOG_USEC": watchdog}
