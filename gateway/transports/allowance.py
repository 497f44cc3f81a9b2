"""How much a client may say, and how fast.

Each frame costs, also those that a library answers or drops by itself: a ping, an empty
fragment. Who has spent its allowance is not refused but read later, so that TCP slows it
down. What it sent in vain waits in its own machine.
"""

from __future__ import annotations

import trio

from ..limits import Limits

__all__ = ["Allowance", "FrameCounter"]

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


class FrameCounter:
    """Counts the frames in a client's bytes as they pass (RFC 6455 §5.2). It judges nothing:
    of what is no frame it counts something."""

    def __init__(self) -> None:
        self._skip = 0  # bytes to come of the frame that was counted last
        self._begun = b""  # of the next one's head
        self.closes = False
        """Whether one of them was a close frame: the client's goodbye."""

    def count(self, data: bytes) -> int:
        """How many frames have their head's end in `data`."""
        data = self._begun + data
        at, size, frames = self._skip, len(data), 0
        while at + 2 <= size:
            length = data[at + 1] & 0x7F
            end = at + 2 + _MORE.get(length, 0)
            masked = 4 if data[at + 1] & 0x80 else 0
            if end + masked > size:
                break
            if length in _MORE:
                length = int.from_bytes(data[at + 2 : end], "big")
            self.closes = self.closes or data[at] & 0x0F == _CLOSE
            at = end + masked + length
            frames += 1
        self._skip = max(0, at - size)
        self._begun = data[at:]
        return frames


_CLOSE = 0x8  # RFC 6455 §5.2
_MORE = {126: 2, 127: 8}
"""Bytes of a frame's length, by its first seven bits."""
