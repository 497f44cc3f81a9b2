"""Records why a Redis refuses commands, for the readiness check, and logs each reason once."""

from __future__ import annotations

import logging

from redis.exceptions import ResponseError

from .servers import explain

__all__ = ["Refusals"]

log = logging.getLogger("gateway.brokers.redis")

SCRIPT_ERRORS = ("GENERATION", "UNREADABLE")
"""The errors of the gateway's own scripts, which are no refusals of the server."""


class Refusals:
    """Records the server's refusals: `MISCONF`, `OOM`, `READONLY`, `NOPERM`, a missing command …"""

    def __init__(self) -> None:
        self.reason: str | None = None
        """The reason why the last update was refused; None if it was accepted."""
        self._logged: set[str] = set()

    def record(self, error: ResponseError, *, update: bool) -> None:
        """Records that the server answered an update, or another command, with this error."""
        text = explain(error)
        kind = text.partition(" ")[0]
        if kind in SCRIPT_ERRORS:
            return
        if kind not in self._logged:
            log.warning("Redis refuses %s: %s", "updates" if update else "a command", text)
            self._logged.add(kind)
        if update:
            self.reason = f"updates are refused: {text}"

    def update_accepted(self) -> None:
        """Records that the server has accepted an update."""
        if self.reason is not None:
            log.info("Redis accepts updates again")
            self._logged.clear()
            self.reason = None
