"""The order in which reports are sent. (`report` decides when each is due.)

No lock, no clock, no I/O; the process's lock guards it, and the time is an argument.

If more reports are due than fit in a request, final states are sent first, because each is sent
only once and a caller may be waiting for it. Other reports are sent in the order in which they
became due, so that none waits for ever. While the gateway is unavailable, final states are sent in
that order too, because one of them may be the cause of the outage.
"""

from __future__ import annotations

import heapq
from itertools import chain

from .report import Report

__all__ = ["SendOrder"]


class SendOrder:
    """The reports to send. An entry whose time is not the report's `due_at` is void."""

    __slots__ = ("_entries_added", "_final_states", "_others", "_sweep_at")

    def __init__(self) -> None:
        self._final_states: list[tuple[float, int, Report]] = []
        self._others: list[tuple[float, int, Report]] = []
        self._entries_added = 0  # breaks ties: entries of the same time stay in order
        self._sweep_at = _next_sweep(0)

    def __len__(self) -> int:
        """Returns the number of entries, including void ones."""
        return len(self._final_states) + len(self._others)

    def add(self, report: Report) -> None:
        """Adds an entry for the report, at its `due_at`."""
        self._entries_added += 1
        self._push((report.due_at, self._entries_added, report))
        if len(self) > self._sweep_at:
            self._remove_void_entries()

    def next(self, now: float, *, unavailable: bool) -> Report | None:
        """Returns the report to send next, at its `due_at`; None if there is no report.

        The report remains the next one until its `due_at` is changed.
        """
        for heap in (self._final_states, self._others):
            # No call between reading and popping: the garbage collector could run in it, and a
            # finalizer could call `add`.
            while heap and (heap[0][2].closed or heap[0][0] != heap[0][2].due_at):
                heapq.heappop(heap)
        if self._final_states and self._final_states[0][0] <= now and not unavailable:
            return self._final_states[0][2]
        return min(self._final_states[:1] + self._others[:1], default=(0.0, 0, None))[2]

    def _push(self, entry: tuple[float, int, Report]) -> None:
        report = entry[2]
        # A final state whose deadline has passed has no priority any more.
        has_priority = report.has_final_state and not report.deadline_passed
        heapq.heappush(self._final_states if has_priority else self._others, entry)

    def _remove_void_entries(self) -> None:
        """Removes void entries, because they would keep the reports of ended jobs in memory."""
        heaps = self._final_states, self._others
        self._final_states, self._others = [], []
        for entry in chain(*heaps):
            if entry[0] == entry[2].due_at and not entry[2].closed:
                self._push(entry)
        self._sweep_at = _next_sweep(len(self))


def _next_sweep(entries: int) -> int:
    """Returns the number of entries at which void ones are removed next. The number doubles, so
    that the cost per added entry is small."""
    return 2 * entries + 64
