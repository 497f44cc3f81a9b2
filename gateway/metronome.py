"""Opens the outboxes of clients that want to hear only so often: one timer for all of a node.

A timer of Trio's costs 23 µs (measured), more than the delivery it holds back. So a paced
outbox is opened on the beat. The beats are a hashed timing wheel (Varghese and Lauck 1987,
scheme 6): to wait and to stop waiting costs the same however many wait and however long.
"""

from __future__ import annotations

from math import ceil, floor
from typing import Protocol

import trio

__all__ = ["BEAT", "Metronome", "Opens"]

BEAT = 0.01
"""Seconds from one beat to the next: as often as a client may ask for, at most."""
SLOTS = 128
"""Beats in one turn of the wheel. Who waits for longer is passed over once a turn."""


class Opens(Protocol):
    """What waits for its time."""

    def open(self) -> None:
        """It has come. Never blocks, never fails."""


class Metronome:
    """A node's. Its beats are on Trio's clock, while `run` is running."""

    def __init__(self) -> None:
        self._slots: list[dict[Opens, int]] = [{} for _ in range(SLOTS)]
        self._waiting = 0
        self._somebody = trio.Event()
        self._struck = 0
        """The last beat that was struck. All after it are, however late."""

    def __repr__(self) -> str:
        return f"<Metronome, {self._waiting} waiting>"

    def open_at(self, time: float, what: Opens) -> int:
        """Open it on the first beat to come that is not before `time`; returns which that is."""
        now = floor(trio.current_time() / BEAT)
        beat = max(ceil(time / BEAT), now + 1, self._struck + 1)
        self._slots[beat % SLOTS][what] = beat
        self._waiting += 1
        self._somebody.set()
        return beat

    def forget(self, what: Opens, beat: int) -> None:
        """Do not open it on that beat, if it is still to come."""
        if self._slots[beat % SLOTS].pop(what, None) is not None:
            self._waiting -= 1

    async def run(self) -> None:
        """Beat while anything waits, until cancelled."""
        while True:
            if not self._waiting:
                self._somebody = trio.Event()
                await self._somebody.wait()
            await trio.sleep_until((self._struck + 1) * BEAT)
            # If that was late, all that was missed; not by division alone, which is not exact.
            now = max(self._struck + 1, floor(trio.current_time() / BEAT))
            missed = range(max(self._struck, now - SLOTS) + 1, now + 1)
            self._struck = now
            for beat in missed:
                self._strike(self._slots[beat % SLOTS])

    def _strike(self, slot: dict[Opens, int]) -> None:
        for what in [what for what, beat in slot.items() if beat <= self._struck]:
            del slot[what]
            self._waiting -= 1
            what.open()
