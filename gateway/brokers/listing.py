"""A page of a list in the making: what makes it full, the same with every broker."""

from __future__ import annotations

import msgspec
from attrs import define, field

from ..job import Event

__all__ = ["Listing"]


@define
class Listing:
    """The events found so far."""

    limit: int
    """How many there may be."""
    room: int
    """Bytes, as JSON, that are left; the last event may take more."""
    events: list[Event] = field(factory=list)

    @property
    def full(self) -> bool:
        return len(self.events) == self.limit or self.room <= 0

    def add(self, event: Event) -> None:
        self.events.append(event)
        self.room -= len(msgspec.json.encode(event.state))
