"""Limits how many requests start in one pass of Trio's scheduler."""

from __future__ import annotations

import trio

__all__ = ["StartLimiter"]


class StartLimiter:
    """Lets `size` tasks start in each pass of the scheduler; other tasks wait in order.

    Otherwise a thousand requests that arrive at the same moment would be parsed and answered in
    the same passes, and every other client would wait for all of them. Unlike a semaphore it is not
    held, so a request that waits for the broker or its client blocks no other request.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._started = 0
        self._waiting = trio.lowlevel.ParkingLot()
        self._idle = trio.lowlevel.ParkingLot()
        """The lot in which `run` waits while nothing has started in this pass."""

    def __repr__(self) -> str:
        return f"<StartLimiter of {self._size}, {len(self._waiting)} waiting>"

    async def run(self) -> None:
        """Starts a new count in each pass, until cancelled. While this does not run, only `size`
        tasks can start."""
        while True:
            if self._started:
                await trio.lowlevel.checkpoint()
            else:
                await self._idle.park()
            # These run in the next pass. They count already, so that later tasks do not overtake
            # them.
            self._started = len(self._waiting.unpark(count=self._size))

    async def wait_to_start(self) -> None:
        """Waits until this task may start. It is a checkpoint only if the task must wait.

        Cancellation: the task no longer waits.
        """
        if self._started >= self._size:
            await self._waiting.park()
            return
        if not self._started:
            self._idle.unpark()
        self._started += 1
