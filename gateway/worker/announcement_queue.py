"""The queue of announcements: updates by programs that are not the worker (see `announcing`).

No lock, no clock, no I/O; the process's lock guards it, and the time is an argument. Each update is
sent once or not at all. The sender sends announcements and the reports of workers alternately, so
that neither delays the other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from .limits import MAX_ANNOUNCEMENTS

__all__ = ["Announcement", "AnnouncementQueue"]


class Announcement(NamedTuple):
    """An update that is sent once, or not at all."""

    job: str
    fields: dict[str, Any]
    expires: float
    """When the update is dropped if it was not sent (`time.monotonic`)."""


class AnnouncementQueue:
    """The announcements of one sender: at most `MAX_ANNOUNCEMENTS`; more are dropped."""

    __slots__ = ("_full", "_waiting", "_was_last_sent")

    def __init__(self) -> None:
        self._waiting: deque[Announcement] = deque()
        self._was_last_sent = False
        self._full = False

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, announcement: Announcement) -> str | None:
        """Adds an update at the end of the queue. Returns a line to log, if any."""
        was_full, self._full = self._full, len(self._waiting) >= MAX_ANNOUNCEMENTS
        if not self._full:
            self._waiting.append(announcement)
        if not self._full or was_full:
            return None
        return f"not announced: {len(self._waiting)} announcements are already waiting"

    def expire(self, now: float) -> None:
        """Drops the updates that have expired."""
        while self._waiting and self._waiting[0].expires <= now:
            self._waiting.popleft()

    def has_next(self, is_releasing: Callable[[str], bool]) -> bool:
        """Returns whether an update may be sent now. `is_releasing` returns whether a report of
        that job must be sent first, because it belongs to an earlier attempt."""
        return bool(self._waiting) and not is_releasing(self._waiting[0].job)

    def next(self, is_releasing: Callable[[str], bool], *, report_due: bool) -> Announcement | None:
        """Removes and returns the update to send now; None if a report must be sent before it."""
        if not self.has_next(is_releasing) or (self._was_last_sent and report_due):
            self._was_last_sent = False
            return None
        self._was_last_sent = True
        return self._waiting.popleft()

    def put_back(self, announcement: Announcement) -> None:
        """Adds it again after the others, because it may be the cause of the failure."""
        self._waiting.append(announcement)
