"""One timer for all clients of a node that limit their rate: it reopens their outboxes.

A timer of Trio's costs 23 µs (measured), more than the delivery that it delays. So outboxes are
reopened on ticks of a hashed timing wheel (Varghese and Lauck 1987, scheme 6): scheduling and
cancelling cost the same for any number of outboxes and any delay.
"""

from __future__ import annotations

from math import ceil, floor
from typing import Protocol

import trio

__all__ = ["TICK", "Reopenable", "TimerWheel"]

TICK = 0.01
"""Seconds between two ticks: the shortest interval that a client may ask for."""
SLOTS = 128
"""Ticks in one turn of the wheel. An entry with a longer delay is skipped once a turn."""


class Reopenable(Protocol):
    """What can be scheduled."""

    def open(self) -> None:
        """Its time has come. Never blocks, never fails."""


class TimerWheel:
    """The timer wheel of a node. It uses Trio's clock, and advances while `run` is running."""

    def __init__(self) -> None:
        self._slots: list[dict[Reopenable, int]] = [{} for _ in range(SLOTS)]
        self._waiting = 0
        self._has_waiters = trio.Event()
        self._last_tick = 0
        """The last tick that was handled. Later ones are still to come, however late."""

    def __repr__(self) -> str:
        return f"<TimerWheel, {self._waiting} waiting>"

    def call_at(self, time: float, what: Reopenable) -> int:
        """Open `what` on the first future tick that is not before `time`; returns that tick."""
        now = floor(trio.current_time() / TICK)
        tick = max(ceil(time / TICK), now + 1, self._last_tick + 1)
        self._slots[tick % SLOTS][what] = tick
        self._waiting += 1
        self._has_waiters.set()
        return tick

    def cancel(self, what: Reopenable, tick: int) -> None:
        """Do not open it on that tick, if the tick is still to come."""
        if self._slots[tick % SLOTS].pop(what, None) is not None:
            self._waiting -= 1

    async def run(self) -> None:
        """Advance while anything is scheduled, until cancelled."""
        while True:
            if not self._waiting:
                self._has_waiters = trio.Event()
                await self._has_waiters.wait()
            await trio.sleep_until((self._last_tick + 1) * TICK)
            # If this is late, handle all missed ticks. Division alone would not be exact.
            now = max(self._last_tick + 1, floor(trio.current_time() / TICK))
            missed = range(max(self._last_tick, now - SLOTS) + 1, now + 1)
            self._last_tick = now
            for tick in missed:
                self._advance(self._slots[tick % SLOTS])

    def _advance(self, slot: dict[Reopenable, int]) -> None:
        for what in [what for what, tick in slot.items() if tick <= self._last_tick]:
            del slot[what]
            self._waiting -= 1
            what.open()
