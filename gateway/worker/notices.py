"""Notices: what is said of jobs by somebody who does not work on them, until it is sent.

No lock, no clock, no I/O; the process's lock guards it, time comes in as an argument. They
are sent in turns with the reports of workers, so that neither makes the other wait.
"""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

from .limits import NOTICES

__all__ = ["Notice", "Notices"]


class Notice(NamedTuple):
    """A word about a job: sent once, or not at all."""

    job: str
    fields: dict[str, Any]
    """The update."""
    expires: float
    """When it is no longer to be sent (`time.monotonic`)."""


class Notices:
    """Those of one sender: at most `NOTICES`; while they wait, others are dropped."""

    __slots__ = ("_crowded", "_had_turn", "_waiting")

    def __init__(self) -> None:
        self._waiting: deque[Notice] = deque()
        self._had_turn = False
        self._crowded = False

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, notice: Notice) -> str | None:
        """Have it sent after those that wait. Returns what is to be logged, if anything."""
        crowded, self._crowded = self._crowded, len(self._waiting) >= NOTICES
        if not self._crowded:
            self._waiting.append(notice)
        return "not announced: too many others wait" if self._crowded and not crowded else None

    def expire(self, now: float) -> None:
        """Drop what is too old to be sent."""
        while self._waiting and self._waiting[0].expires <= now:
            self._waiting.popleft()

    def take(self, *, report_due: bool) -> Notice | None:
        """The one to be sent now; None if it is a report's turn."""
        if not self._waiting or (self._had_turn and report_due):
            self._had_turn = False
            return None
        self._had_turn = True
        return self._waiting.popleft()

    def put_back(self, notice: Notice) -> None:
        """Have it sent again: after the others, as it may be what is wrong."""
        self._waiting.append(notice)
