"""A job's recent events as a document: without holes, or with the hole named. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ..model.state import Event, Position

__all__ = ["history_after"]


def history_after(
    head: Event, kept: Sequence[Event], *, after: Position, room: int
) -> dict[str, Any]:
    """The job's events after `after`, as far as they are known, as a JSON document.

    `head` is its newest event, `kept` are the events that the broker has kept, oldest first;
    either may be newer than the other. A position of another epoch counts as the beginning of
    this one. If events are missing between `after` and the kept ones, the document has a `gap`.
    It ends after `room` bytes of states, and then has `more`.
    """
    newest = max([head, *kept], key=lambda event: event.position)
    epoch = newest.position.epoch
    seq = after.seq if after.epoch == epoch else 0
    known = {event.position: event.state for event in [*kept, newest]}
    first = newest.position.seq + 1
    while first > seq + 1 and (epoch, first - 1) in known:
        first -= 1
    events: list[dict[str, Any]] = []
    document: dict[str, Any] = {"job": head.job, "epoch": epoch, "events": events}
    if first > seq + 1:
        document["gap"] = {"from": seq + 1, "to": first - 1}
    for number in range(first, newest.position.seq + 1):
        if room <= 0:
            document["more"] = True
            break
        state = known[Position(epoch, number)]
        events.append({"seq": number, "state": state})
        room -= len(msgspec.json.encode(state))
    return document
