"""What lies in a Redis, as values, and values as its scripts take them.

Pure. `storage.layout` says where each of these lies; the scripts write them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType

from ..job import Event, Position, State, Update

__all__ = ["decode", "plain", "snapshot", "unbroken", "witnessed"]


class _Stored(msgspec.Struct, array_like=True, gc=False):
    """An event as `record.lua` writes it."""

    number: int
    job: str
    epoch: int
    seq: int
    state: State
    data: Raw | UnsetType = UNSET


_decoder: msgspec.json.Decoder[_Stored] = msgspec.json.Decoder(_Stored)


def decode(text: bytes) -> tuple[int, Event]:
    """An event and its number in the feed, from what the scripts wrote.

    Raises ValueError (msgspec's errors are some) or TypeError if it is none.
    """
    stored = _decoder.decode(text)
    state = stored.state
    if stored.data is not UNSET:
        state = msgspec.structs.replace(state, data=stored.data)
    return stored.number, Event(stored.job, Position(stored.epoch, stored.seq), state)


def plain(update: Update) -> list[str | bytes]:
    """An update as the script takes it: fields and values as plain text."""
    found: list[str | bytes] = []
    for name in update.__struct_fields__:
        value = getattr(update, name)
        if name == "start":
            if value:
                found += ("start", "1")
        elif value is UNSET or (value is None and name in ("run", "traceparent")):
            continue
        elif value is None or value == _NULL:
            found += ("clear", name)
        elif isinstance(value, float):
            found += (name, repr(value))
        else:
            found += (name, bytes(value) if isinstance(value, Raw) else str(value))
    return found


_NULL = Raw(b"null")


def witnessed(event: Event) -> list[str | bytes | int]:
    """An event as the script that restores takes it."""
    fields: list[str | bytes | int] = []
    for name in State.__struct_fields__:
        value = getattr(event.state, name)
        if value is not None and value is not UNSET:
            fields += (name, bytes(value) if isinstance(value, Raw) else str(value))
    return [event.job, event.position.epoch, len(fields) // 2, *fields]


def snapshot(job: str, fields: Mapping[bytes, bytes]) -> Event:
    """The newest event of `job`, from its hash."""
    state: dict[str, Any] = {}
    for name in State.__struct_fields__:
        text = fields.get(name.encode())
        if text is not None:
            state[name] = _READ.get(name, bytes.decode)(text)
    return Event(job, Position(int(fields[b"epoch"]), int(fields[b"seq"])), State(**state))


_a_number = msgspec.json.Decoder(int | float).decode  # `3` is not `3.0`
_READ: dict[str, Callable[[bytes], Any]] = {
    "attempt": int,
    "percent": _a_number,
    "done": _a_number,
    "total": _a_number,
    "lease": _a_number,
    "eta": float,
    "created_at": float,
    "started_at": float,
    "updated_at": float,
    "finished_at": float,
    "data": Raw,
}


def unbroken(
    entries: Sequence[tuple[bytes, Mapping[bytes, bytes]]], *, after: Position
) -> list[Event]:
    """The events after `after` among a log's `entries` (newest first), oldest first.

    It goes back to the first hole, or what is no event: somebody else may have been there.
    """
    events: list[Event] = []
    for _, fields in entries:
        try:
            event = decode(fields[b"event"])[1]
        except (ValueError, TypeError, KeyError):
            break
        epoch, seq = event.position
        if event.position <= after or (events and events[-1].position != (epoch, seq + 1)):
            break
        events.append(event)
    return events[::-1]
