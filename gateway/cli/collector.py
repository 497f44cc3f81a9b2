"""When the garbage collector looks, in a process that serves: seldom far, often near.

It stops everyone, for 0.6 µs an object (measured), and a connection has two hundred. With
Python's thresholds it goes through all of ten thousand connections again and again, a fifth
of the time, in pauses of 200 ms, to find nothing: what they held goes by reference counts.

    the young   twenty times a second, so that a pause is what came in a twentieth. Their
                threshold alone would not do: Python counts what is new *less what has gone*,
                so while a crowd leaves, newcomers are young for seconds (measured: 530,000
                objects in one pause, 0.4 s)
    all         once an hour: what holds itself in a circle and has grown old, such as the
                failed calls of an outage, is some dozens of objects a second. With ten
                thousand connections this is a pause of a second
    the rest    modules and classes: never
"""

from __future__ import annotations

import gc
import sys
from itertools import count

import trio

__all__ = ["calm_down", "collect"]

EVERY = 0.05
"""Seconds between two looks. One that finds nothing takes 0.1 µs."""
HOUR = round(3600 / EVERY)
"""Looks from one at all to the next."""
THRESHOLDS = 10_000, 5, sys.maxsize >> 32
"""See `gc.set_threshold`: for who is away from Trio's loop for long. All are never looked at
by these: a surge is the worst time for it."""


def calm_down() -> None:
    """Keep what there is for ever, and look at what grows old only when told."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)


async def collect(*, all_every: int = HOUR) -> None:
    """Look at the young, every second time at those too who have been looked at once, and
    every so many times at all. Until cancelled."""
    for look in count(1):
        await trio.sleep(EVERY)
        gc.collect(2 if look % all_every == 0 else look % 2)
