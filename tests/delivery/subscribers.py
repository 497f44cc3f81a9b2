"""Outboxes without a connection, and events, for tests of topics and the hub."""

from __future__ import annotations

from attrs import define, field

from gateway.delivery.topic import Subscription
from gateway.model.state import Event, Position, State


@define
class RecordingOutbox:
    """An outbox that records its notifications."""

    notified: list[Subscription] = field(factory=list)

    def notify(self, subscription: Subscription) -> None:
        self.notified.append(subscription)


class IgnoringOutbox:
    """An outbox that ignores notifications."""

    def notify(self, subscription: Subscription) -> None:
        pass


def event(job: str, seq: int) -> Event:
    return Event(
        job,
        Position(1, seq),
        State(status="running", attempt=1, created_at=1.0, updated_at=1.0),
    )
