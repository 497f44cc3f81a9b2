"""Whether a gateway is away: when to try again, and what the log hears of it.

Pure; time comes in as an argument (`time.monotonic`), luck from `os.urandom`. The log
hears once that a gateway is away and once that it is back, and of a gateway that answers
every other request only now and then.
"""

from __future__ import annotations

import os

from .limits import BACKOFF, QUIET

__all__ = ["Outage"]


class Outage:
    """What a sender knows of the health of its gateway."""

    __slots__ = ("_quiet_until", "_told", "failures", "retry_at", "since", "why")

    def __init__(self) -> None:
        self.failures = 0
        """Requests in a row that got no answer."""
        self.retry_at = 0.0
        """Before this time nothing is sent."""
        self.why = "no answer yet"
        self.since: float | None = None
        """When the first of them failed."""
        self._told = False
        self._quiet_until = float("-inf")

    def failed(self, why: str, *, now: float) -> str | None:
        """Take note of a request without an answer. Returns what is to be logged, if anything."""
        first, longest = BACKOFF
        pause = min(first * 2 ** min(self.failures, 16), longest)
        self.failures += 1
        self.why = why
        if self.since is None:
            self.since = now
        # Half fixed, half luck: never at once, and not all workers in one wave.
        self.retry_at = now + pause * (0.5 + os.urandom(1)[0] / 510)
        if self._told or now < self._quiet_until:
            return None
        self._told, self._quiet_until = True, now + QUIET
        return f"is away ({why}); jobs go on, and their newest state is sent when it is back"

    def answered(self, *, now: float) -> str | None:
        """Take note of an answer. Returns what is to be logged, if anything."""
        since, told = self.since, self._told
        self.failures, self.retry_at, self.since, self._told = 0, 0.0, None, False
        return f"is back after {now - since:.1f} s" if told and since is not None else None
