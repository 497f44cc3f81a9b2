"""Converts data in Redis to values, and values to arguments of the scripts. Pure.

`keys` defines the keys, and the scripts write them. Other programs can write to the Redis too, so
the data is untrusted: each function raises only `Unreadable`, for foreign data or a newer version.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType

from ...model.constants import MAX_DATA_DEPTH
from ...model.json_depth import nests_too_deep
from ...model.state import Children, Event, Position, Request, State, Update

__all__ = [
    "COMPARED",
    "Unreadable",
    "as_arguments",
    "decode",
    "is_record_of",
    "newest_without_gap",
    "observed_fields",
    "parse_position",
    "parse_request",
    "single_event",
    "snapshot",
]

VERSION = b"1"
"""The version of a record's layout: see lua/record.lua."""
MAX_RECORD = 64 * 1024
"""Maximum bytes of a record. The scripts write less, because each field has a limit."""


class Unreadable(ValueError):
    """The data is not a record or an event of this version."""


class _Stored(msgspec.Struct, array_like=True, gc=False):
    """An event in the form that `record.lua` writes."""

    number: int
    job: str
    epoch: int
    seq: int
    state: State
    data: Raw | UnsetType = UNSET


_decoder: msgspec.json.Decoder[_Stored] = msgspec.json.Decoder(_Stored)


def decode(text: bytes) -> tuple[int, Event]:
    """Returns an event and its number in the feed, from the text that the scripts have written."""
    try:
        stored = _decoder.decode(text)
    except Exception as error:  # malformed, or nested too deeply for the parser
        raise Unreadable(str(error) or type(error).__name__) from error
    state = stored.state
    if stored.data is not UNSET:
        state = msgspec.structs.replace(state, data=_checked(stored.data, parsed=True))
    if state.request is not None and state.request.args is not UNSET:
        _checked(state.request.args, parsed=True)
    return stored.number, Event(stored.job, Position(stored.epoch, stored.seq), state)


def as_arguments(update: Update) -> list[str | bytes]:
    """Returns an update as arguments of the script: fields and values as text."""
    arguments: list[str | bytes] = []
    for name in update.__struct_fields__:
        value = getattr(update, name)
        if name == "job":
            continue
        if isinstance(value, Request):
            text = msgspec.json.encode(msgspec.structs.replace(value, at=0.0))
            arguments += ("request", text[:-1], "request_id", value.id, "request_verb", value.verb)
            arguments += ("request_alone", "1") if value.alone else ()
        elif name == "start":
            if value:
                arguments += ("start", "1")
        elif value is UNSET or (value is None and name in _NEVER_CLEARED):
            continue
        elif value is None or value == _NULL:
            arguments += ("clear", name)
        elif isinstance(value, float):
            arguments += (name, repr(value))
        else:
            arguments += (name, _text(value))
    return arguments


_NEVER_CLEARED = frozenset(("run", "part", "traceparent", "ack", "refused"))


def _text(value: Any) -> str | bytes:
    if isinstance(value, Raw):
        return bytes(value)
    structured = isinstance(value, tuple | Request | Children)
    return msgspec.json.encode(value) if structured else str(value)


_NULL = Raw(b"null")


