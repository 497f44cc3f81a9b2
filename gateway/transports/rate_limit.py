"""Limits how much a client may send, and how fast.

Each WebSocket frame costs tokens, also pings and empty fragments, and so does each HTTP request.
The gateway does not refuse a client that has used up its tokens. The gateway reads later, so TCP
slows the client down, and its further messages wait on its own machine.
"""

from __future__ import annotations

import trio

__all__ = ["TokenBucket"]

BYTES_PER_COMMAND = 1024
"""The number of bytes that cost as much as one command or request: parsing them takes time."""


class TokenBucket:
    """The tokens of one client: `rate` more each second, up to `burst`."""

    __slots__ = ("_burst", "_rate", "_tokens", "_updated_at")

    def __init__(self, rate: float, burst: int) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._tokens = self._burst
        self._updated_at = trio.current_time()

    def consume(self, frames: int, *, size: int) -> None:
        """Takes the tokens for `frames` frames or requests with `size` bytes in total."""
        now = trio.current_time()
        self._tokens = min(self._burst, self._tokens + (now - self._updated_at) * self._rate)
        self._tokens -= frames + size / BYTES_PER_COMMAND
        self._updated_at = now

    @property
    def empty(self) -> bool:
        """Whether `wait` would have to wait."""
        return (
            self._tokens < 0 and trio.current_time() < self._updated_at - self._tokens / self._rate
        )

    async def wait(self) -> None:
        """Waits until there are tokens; returns at once, without a checkpoint, if there are some
        now."""
        if self._tokens < 0:
            await trio.sleep_until(self._updated_at - self._tokens / self._rate)
