"""Fills one page of a list of jobs with events, up to its limits; every broker uses this class."""

from __future__ import annotations

import msgspec
from attrs import define, field

from ..model.state import Event

__all__ = ["Listing"]


@define
class Listing:
    """The events found so far."""

    limit: int
    """Maximum number of events."""
    bytes_left: int
    """Bytes of JSON that may be added; the last event may exceed them."""
    events: list[Event] = field(factory=list)

    @property
    def full(self) -> bool:
        return len(self.events) == self.limit or self.bytes_left <= 0

    def add(self, event: Event) -> None:
        self.events.append(event)
        self.bytes_left -= len(msgspec.json.encode(event.state))
