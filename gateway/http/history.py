"""Makes a document of a job's recent events, which names a gap if there is one. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ..model.state import Event, Position

__all__ = ["history_after"]


def history_after(
    head: Event, stored: Sequence[Event], *, after: Position, bytes_left: int
) -> dict[str, Any]:
    """Returns the job's events after `after`, as far as they are known, as a JSON document.

    `head` is the job's newest event, `stored` are the events that the broker has kept, oldest
    first; either may be newer than the other. A position of another epoch counts as the beginning
    of this epoch. If events are missing between `after` and the stored ones, the document has a
    `gap`. It ends after `bytes_left` bytes of states, and then has `more`.
    """
    newest = max([head, *stored], key=lambda event: event.position)
    epoch = newest.position.epoch
    seq = after.seq if after.epoch == epoch else 0
    states = {event.position: event.state for event in [*stored, newest]}
    first = newest.position.seq + 1
    while first > seq + 1 and (epoch, first - 1) in states:
        first -= 1
    events: list[dict[str, Any]] = []
    document: dict[str, Any] = {"job": head.job, "epoch": epoch, "events": events}
    if first > seq + 1:
        document["gap"] = {"from": seq + 1, "to": first - 1}
    for number in range(first, newest.position.seq + 1):
        if bytes_left <= 0:
            document["more"] = True
            break
        state = states[Position(epoch, number)]
        events.append({"seq": number, "state": state})
        bytes_left -= len(msgspec.json.encode(state))
    return document
