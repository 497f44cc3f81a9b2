"""The outages of a gateway: when to try again, and what to log.

Pure; time (`time.monotonic`) and randomness are arguments. The beginning and the end of an outage
are logged once each. If a gateway keeps failing and recovering, at most one outage per `QUIET`
seconds is logged.
"""

from __future__ import annotations

from .limits import BACKOFF, FIRST_CONTACT, MAX_RETRY_AFTER, QUIET
from .publisher import NotConnected, Unreachable

__all__ = ["Outage"]


class Outage:
    """The availability of a gateway, as its sender has observed it."""

    __slots__ = (
        "_connected",
        "_logged",
        "_quiet_until",
        "failures",
        "retry_at",
        "since",
        "why",
    )

    def __init__(self) -> None:
        self.failures = 0
        """The number of consecutive requests without an answer."""
        self.retry_at = 0.0
        """The time before which nothing is sent."""
        self.why = "no answer yet"
        self.since: float | None = None
        """When the first of them failed."""
        self._connected = False  # whether any request was ever answered
        self._logged = False
        self._quiet_until = float("-inf")

    def failed(self, error: Unreachable, *, now: float, random: float) -> str | None:
        """Record a request without an answer. Returns a line to log, if any.

        `random` is a number from 0 to 1.
        """
        first, longest = BACKOFF
        pause = min(first * 2 ** min(self.failures, 16), longest)
        self.failures += 1
        self.why = str(error)
        if not isinstance(error, NotConnected):
            self._connected = True
        if self.since is None:
            self.since = now
        # Half fixed, half random: never immediately, and not all workers at the same time.
        pause *= 0.5 + random / 2
        if error.retry_after is not None:
            pause = max(pause, min(error.retry_after, MAX_RETRY_AFTER) * (1 + random / 10))
        self.retry_at = now + pause
        if self._logged or now < self._quiet_until:
            return None
        self._logged, self._quiet_until = True, now + QUIET
        return f"is unavailable ({self.why}); jobs continue, and their newest state is sent later"

    def answered(self, *, now: float) -> str | None:
        """Record an answer. Returns a line to log, if any."""
        since, logged = self.since, self._logged
        self._connected = True
        self.failures, self.retry_at, self.since, self._logged = 0, 0.0, None, False
        return (
            f"is available again after {now - since:.1f} s"
            if logged and since is not None
            else None
        )

    def wait_budget(self, timeout: float, *, now: float) -> float:
        """How many seconds a job should wait for its end, if its timeout is `timeout` seconds.

        Zero if the outage is older than that, or if waiting is useless (`in_vain`).
        """
        if self.in_vain(now) or (self.since is not None and now - self.since > timeout):
            return 0.0
        return timeout

    def in_vain(self, now: float) -> bool:
        """Whether no connection could be made for `FIRST_CONTACT`, nor ever before: most likely
        nothing runs at that address."""
        return not self._connected and self.since is not None and now - self.since >= FIRST_CONTACT
