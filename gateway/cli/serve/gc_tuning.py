"""GC schedule of a serving process: young objects 40 times a second, old ones rarely.

A collection stops the process for 0.3 to 0.6 µs an object (measured), and a connection has 150
objects. With Python's thresholds the collector would visit all of ten thousand connections again
and again, a fifth of the time, in pauses of 200 ms, and find nothing: reference counts free what
connections held.

    objects    are collected
    ---------  -------------------------------------------------------------------------------
    young      40 times a second, so that a pause is for the objects of 25 ms
    old        once a minute, if few were added since; then they are frozen (`gc.freeze`), so
               that the next full collection does not visit them again
    frozen     once an hour, if the pause would be short

A threshold alone is not enough: Python counts new objects *less freed ones*, so while many
connections close, new objects accumulate for seconds (measured: 530,000 in one pause, 0.4 s). An
object that survives one collection is old: a second collection would double the pause, and free few
objects. A process with ten thousand connections never collects frozen objects. Until it has fewer
connections, it keeps cycles that became garbage after they were frozen (some dozens of objects for
each failed call).
"""

from __future__ import annotations

import gc
import sys
from itertools import count

import trio

__all__ = ["Collector", "configure_gc"]

INTERVAL = 0.025
"""Seconds between two collections. One that finds nothing takes 0.1 µs."""
YOUNG_PER_OLD = round(60 / INTERVAL)
"""Young collections between two collections of old objects."""
OLD_PER_FROZEN = 60
"""Collections of old objects between two collections of frozen ones."""
MAX_BLOCKS = 150_000
"""The maximum number of memory blocks to visit in one collection. The collector tracks half of
them, so the pause is at most 50 ms."""
THRESHOLDS = 10_000, 5, sys.maxsize >> 32
"""See `gc.set_threshold`: for a task that does not return to Trio's loop for long. They never
start a full collection, because a surge is the worst time for it."""


def configure_gc() -> None:
    """Freezes all present objects, and disables automatic collections of the oldest
    generation."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)


class Collector:
    """Collects garbage while `run` is running. To be created after `configure_gc`."""

    def __init__(self) -> None:
        self._blocks_at_start = self._blocks_at_freeze = sys.getallocatedblocks()

    async def run(
        self, *, young_per_old: int = YOUNG_PER_OLD, old_per_frozen: int = OLD_PER_FROZEN
    ) -> None:
        """Runs until cancelled. The arguments replace the constants of the same names."""
        for number in count(1):
            await trio.sleep(INTERVAL)
            if number % young_per_old:
                gc.collect(1)
            else:
                self._collect_old(frozen_too=number // young_per_old % old_per_frozen == 0)

    def _collect_old(self, *, frozen_too: bool) -> None:
        """Does a full collection, unless the pause would be long; then freezes the remaining
        objects."""
        blocks = sys.getallocatedblocks()
        if frozen_too and blocks - self._blocks_at_start <= MAX_BLOCKS:
            gc.unfreeze()
            gc.collect()
        elif blocks - self._blocks_at_freeze <= MAX_BLOCKS:
            gc.collect()
        gc.freeze()
        self._blocks_at_freeze = sys.getallocatedblocks()
