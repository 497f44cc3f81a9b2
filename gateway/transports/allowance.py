"""How much a client may say, and how fast.

Each frame costs, also those that are answered or dropped by themselves: a ping, an empty
fragment. Who has spent its allowance is not refused but read later, so that TCP slows it
down. What it sent in vain waits in its own machine.
"""

from __future__ import annotations

import trio

from ..limits import Limits

__all__ = ["Allowance"]

BYTES_PER_COMMAND = 1024
"""So much text costs as much as one command: a large one is dear to parse."""


class Allowance:
    """What one client may still say. It grows with time, up to a burst."""

    def __init__(self, limits: Limits) -> None:
        self._rate = limits.commands_per_second
        self._burst = float(limits.command_burst)
        self._left = self._burst
        self._at = trio.current_time()

    def spend(self, frames: int, *, size: int) -> None:
        """It has said this many frames, of `size` bytes in all."""
        now = trio.current_time()
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._left -= frames + size / BYTES_PER_COMMAND
        self._at = now

    async def wait(self) -> None:
        """Return when the client may be heard again; at once, without a checkpoint, if it may."""
        if self._left < 0:
            await trio.sleep_until(self._at - self._left / self._rate)
