"""Limits how many requests start in one pass of Trio's scheduler."""

from __future__ import annotations

import trio

__all__ = ["StartLimiter"]


class StartLimiter:
    """Lets `size` tasks start in each pass of the scheduler; the others wait in order.

    Otherwise a thousand requests that arrive at the same moment would be parsed and answered in
    the same passes, and every other client would wait for all of them. Unlike a semaphore it is
    not held: a request that waits for the broker or its client blocks no other.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._started = 0
        self._waiting = trio.lowlevel.ParkingLot()
        self._token: trio.lowlevel.TrioToken | None = None

    def __repr__(self) -> str:
        return f"<StartLimiter of {self._size}, {len(self._waiting)} waiting>"

    async def wait_turn(self) -> None:
        """Wait for this task's turn; a checkpoint only if it has to wait.

        Cancelled, the task leaves the queue.
        """
        if self._started < self._size:
            self._count(1)
        else:
            await self._waiting.park()

    def _count(self, started: int) -> None:
        if self._token is None:
            self._token = trio.lowlevel.current_trio_token()
        if not self._started:
            self._token.run_sync_soon(self._next_pass)
        self._started += started

    def _next_pass(self) -> None:
        self._started = 0
        woken = len(self._waiting.unpark(count=self._size))
        if woken:  # these run in this pass, so that later tasks do not overtake them
            self._count(woken)
