"""What ties a worker of `gateway serve --workers N` to its supervisor: a pair of sockets.

Up go the words that systemd would be told (`systemd.py`), a line each; also, again and again,
that it lives, so that silence tells that it hangs. Down comes nothing but the end: the
supervisor has let go, or is gone, whatever became of it. A signal would not do for either: a
killed supervisor sends none, and a worker that is told to leave by its terminal or by systemd
as well would take the second one for "at once".
"""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from math import inf

import trio

from .systemd import DESCRIPTOR

__all__ = ["Leash", "until_let_go"]

READ_SIZE = 4096
LOOKS = 10
"""How often one is looked at, and is to say something, in the time that it may be silent."""
TO_BEGIN = 6
"""How many times as long it may be before its first word: a machine that boots is busy."""


class Leash:
    """The supervisor's side of it, until `close`."""

    def __init__(self) -> None:
        self._ours, self._its = socket.socketpair()
        self._ours.setblocking(False)
        self._its.setblocking(False)  # a worker must not hang because its supervisor does
        self._in_vain: float = (1 - TO_BEGIN) * LOOKS
        """Looks since it last spoke; below 0 while it has longer."""

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

    async def silence(self, seconds: float) -> None:
        """Return when the worker is silent for so long, or has never spoken in `TO_BEGIN` times
        as long. Not if its last word was that it leaves: that may take its time.

        What counts are our looks, not the clock: if we stood still as well (suspended,
        stopped by Ctrl-Z) that is one look, however long it was.
        """
        while self._in_vain < LOOKS:
            await trio.sleep(seconds / LOOKS)
            self._in_vain += 1

    async def lines(self) -> AsyncIterator[str]:
        """What the worker says, until it has ended. To be asked for once it is started."""
        self._its.close()  # it has its own: with ours there would be no end
        rest = b""
        while data := await self._read():
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._in_vain = -inf if line == b"STOPPING=1" else 0
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
