"""Events for tests that need no broker."""

from __future__ import annotations

from typing import Any

from gateway.model.state import Event, Position, State

__all__ = ["event"]


def event(job: str, seq: int, *, epoch: int = 1, **fields: Any) -> Event:
    """Returns an event of a running job; `fields` are further fields of its state."""
    state = State(status="running", attempt=1, created_at=1.0, updated_at=1.0, **fields)
    return Event(job, Position(epoch, seq), state)
