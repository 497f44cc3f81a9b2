"""What ties a worker of `gateway serve --workers N` to its supervisor: a pair of sockets.

Up go the words that systemd would be told (`systemd.py`), a line each. Down comes nothing
but the end: the supervisor has let go, or is gone, whatever became of it. A signal would
not do for either: a killed supervisor sends none, and a worker that is told to leave by
its terminal or by systemd as well would take the second one for "at once".
"""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress

import trio

from .systemd import DESCRIPTOR

__all__ = ["Leash", "until_let_go"]

READ_SIZE = 4096


class Leash:
    """The supervisor's side of it, until `close`."""

    def __init__(self) -> None:
        self._ours, self._its = socket.socketpair()
        self._ours.setblocking(False)
        self._its.setblocking(False)  # a worker must not hang because its supervisor does

    def close(self) -> None:
        self._its.close()
        self._ours.close()

    @property
    def descriptor(self) -> int:
        """What the worker must inherit."""
        return self._its.fileno()

    @property
    def address(self) -> str:
        """The worker's `NOTIFY_SOCKET`."""
        return f"{DESCRIPTOR}{self.descriptor}"

    async def lines(self) -> AsyncIterator[str]:
        """What the worker says, until it has ended. To be asked for once it is started."""
        self._its.close()  # it has its own: with ours there would be no end
        rest = b""
        while data := await self._read():
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                yield line.decode()

    def let_go(self) -> None:
        """Have the worker leave. What it says is heard all the same."""
        with suppress(OSError):  # it has ended by itself
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


async def until_let_go(environ: Mapping[str, str] = os.environ) -> None:
    """The worker's side: return when it is to leave."""
    await trio.lowlevel.wait_readable(int(environ["NOTIFY_SOCKET"].removeprefix(DESCRIPTOR)))
