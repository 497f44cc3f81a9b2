"""A pair of sockets between a server process of `gateway serve --processes N` and its supervisor.

The server process sends what it would send to systemd (`systemd.py`), a line each, and a watchdog
message at intervals; without messages it hangs. The supervisor sends nothing: when its end of the
pair closes, because the process must drain or because the supervisor has died, the process drains.
Signals are not sufficient for that: a killed supervisor sends none, and a second SIGTERM (from a
terminal or systemd) means "stop at once".
"""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from math import inf

import trio

from .systemd import DESCRIPTOR

__all__ = ["SupervisorPipe", "wait_until_released"]

READ_SIZE = 4096
CHECKS_PER_TIMEOUT = 10
"""The number of checks within the hang timeout."""
START_FACTOR = 6
"""The factor of the hang timeout until the first message: a machine that boots is busy."""


class SupervisorPipe:
    """The supervisor's side, until `close`."""

    def __init__(self) -> None:
        self._supervisor_end, self._process_end = socket.socketpair()
        self._supervisor_end.setblocking(False)
        # Non-blocking, because a server process must not hang when its supervisor does.
        self._process_end.setblocking(False)
        self._missed_checks: float = (1 - START_FACTOR) * CHECKS_PER_TIMEOUT
        """The number of checks since the last message; negative during startup, for which the
        process gets more time."""

    def close(self) -> None:
        self._process_end.close()
        self._supervisor_end.close()

    @property
    def descriptor(self) -> int:
        """The descriptor that the server process must inherit."""
        return self._process_end.fileno()

    @property
    def address(self) -> str:
        """The server process's `NOTIFY_SOCKET`."""
        return f"{DESCRIPTOR}{self.descriptor}"

    async def wait_for_silence(self, seconds: float) -> None:
        """Returns when the server process has been silent for `seconds`, or has sent nothing at
        all for `START_FACTOR` times as long. Never returns if its last message was that it drains,
        because draining has its own timeout.

        Checks are counted, not seconds: if the whole machine or both processes were suspended,
        that counts as one check, however long it was.
        """
        while self._missed_checks < CHECKS_PER_TIMEOUT:
            await trio.sleep(seconds / CHECKS_PER_TIMEOUT)
            self._missed_checks += 1

    async def lines(self) -> AsyncIterator[str]:
        """Yields the messages of the server process until it has exited. Call it after the
        start."""
        self._process_end.close()  # the child has its own copy; with this one there would be no EOF
        rest = b""
        while data := await self._read():
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._missed_checks = -inf if line == b"STOPPING=1" else 0
                yield line.decode()

    def release(self) -> None:
        """Lets the server process drain. Its messages are still read."""
        with suppress(OSError):  # it has exited by itself
            self._supervisor_end.shutdown(socket.SHUT_WR)

    async def _read(self) -> bytes:
        while True:
            await trio.lowlevel.wait_readable(self._supervisor_end)
            try:
                return self._supervisor_end.recv(READ_SIZE)
            except BlockingIOError:
                continue
            except ConnectionResetError:
                return b""


async def wait_until_released(environ: Mapping[str, str] = os.environ) -> None:
    """Called by the server process: returns when it must drain."""
    await trio.lowlevel.wait_readable(int(environ["NOTIFY_SOCKET"].removeprefix(DESCRIPTOR)))
