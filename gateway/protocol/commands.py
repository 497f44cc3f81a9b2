"""What a client may send: commands and updates, from JSON text to values.

`parse_command` and `parse_update` raise `InvalidInput` naming the field.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, TypeVar, get_args

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from ..model.constants import (
    DEFAULT_SET_LIMIT,
    MAX_ARGS,
    MAX_DATA,
    MAX_DATA_DEPTH,
    MAX_NUMBER,
    MAX_SET_LIMIT,
)
from ..model.errors import InvalidInput
from ..model.ids import check_job_id
from ..model.json_depth import nests_too_deep
from ..model.requests import RequestId, Verb
from ..model.state import Attempt, JobUpdate, Update
from ..model.statuses import STATUSES, Status

__all__ = [
    "Command",
    "CommandId",
    "Hello",
    "Mode",
    "Ping",
    "Pong",
    "RequestBody",
    "Subscribe",
    "SyncSubscriptions",
    "Unsubscribe",
    "UnwatchSet",
    "WatchSet",
    "command_id",
    "parse_batch",
    "parse_command",
    "parse_job_request",
    "parse_update",
]

Mode = Literal["latest", "every"]
CommandId = str | int | None
Count = Annotated[int, Meta(ge=0, le=MAX_NUMBER)]


class Hello(Struct, frozen=True, tag_field="type", tag="hello"):
    """The client's token, and the positions that it already has."""

    token: str | None = None
    positions: dict[str, tuple[Count | None, Count]] = {}
    max_hz: float | None = None


class SyncSubscriptions(Struct, frozen=True, tag_field="type", tag="sync_subscriptions"):
    """Replaces the jobs that the client watches; idempotent."""

    jobs: list[str]
    id: CommandId = None
    mode: Mode = "latest"


class Subscribe(Struct, frozen=True, tag_field="type", tag="subscribe"):
    """Add jobs to the set."""

    jobs: list[str]
    id: CommandId = None
    mode: Mode = "latest"


class Unsubscribe(Struct, frozen=True, tag_field="type", tag="unsubscribe"):
    """Remove jobs from the set."""

    jobs: list[str]
    id: CommandId = None


class WatchSet(Struct, frozen=True, tag_field="type", tag="watch_set", forbid_unknown_fields=True):
    """Watch the jobs whose ids begin with `prefix`, also those that do not exist yet."""

    prefix: str
    id: CommandId = None
    statuses: Annotated[list[Status], Meta(min_length=1)] | None = None
    limit: Annotated[int, Meta(ge=1, le=MAX_SET_LIMIT)] = DEFAULT_SET_LIMIT


class UnwatchSet(
    Struct, frozen=True, tag_field="type", tag="unwatch_set", forbid_unknown_fields=True
):
    """Stop watching the set with this `id`, or without one all sets with this prefix."""

    prefix: str | None = None
    id: CommandId = None


class Ping(Struct, frozen=True, tag_field="type", tag="ping"):
    """Asks for a `pong`; with `time`, for one that contains the time."""

    time: bool = False


class Pong(Struct, frozen=True, tag_field="type", tag="pong"):
    """Answers a `ping`."""


Command = Hello | SyncSubscriptions | Subscribe | Unsubscribe | WatchSet | UnwatchSet | Ping | Pong


class RequestBody(Struct, frozen=True, forbid_unknown_fields=True):
    """A request to a job's worker, as it is sent over HTTP."""

    verb: Verb
    id: RequestId | None = None
    args: Raw | UnsetType = UNSET
    attempt: Attempt | UnsetType = UNSET


_request_bodies = msgspec.json.Decoder(RequestBody)
_commands: msgspec.json.Decoder[Command] = msgspec.json.Decoder(Command)
_updates = msgspec.json.Decoder(Update)
_job_updates = msgspec.json.Decoder(JobUpdate)
_batches = msgspec.json.Decoder(list[Raw])
U = TypeVar("U", bound=Update)
_VALUES: dict[str | None, tuple[str, ...]] = {"mode": get_args(Mode), "status": STATUSES}
"""The allowed values of a field, for error messages."""
_PATH = re.compile(r" - at `(?:key in )?\$\.?([^`]*)`$")
_NAMED = re.compile(r"(?:unknown|missing required) field `([^`]*)`")


