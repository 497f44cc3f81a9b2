"""GC schedule of a serving process: young objects 40 times a second, old ones rarely.

A collection stops the process for 0.3 to 0.6 µs an object (measured), and a connection has 150
objects. With Python's thresholds the collector would visit all of ten thousand connections again
and again, a fifth of the time, in pauses of 200 ms, and find nothing: reference counts free what
connections held.

    young      40 times a second, so that a pause is for the objects of 25 ms. A threshold alone
               is not enough: Python counts new objects *less freed ones*, so while many
               connections close, new objects accumulate for seconds (measured: 530,000 in one
               pause, 0.4 s). An object that survives one collection is old: a second look would
               double the pause and find little
    old        once a minute, if few have been added since; then they are frozen (`gc.freeze`),
               so that the next full collection does not visit them again
    frozen     once an hour, if the pause is short. A process with ten thousand connections never
               does it, and keeps cycles that became garbage after they were frozen (some dozens
               of objects for each failed call) until it has fewer connections
"""

from __future__ import annotations

import gc
import sys
from itertools import count

import trio

__all__ = ["Collector", "configure_gc"]

EVERY = 0.025
"""Seconds between two collections. One that finds nothing takes 0.1 µs."""
MINUTE = round(60 / EVERY)
"""Young collections between two collections of old objects."""
HOUR = 60
"""Collections of old objects between two collections of frozen ones."""
FEW = 150_000
"""Maximum number of memory blocks to visit in one collection. The collector tracks half of them, so
the pause is at most 50 ms."""
THRESHOLDS = 10_000, 5, sys.maxsize >> 32
"""See `gc.set_threshold`: for a task that does not return to Trio's loop for long. They never
start a full collection, because a surge is the worst time for it."""


def configure_gc() -> None:
    """Freezes all present objects, and disable automatic collections of old ones."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)


class Collector:
    """Collects garbage while `run` is running. To be created after `configure_gc`."""

    def __init__(self) -> None:
        self._at_start = self._at_freeze = sys.getallocatedblocks()

    async def run(self, *, minute: int = MINUTE, hour: int = HOUR) -> None:
        """Runs until cancelled. `minute` and `hour` are like the constants."""
        for look in count(1):
            await trio.sleep(EVERY)
            if look % minute:
                gc.collect(1)
            else:
                self._collect_old(frozen_too=look // minute % hour == 0)

    def _collect_old(self, *, frozen_too: bool) -> None:
        """Does a full collection, unless the pause would be long; then freeze what is left."""
        blocks = sys.getallocatedblocks()
        if frozen_too and blocks - self._at_start <= FEW:
            gc.unfreeze()
            gc.collect()
        elif blocks - self._at_freeze <= FEW:
            gc.collect()
        gc.freeze()
        self._at_freeze = sys.getallocatedblocks()
