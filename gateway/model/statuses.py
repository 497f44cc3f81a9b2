"""The values of a job's status and health, and the reasons why an update is not applied.

This module imports nothing, so that workers and commands can use it. The Lua scripts and the
browser client get copies generated from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, get_args

__all__ = [
    "FINAL",
    "HEALTHS",
    "HINTS",
    "RANK",
    "STATUSES",
    "FinalStatus",
    "Health",
    "Reason",
    "Status",
]

FinalStatus = Literal["succeeded", "failed", "cancelled"]
Status = Literal["queued", "running", "succeeded", "failed", "cancelled"]
Health = Literal["ok", "stalled", "lost"]
Reason = Literal[
    "unchanged",
    "stale_attempt",
    "other_run",
    "final",
    "too_many_parts",
    "unknown",
    "not_accepted",
]
"""The reasons why an update caused no event."""

HINTS: Final[Mapping[Reason, str]] = {
    "final": "The job has ended. An update with `start: true` opens its next attempt.",
    "stale_attempt": "The job has begun a later attempt; this one's updates are not applied.",
    "other_run": "The attempt belongs to another `run`; this one's updates are not applied. An "
    "update with `start: true` opens the next attempt.",
    "unknown": "The gateway does not know this job (any more). An update that reports something, "
    "or has `start: true`, begins it; one that reports nothing only renews the lease.",
}
"""The text of the response, for reasons to which a worker must react."""

STATUSES: Final[tuple[Status, ...]] = get_args(Status)
HEALTHS: Final[tuple[Health, ...]] = get_args(Health)
FINAL: Final[frozenset[Status]] = frozenset(get_args(FinalStatus))
"""The statuses that only a new attempt can change."""
RANK: Final[dict[Status, int]] = {
    "queued": 0,
    "running": 1,
    "succeeded": 2,
    "failed": 2,
    "cancelled": 2,
}
"""The order of the statuses: within an attempt a status changes only to one of a higher rank."""
