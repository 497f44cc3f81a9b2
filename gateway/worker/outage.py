"""The outages of a gateway: when the sender tries again, and what it logs.

Pure; time (`time.monotonic`) and randomness are arguments. The beginning and the end of an outage
are logged once each. If a gateway keeps failing and recovering, at most one outage is logged per
`OUTAGE_LOG_INTERVAL`.
"""

from __future__ import annotations

from .limits import FIRST_CONNECTION_TIMEOUT, MAX_RETRY_AFTER, OUTAGE_LOG_INTERVAL, RETRY_PAUSES
from .publisher import NotConnected, Unreachable

__all__ = ["Outage"]


class Outage:
    """The availability of a gateway, as its sender has observed it."""

    __slots__ = (
        "_connected",
        "_is_logged",
        "_log_again_at",
        "began_at",
        "failures",
        "reason",
        "retry_at",
    )

    def __init__(self) -> None:
        self.failures = 0
        """The number of consecutive requests without a response."""
        self.retry_at = 0.0
        """The time before which the sender sends nothing."""
        self.reason = "no answer yet"
        """Why the last failed request got no response."""
        self.began_at: float | None = None
        """When the first of these requests failed; None if there is no outage."""
        self._connected = False  # whether a connection was ever made
        self._is_logged = False
        self._log_again_at = float("-inf")

    def record_failure(self, error: Unreachable, *, now: float, random: float) -> str | None:
        """Records a request without a response. Returns a line to log, if any.

        `random` is a number from 0 to 1.
        """
        first_pause, longest_pause = RETRY_PAUSES
        pause = min(first_pause * 2 ** min(self.failures, 16), longest_pause)
        self.failures += 1
        self.reason = str(error)
        if not isinstance(error, NotConnected):
            self._connected = True
        if self.began_at is None:
            self.began_at = now
        # Half fixed, half random: never immediately, and not all workers at the same time.
        pause *= 0.5 + random / 2
        if error.retry_after is not None:
            pause = max(pause, min(error.retry_after, MAX_RETRY_AFTER) * (1 + random / 10))
        self.retry_at = now + pause
        if self._is_logged or now < self._log_again_at:
            return None
        self._is_logged, self._log_again_at = True, now + OUTAGE_LOG_INTERVAL
        return (
            f"is unavailable ({self.reason}); jobs are not affected, and their newest state is "
            "sent when it is available again"
        )

    def record_response(self, *, now: float) -> str | None:
        """Records a response. Returns a line to log, if any."""
        began_at, was_logged = self.began_at, self._is_logged
        self._connected = True
        self.failures, self.retry_at, self.began_at, self._is_logged = 0, 0.0, None, False
        return (
            f"is available again after {now - began_at:.1f} s"
            if was_logged and began_at is not None
            else None
        )

    def wait_budget(self, timeout: float, *, now: float) -> float:
        """Returns how many of `timeout` seconds a block should wait until its final state is sent.

        Zero if the outage is older than `timeout`, or if the gateway was `never_connected`.
        """
        if self.never_connected(now) or (
            self.began_at is not None and now - self.began_at > timeout
        ):
            return 0.0
        return timeout

    def never_connected(self, now: float) -> bool:
        """Returns whether no connection was ever made, and `FIRST_CONNECTION_TIMEOUT` has passed
        since the first attempt. Then probably no gateway runs at this address."""
        return (
            not self._connected
            and self.began_at is not None
            and now - self.began_at >= FIRST_CONNECTION_TIMEOUT
        )
