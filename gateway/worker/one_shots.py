"""One-shot updates: reports on jobs by a program that is not their worker.

No lock, no clock, no I/O; the process's lock guards it, and the time is an argument. Each update is
sent once or not at all. They take turns with the reports of workers, so that neither delays the
other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from .limits import ONE_SHOTS

__all__ = ["OneShot", "OneShots"]


class OneShot(NamedTuple):
    """An update that is sent once, or not at all."""

    job: str
    fields: dict[str, Any]
    expires: float
    """When it is dropped if it was not sent (`time.monotonic`)."""


class OneShots:
    """The one-shot updates of one sender: at most `ONE_SHOTS`; more are dropped."""

    __slots__ = ("_full", "_had_turn", "_waiting")

    def __init__(self) -> None:
        self._waiting: deque[OneShot] = deque()
        self._had_turn = False
        self._full = False

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, one_shot: OneShot) -> str | None:
        """Add an update at the end of the queue. Returns a line to log, if any."""
        was_full, self._full = self._full, len(self._waiting) >= ONE_SHOTS
        if not self._full:
            self._waiting.append(one_shot)
        return "not announced: too many others wait" if self._full and not was_full else None

    def expire(self, now: float) -> None:
        """Drop the updates that have expired."""
        while self._waiting and self._waiting[0].expires <= now:
            self._waiting.popleft()

    def ready(self, releasing: Callable[[str], bool]) -> bool:
        """Whether an update may be sent now. `releasing` returns whether a report of a job must be
        sent first, because it belongs to an earlier attempt."""
        return bool(self._waiting) and not releasing(self._waiting[0].job)

    def take(self, releasing: Callable[[str], bool], *, report_due: bool) -> OneShot | None:
        """The update to send now; None if it is a report's turn."""
        if not self.ready(releasing) or (self._had_turn and report_due):
            self._had_turn = False
            return None
        self._had_turn = True
        return self._waiting.popleft()

    def put_back(self, one_shot: OneShot) -> None:
        """Send it again after the others, because it may be the cause of the failure."""
        self._waiting.append(one_shot)
