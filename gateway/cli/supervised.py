"""One worker of `gateway serve --workers N`, as its supervisor sees it: a place, and the
process that fills it at present.
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
from random import uniform
from subprocess import DEVNULL

import trio
from attrs import define

from ..settings import BIND, INTERNAL_BIND, suspicious_variables
from ..transports.inherited import bequeathed
from .leash import LOOKS, Leash

__all__ = ["Worker"]

log = logging.getLogger("gateway.cli")

STEADY = 10.0
"""Seconds that a worker has to live to be started anew at once when it dies."""
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 5.0
"""Seconds before one that died sooner is; doubled each time. Not for longer, since who is
dealt to it waits."""
GRACE = 3.0
"""Seconds beyond the drain time until a worker that has not left is killed."""
LAST_WORDS = 2.0
"""Seconds for one that hangs to print where it stands, until it is killed for good."""


@define(eq=False)
class Worker:
    """One place in the crew, and the process that fills it at present."""

    number: int
    drain: float
    silence: float
    """Seconds (`Limits.worker_silence`)."""
    public: Sequence[socket.socket] = ()
    inside: Sequence[socket.socket] = ()
    ready: bool = False
    """Whether it serves, by the settings of now."""
    _process: trio.Process | None = None
    _reload_due: bool = False

    def reload(self) -> None:
        """Have it read keys and limits anew: at once, or as soon as it hears signals."""
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
        """Keep a process running in this place, until cancelled; then let it drain.

        Started with None when it first serves; or with the exit code of one that ended
        before, and then it is not kept.
        """
        started = False

        def ready() -> None:
            nonlocal started
            if not started:
                started = True
                task_status.started(None)
            on_ready()

        longest = 0.0  # that the next pause may be
        while True:
            began = trio.current_time()
            process = await self._run(ready)
            code = await process.wait()
            how = f"signal {-code} ({signal.strsignal(-code)})" if code < 0 else f"exit code {code}"
            if not started:
                if code < 0:  # otherwise it could say why by itself
                    log.error("a worker ended before it served: %s", how, extra=self._facts)
                task_status.started(code)
                return
            steady = trio.current_time() - began > STEADY
            longest = 0.0 if steady else min(LONGEST_PAUSE, 2 * longest or FIRST_PAUSE)
            pause = longest * uniform(0.5, 1)  # noqa: S311 - jitter
            log.error("a worker ended: %s; the next comes in %.1f s", how, pause, extra=self._facts)
            await trio.sleep(pause)

    async def _run(self, on_ready: Callable[[], None]) -> trio.Process:
        """Run a process until it ends, and return it. Cancelled, it lets it drain."""
        with closing(Leash()) as leash:
            async with trio.open_nursery() as nursery:
                self.ready = self._reload_due = False
                process: trio.Process = await nursery.start(
                    partial(
                        trio.run_process,
                        self._command(),
                        env=_environment(leash, self.silence),
                        pass_fds=[*self._descriptors(), leash.descriptor],
                        stdin=DEVNULL,
                        check=False,
                        deliver_cancel=partial(self._send_away, leash),
                    )
                )
                self._process = process
                async with trio.open_nursery() as listening:
                    listening.start_soon(self._kill_if_silent, leash, process)
                    async for line in leash.lines():
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
            log.info("a worker is ready", extra=self._facts)
            on_ready()

    async def _kill_if_silent(self, leash: Leash, process: trio.Process) -> None:
        await leash.silence(self.silence)
        log.error("a worker hangs: it says nothing, and is killed", extra=self._facts)
        process.send_signal(signal.SIGABRT)  # `faulthandler` prints where it stands
        await trio.sleep(LAST_WORDS)
        process.kill()

    async def _send_away(self, leash: Leash, process: trio.Process) -> None:
        leash.let_go()
        if not self.ready:  # it has nobody to send away, and may not listen yet
            process.terminate()
        await trio.sleep(self.drain + GRACE)
        log.error("a worker has not left in time, and is killed", extra=self._facts)
        process.kill()

    @property
    def _facts(self) -> dict[str, object]:
        return {"worker": self.number, "pid": self._process and self._process.pid}

    def _command(self) -> list[str]:
        """Ourselves, as we were called, on its sockets: a later flag replaces an earlier."""
        command = [sys.executable, *sys.orig_argv[1:], "--worker", str(self.number)]
        command += [BIND.flag, bequeathed(self.public)]
        if self.inside:
            command += [INTERNAL_BIND.flag, bequeathed(self.inside)]
        return command

    def _descriptors(self) -> list[int]:
        return [sock.fileno() for sock in (*self.public, *self.inside)]


def _environment(leash: Leash, silence: float) -> dict[str, str]:
    """Ours, but to a worker we are systemd. It speaks twice in the time of its watchdog."""
    not_for_it = {"WATCHDOG_PID", *suspicious_variables(os.environ)}  # we have warned already
    inherited = {name: text for name, text in os.environ.items() if name not in not_for_it}
    watchdog = str(int(silence / LOOKS * 2 * 1_000_000))
    return inherited | {"NOTIFY_SOCKET": leash.address, "WATCHDOG_USEC": watchdog}
