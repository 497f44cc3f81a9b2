"""Outboxes without a connection, for tests of topics and the hub."""

from __future__ import annotations

from attrs import define, field

from gateway.delivery.topic import Subscription


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
