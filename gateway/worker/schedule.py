"""The schedule: which report is to be sent next, and when.

No lock, no clock, no I/O; the process's lock guards it, time comes in as an argument.

A gateway is asked one thing at a time, so more may be due than can be sent. Then ends go
first: each comes but once, and somebody may wait for it. All else goes by how long it has
been due, so that each round has a word of every job. While the gateway is away the ends
take their turn, too: it may be one of them that the gateway cannot stand.
"""

from __future__ import annotations

import heapq
from itertools import chain

from .report import Report

__all__ = ["Schedule"]


class Schedule:
    """What is to be sent. A report stands in it once; what was said of it before is void."""

    __slots__ = ("_ends", "_limit", "_others", "_ticket")

    def __init__(self) -> None:
        self._ends: list[tuple[float, int, Report]] = []
        self._others: list[tuple[float, int, Report]] = []
        self._ticket = 0  # breaks ties: first come, first served
        self._limit = _limit(0)

    def __len__(self) -> int:
        """How many entries there are, void ones too."""
        return len(self._ends) + len(self._others)

    def add(self, report: Report, due: float) -> None:
        """Have it sent at `due`."""
        report.due = due
        self._ticket += 1
        self._push((due, self._ticket, report))
        if len(self) > self._limit:
            self._sweep()

    def next(self, now: float, *, away: bool) -> Report | None:
        """The one to be sent next, when its `due` has come; taken as soon as that is changed."""
        for heap in (self._ends, self._others):
            # No call between the look and the pop: the collector may run in one, and `add` in it.
            while heap and (heap[0][2].settled or heap[0][0] != heap[0][2].due):
                heapq.heappop(heap)
        if self._ends and self._ends[0][0] <= now and not away:
            return self._ends[0][2]
        return min(self._ends[:1] + self._others[:1], default=(0.0, 0, None))[2]

    def _push(self, entry: tuple[float, int, Report]) -> None:
        report = entry[2]
        # An end that is overdue has had its time.
        first = report.ended and not report.overdue
        heapq.heappush(self._ends if first else self._others, entry)

    def _sweep(self) -> None:
        """Leave out what is void, as it would keep reports of jobs that have long ended."""
        swept = self._ends, self._others
        self._ends, self._others = [], []
        for entry in chain(*swept):
            if entry[0] == entry[2].due and not entry[2].settled:
                self._push(entry)
        self._limit = _limit(len(self))


def _limit(entries: int) -> int:
    """How many there may be before they are swept: a sweep costs little for each that is added."""
    return 2 * entries + 64
