"""One server process of `gateway serve --processes N`, as its supervisor sees it: a slot that is
filled by one process after the other.
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
from .supervisor_pipe import CHECKS, SupervisorPipe

__all__ = ["ServerProcess"]

log = logging.getLogger("gateway.cli")

STABLE_AFTER = 10.0
"""A server process that lived for so many seconds is restarted at once when it exits."""
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 5.0
"""Seconds until one that exited sooner is restarted; doubled each time. Not longer, because the
kernel routes connections to it that then wait."""
GRACE = 3.0
"""Seconds beyond the drain time after which a server process that has not exited is killed."""
STACKS_TIMEOUT = 2.0
"""Seconds for a process that hangs to print its stacks before it is killed."""


@define(eq=False)
class ServerProcess:
    """A slot for a server process, and the process that fills it now."""

    number: int
    shutdown_time: float
    """Seconds it may take to exit: the shutdown delay and timeout."""
    silence: float
    """Seconds (`Limits.hang_timeout`)."""
    public: Sequence[socket.socket] = ()
    inside: Sequence[socket.socket] = ()
    random: Random = field(factory=Random)
    """The source of the random jitter of restart delays."""
    ready: bool = False
    """Whether it serves, with the current settings."""
    _process: trio.Process | None = None
    _reload_due: bool = False

    def reload(self) -> None:
        """Makes it read keys and limits again: at once, or as soon as it handles signals."""
        self._reload_due = not self.ready
        if self.ready and self._process is not None:
            self.ready = False
            self._process.send_signal(signal.SIGHUP)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()

    async def keep(
        self, on_ready: Callable[[], None], *, task_status: trio.TaskStatus[int | None]
    ) -> None:
        """Keeps a process running in this slot until cancelled; then let it drain.

        Started with None when the process first serves; or with the exit code of one that ended
        before, and then it is not restarted.
        """
        started = False

        def ready() -> None:
            nonlocal started
            if not started:
                started = True
                task_status.started(None)
            on_ready()

        longest = 0.0  # the upper bound of the next pause
        while True:
            began = trio.current_time()
            process = await self._run(ready)
            code = await process.wait()
            how = f"signal {-code} ({signal.strsignal(-code)})" if code < 0 else f"exit code {code}"
            if not started:
                if code < 0:  # otherwise it has logged the reason itself
                    log.error(
                        "server process exited before it was ready (%s)", how, extra=self._context
                    )
                task_status.started(code)
                return
            steady = trio.current_time() - began > STABLE_AFTER
            longest = 0.0 if steady else min(LONGEST_PAUSE, 2 * longest or FIRST_PAUSE)
            pause = longest * self.random.uniform(0.5, 1)
            log.error(
                "server process exited (%s), restarting in %.1f s", how, pause, extra=self._context
            )
            await trio.sleep(pause)

    async def _run(self, on_ready: Callable[[], None]) -> trio.Process:
        """Runs a process until it exits, and return it. If cancelled, let it drain."""
        with closing(SupervisorPipe()) as pipe:
            async with trio.open_nursery() as nursery:
                self.ready = self._reload_due = False
                process: trio.Process = await nursery.start(
                    partial(
                        trio.run_process,
                        self._command(),
                        env=_environment(pipe, self.silence),
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
                            self._is_ready(on_ready)
                    listening.cancel_scope.cancel()
                self.ready = False
        return process

    def _is_ready(self, on_ready: Callable[[], None]) -> None:
        self.ready = True
        if self._reload_due:
            self.reload()
        else:
            log.info("server process is ready", extra=self._context)
            on_ready()

    async def _kill_if_silent(self, pipe: SupervisorPipe, process: trio.Process) -> None:
        await pipe.silence(self.silence)
        log.error("server process hangs (no watchdog message), killing it", extra=self._context)
        process.send_signal(signal.SIGABRT)  # `faulthandler` prints its stacks
        await trio.sleep(STACKS_TIMEOUT)
        process.kill()

    async def _drain(self, pipe: SupervisorPipe, process: trio.Process) -> None:
        pipe.released()
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
        """This program's own command line with its sockets: a later flag overrides an earlier
        one."""
        command = [sys.executable, *sys.orig_argv[1:], "--process-number", str(self.number)]
        command += [BIND.flag, bind_of_inherited(self.public)]
        if self.inside:
            command += [INTERNAL_BIND.flag, bind_of_inherited(self.inside)]
        return command

    def _descriptors(self) -> list[int]:
        return [sock.fileno() for sock in (*self.public, *self.inside)]


def _environment(pipe: SupervisorPipe, silence: float) -> dict[str, str]:
    """This process's environment, except that the supervisor takes systemd's place. The server
    process sends two messages within its watchdog's time."""
    excluded = {"WATCHDOG_PID", *suspicious_variables(os.environ)}  # the supervisor has warned
    inherited = {name: text for name, text in os.environ.items() if name not in excluded}
    watchdog = str(int(silence / CHECKS * 2 * 1_000_000))
    return inherited | {"NOTIFY_SOCKET": pipe.address, "WATCHDOG_USEC": watchdog}
