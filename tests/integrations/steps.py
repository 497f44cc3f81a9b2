"""The attempts and statuses of a job, for tests of queues."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from gateway.model.state import State

__all__ = ["status_steps"]


def status_steps(states: Iterable[State]) -> list[tuple[int, str]]:
    """Returns the attempt and the status of the states, without repetitions."""
    return [step for step, _ in groupby((state.attempt, state.status) for state in states)]