def parse_command(text: str | bytes) -> Command:
    """The command in one message from a client.

    Fields it does not know are ignored, so that newer clients work with older gateways.
    Raises `InvalidInput` with code `invalid_json`, `unknown_type` or `invalid_command`.
    """
    try:
        return _commands.decode(text)
    except msgspec.ValidationError as error:
        raise _explain(error, code="invalid_command") from None
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise InvalidInput(f"not a JSON object: {error}", code="invalid_json") from None


class _Identified(Struct):
    id: CommandId = None


_identified = msgspec.json.Decoder(_Identified)


def command_id(text: str | bytes) -> CommandId:
    """The `id` in a message that need not be a valid command; None if there is none or it cannot be
    read."""
    try:
        return _identified.decode(text).id
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None


def parse_update(text: bytes) -> Update:
    """The update in a request body; unknown fields are errors, so that typos are noticed.

    Raises `InvalidInput` with code `invalid_json` or `invalid_update`.
    """
    return _parse_update(text, _updates)


def parse_batch(text: bytes, *, most: int) -> list[JobUpdate | InvalidInput]:
    """The updates in a request body that is a list of them; for an invalid one, the error.

    Raises `InvalidInput` if it is not a list of objects, or has more than `most`.
    """
    try:
        items = _batches.decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise InvalidInput(f"not a list of updates: {error}", code="invalid_json") from None
    if len(items) > most:
        raise InvalidInput(f"over {most} updates", code="invalid_update")
    found: list[JobUpdate | InvalidInput] = []
    for item in items:
        try:
            update = _parse_update(bytes(item), _job_updates)
            check_job_id(update.job)
        except InvalidInput as error:
            found.append(error)
        else:
            found.append(update)
    return found


def _parse_update(text: bytes, decoder: msgspec.json.Decoder[U]) -> U:
    try:
        text.decode()  # msgspec does not look into what it passes through unread (`data`)
        update = decoder.decode(text)
        if update.data is not UNSET:
            data = compact(update.data, field="data", most=MAX_DATA, code="invalid_update")
            update = msgspec.structs.replace(update, data=data)
    except msgspec.ValidationError as error:
        raise _explain(error, code="invalid_update") from None
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise InvalidInput(f"not a JSON object: {error}", code="invalid_json") from None
    return update


def parse_job_request(text: bytes) -> RequestBody:
    """The request in a request's body. Raises `InvalidInput` with code `invalid_json` or
    `invalid_request`."""
    try:
        text.decode()
        request = _request_bodies.decode(text)
        if request.args is not UNSET:
            args = compact(request.args, field="args", most=MAX_ARGS, code="invalid_request")
            request = msgspec.structs.replace(request, args=args)
    except msgspec.ValidationError as error:
        raise _explain(error, code="invalid_request") from None
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise InvalidInput(f"not a JSON object: {error}", code="invalid_json") from None
    return request


def compact(raw: Raw, *, field: str, most: int, code: str) -> Raw:
    """The application's JSON text without white space, so that equal data compares equal, and no
    newline in it separates frames.

    Raises `InvalidInput` if it nests too deeply or is longer than `most` bytes.
    """
    if nests_too_deep(bytes(raw)):
        raise InvalidInput(f"{field} nests more than {MAX_DATA_DEPTH} deep", code=code, field=field)
    text = msgspec.json.format(bytes(raw), indent=-1)
    if len(text) > most:
        raise InvalidInput(f"{field} is longer than {most} bytes of JSON", code=code, field=field)
    # A copy, because this is stored, and msgspec's result takes half as much memory again.
    return Raw(bytes(memoryview(text)))


def _explain(error: msgspec.ValidationError, *, code: str) -> InvalidInput:
    """msgspec's error, with the name of the field."""
    text = str(error)
    found = _PATH.search(text) or _NAMED.search(text)
    field = found.group(1) or None if found else None
    if text.startswith("Invalid enum value") and field in _VALUES:
        text = f"{text}; it is one of {', '.join(_VALUES[field])}"
    if code == "invalid_command" and field == "type":
        code = "unknown_type"
    return InvalidInput(text, code=code, field=field)