def observed_fields(event: Event) -> list[str | bytes | int]:
    """Returns an event as arguments of the script `restore`."""
    fields: list[str | bytes | int] = []
    for name in State.__struct_fields__:
        value = getattr(event.state, name)
        if value is not None and value is not UNSET:
            fields += (name, _text(value))
    request = event.state.request
    if request is not None:
        stage = "refused" if request.refused is not None else "open" if request.open else "seen"
        fields += ("request_id", request.id, "request_verb", request.verb, "request_is", stage)
        fields += ("request_alone", "1") if request.alone else ()
    return [event.job, len(fields) // 2, *fields]


COMPARED = ("epoch", "seq", "attempt", "percent", "done", "updated_at", "status", "request_id")
"""Fields of a record that show whether it has the state of an event: numbers, then texts."""
_COMPARED_NUMBERS = 6


def is_record_of(event: Event, answer: object) -> bool:
    """Returns whether a record has the position and the state of an event, from the answer to HMGET
    of `COMPARED`."""
    if not isinstance(answer, list):
        return False  # an error: the key has another type
    state, request = event.state, event.state.request
    numbers = (*event.position, state.attempt, state.percent, state.done, state.updated_at)
    try:
        stored = [None if text is None else float(text) for text in answer[:_COMPARED_NUMBERS]]
    except ValueError:
        return False
    texts = (state.status, None if request is None else request.id)
    stored_texts = [
        None if text is None else text.decode("utf-8", "replace")
        for text in answer[_COMPARED_NUMBERS:]
    ]
    return stored == list(numbers) and stored_texts == list(texts)


def snapshot(job: str, answer: object) -> Event | None:
    """Returns the newest event of `job`, from the answer to HGETALL; None if there is no such
    job."""
    if not isinstance(answer, dict):
        # Redis's protocol 2 answers with a list. An error means that the key has another type.
        if not isinstance(answer, list):
            raise Unreadable(str(answer))
        answer = dict(zip(answer[::2], answer[1::2], strict=True))
    if not answer:
        return None
    return _snapshot(job, answer)


def _snapshot(job: str, fields: Mapping[bytes, bytes]) -> Event:
    if fields.get(b"v") != VERSION:
        raise Unreadable(f"it is of version {fields.get(b'v', b'none').decode('ascii', 'replace')}")
    if sum(map(len, fields.values())) > MAX_RECORD:
        raise Unreadable(f"it has more than {MAX_RECORD} bytes")
    values: dict[str, Any] = {}
    try:
        for name in State.__struct_fields__:
            text = fields.get(name.encode())
            if text is not None and name not in ("data", "request"):
                values[name] = _PARSERS.get(name, bytes.decode)(text)
        state = msgspec.convert(values, State)
        position = Position(_PARSERS["seq"](fields[b"epoch"]), _PARSERS["seq"](fields[b"seq"]))
    except Exception as error:
        raise Unreadable(str(error) or type(error).__name__) from error
    data = fields.get(b"data")
    if data is not None:
        state = msgspec.structs.replace(state, data=_checked(Raw(data)))
    request = fields.get(b"request")
    if request is not None:
        state = msgspec.structs.replace(state, request=parse_request(request))
    return Event(job, position, state)


def parse_request(text: bytes) -> Request:
    """Returns a request, from the text that the scripts have stored."""
    try:
        request = _requests.decode(text)
    except Exception as error:
        raise Unreadable(f"request: {error}") from error
    if request.args is not UNSET:
        _checked(request.args, parsed=True)
    return request


_requests: msgspec.json.Decoder[Request] = msgspec.json.Decoder(Request)


def parse_position(answer: object) -> Position | None:
    """Returns the position, from the answer to HMGET of epoch and seq; None if the job is unknown
    or unreadable."""
    if not isinstance(answer, list) or None in answer:
        return None
    try:
        epoch, seq = map(_parse_count, answer)
    except ValueError:
        return None
    return Position(epoch, seq)


def _checked(data: Raw, *, parsed: bool = False) -> Raw:
    """Returns `data`. Raises `Unreadable` if it nests more deeply than an update may, has a line
    break, or is not JSON (which is not checked if it was already `parsed`)."""
    text = bytes(data)
    if nests_too_deep(text):
        raise Unreadable(f"data nests more than {MAX_DATA_DEPTH} deep")
    try:
        text.decode() if parsed else msgspec.json.decode(text)
    except Exception as error:
        raise Unreadable(f"data: {error}") from error
    if b"\n" in text or b"\r" in text:  # it becomes a part of a line
        raise Unreadable("data is not on one line")
    return data


def _parse_count(text: bytes) -> int:
    if not text.isdigit() or len(text) > 16 or text.startswith(b"0"):
        raise ValueError(f"{text!r} is not a whole number")
    return int(text)


_parse_number = msgspec.json.Decoder(int | float).decode  # `3` is not `3.0`
_PARSERS: dict[str, Callable[[bytes], Any]] = {
    "seq": _parse_count,
    "attempt": _parse_count,
    "accepts": msgspec.json.decode,
    "children": msgspec.json.decode,
    "weight": _parse_number,
    "percent": _parse_number,
    "done": _parse_number,
    "total": _parse_number,
    "lease": _parse_number,
    "eta": _parse_number,
    "created_at": _parse_number,
    "started_at": _parse_number,
    "updated_at": _parse_number,
    "finished_at": _parse_number,
}


def single_event(job: str, answer: object, after: Position) -> list[Event]:
    """Returns the event of a job that has had only one, in a list that is empty if the event is not
    newer than `after`."""
    try:
        event = snapshot(job, answer)
    except Unreadable:
        return []
    return (
        [event] if event is not None and event.position.seq == 1 and event.position > after else []
    )


def newest_without_gap(
    entries: Sequence[tuple[bytes, Sequence[bytes]]], *, after: Position
) -> list[Event]:
    """Returns the events newer than `after` among a log's `entries` (newest first), oldest first.

    Events before a gap or a foreign entry are left out.
    """
    events: list[Event] = []
    for _, fields in entries:
        try:
            event = decode(fields[1])[1]
        except (Unreadable, IndexError):
            break
        epoch, seq = event.position
        if event.position <= after or (events and events[-1].position != (epoch, seq + 1)):
            break
        events.append(event)
    return events[::-1]
