"""The schedule: which report is sent next, and when.

No lock, no clock, no I/O; the process's lock guards it, and the time is an argument.

If more is due than fits in a request, ends are sent first, because each is sent only once and a
caller may wait for it. Other reports are sent in the order in which they became due, so that every
job gets its turn. While the gateway is unavailable, ends wait for their turn too, because one of
them may be the cause.
"""

from __future__ import annotations

import heapq
from itertools import chain

from .report import Report

__all__ = ["Schedule"]


class Schedule:
    """The reports to send. An entry whose time is not the report's `due` is void."""

    __slots__ = ("_ends", "_limit", "_others", "_ticket")

    def __init__(self) -> None:
        self._ends: list[tuple[float, int, Report]] = []
        self._others: list[tuple[float, int, Report]] = []
        self._ticket = 0  # breaks ties: first come, first served
        self._limit = _limit(0)

    def __len__(self) -> int:
        """The number of entries, including void ones."""
        return len(self._ends) + len(self._others)

    def add(self, report: Report) -> None:
        """Schedule the report for its `due`."""
        self._ticket += 1
        self._push((report.due, self._ticket, report))
        if len(self) > self._limit:
            self._sweep()

    def next(self, now: float, *, unavailable: bool) -> Report | None:
        """The report to send next, if its `due` has passed. It stays until its `due` is changed."""
        for heap in (self._ends, self._others):
            # No call between reading and popping: the garbage collector could run in it, and a
            # finalizer could call `add`.
            while heap and (heap[0][2].settled or heap[0][0] != heap[0][2].due):
                heapq.heappop(heap)
        if self._ends and self._ends[0][0] <= now and not unavailable:
            return self._ends[0][2]
        return min(self._ends[:1] + self._others[:1], default=(0.0, 0, None))[2]

    def _push(self, entry: tuple[float, int, Report]) -> None:
        report = entry[2]
        # An overdue end has no priority any more.
        first = report.ended and not report.overdue
        heapq.heappush(self._ends if first else self._others, entry)

    def _sweep(self) -> None:
        """Remove void entries, because they would keep the reports of ended jobs in memory."""
        swept = self._ends, self._others
        self._ends, self._others = [], []
        for entry in chain(*swept):
            if entry[0] == entry[2].due and not entry[2].settled:
                self._push(entry)
        self._limit = _limit(len(self))


def _limit(entries: int) -> int:
    """How many entries there may be before a sweep, so that its cost per added entry is small."""
    return 2 * entries + 64
