"""A pair of sockets between a server process of `gateway serve --processes N` and its supervisor.

The server process sends what it would send to systemd (`systemd.py`), a line each, and a watchdog
message again and again; silence means that it hangs. The supervisor sends nothing: when its end
closes, because it wants the process to drain or because it died, the process drains. Signals are
not sufficient for that: a killed supervisor sends none, and a second SIGTERM (from a terminal or
systemd) means "stop at once".
"""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from math import inf

import trio

from .systemd import DESCRIPTOR

__all__ = ["SupervisorPipe", "until_released"]

READ_SIZE = 4096
CHECKS = 10
"""How many checks, and how many messages, there are in the time that a process may be silent."""
START_FACTOR = 6
"""How many times as long it may take until its first message: a machine that boots is busy."""


class SupervisorPipe:
    """The supervisor's side, until `close`."""

    def __init__(self) -> None:
        self._ours, self._its = socket.socketpair()
        self._ours.setblocking(False)
        self._its.setblocking(False)  # a server process must not hang when its supervisor does
        self._in_vain: float = (1 - START_FACTOR) * CHECKS
        """Checks since its last message; below 0 while it may take longer."""

    def close(self) -> None:
        self._its.close()
        self._ours.close()

    @property
    def descriptor(self) -> int:
        """The descriptor that the server process must inherit."""
        return self._its.fileno()

    @property
    def address(self) -> str:
        """The server process's `NOTIFY_SOCKET`."""
        return f"{DESCRIPTOR}{self.descriptor}"

    async def silence(self, seconds: float) -> None:
        """Returns when the server process has been silent for `seconds`, or has sent nothing at
        all for `START_FACTOR` times as long. Never returns if its last message was that it drains,
        because draining has its own timeout.

        Checks are counted, not seconds: if the whole machine or both processes were suspended,
        that counts as one check, however long it was.
        """
        while self._in_vain < CHECKS:
            await trio.sleep(seconds / CHECKS)
            self._in_vain += 1

    async def lines(self) -> AsyncIterator[str]:
        """The server process's messages until it has exited. To be called after it was started."""
        self._its.close()  # the child has its own copy; with this one there would be no EOF
        rest = b""
        while data := await self._read():
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._in_vain = -inf if line == b"STOPPING=1" else 0
                yield line.decode()

    def released(self) -> None:
        """Tells the server process to drain. Its messages are still read."""
        with suppress(OSError):  # it has exited by itself
            self._ours.shutdown(socket.SHUT_WR)

    async def _read(self) -> bytes:
        while True:
            await trio.lowlevel.wait_readable(self._ours)
            try:
                return self._ours.recv(READ_SIZE)
            except BlockingIOError:
                continue
            except ConnectionResetError:
                return b""


async def until_released(environ: Mapping[str, str] = os.environ) -> None:
    """The server process's side: return when it is to drain."""
    await trio.lowlevel.wait_readable(int(environ["NOTIFY_SOCKET"].removeprefix(DESCRIPTOR)))
