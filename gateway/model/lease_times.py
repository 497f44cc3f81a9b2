"""Computes when a job's lease expires, and when the job is dropped. Pure.

`reducer.expire_lease` is the transition; this module has only the times. A node calls
`Broker.expire_leases` every second (`lease_check_interval`, in `node/reconcile.py`).
Times are in seconds, on the clock of `reported_at`.
"""

from __future__ import annotations

from . import constants
from .state import State

__all__ = ["has_lease", "lease_expires_at", "next_deadline"]


def lease_expires_at(state: State, *, reported_at: float) -> float | None:
    """Returns the time at which the lease expires if the worker last reported at `reported_at`;
    None if there is no lease."""
    if not has_lease(state):
        return None
    return reported_at + state.lease * (1 if state.health == "ok" else constants.LOST_AFTER)


def has_lease(state: State) -> bool:
    """Returns whether the job has a lease that can expire, so that `expire_lease` changes it."""
    return state.status == "running" and state.health != "lost" and state.children is None


def next_deadline(state: State, *, reported_at: float, retention: float) -> tuple[float, bool]:
    """Returns the next deadline of a job whose worker last reported at `reported_at`, and whether
    the lease expires then; otherwise the job is dropped then. (A group is not dropped while any of
    its children has not ended.)

    A queued job has no worker yet that could report, so it is kept for longer. The retention of a
    lost job starts when it became lost.
    """
    expires_at = lease_expires_at(state, reported_at=reported_at)
    if expires_at is not None:
        return expires_at, True
    if state.status == "queued":
        return reported_at + max(retention, constants.QUEUED_RETENTION), False
    silent_for = state.lease * constants.LOST_AFTER if state.health == "lost" else 0
    return reported_at + silent_for + retention, False
