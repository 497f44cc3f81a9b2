"""Parses the commands and updates that a client may send: JSON text → values.

`parse_command` and `parse_update` raise `InvalidInput`, which names the field.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, TypeVar, get_args

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from ..model.constants import (
    DEFAULT_SET_LIMIT,
    MAX_ARGS,
    MAX_DATA_BYTES,
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
    """Sends the client's token, and its positions."""

    token: str | None = None
    positions: dict[str, tuple[Count | None, Count]] = {}
    max_hz: float | None = None


class SyncSubscriptions(Struct, frozen=True, tag_field="type", tag="sync_subscriptions"):
    """Replaces the jobs that the client watches; idempotent."""

    jobs: list[str]
    id: CommandId = None
    mode: Mode = "latest"


class Subscribe(Struct, frozen=True, tag_field="type", tag="subscribe"):
    """Adds jobs to those that the client watches."""

    jobs: list[str]
    id: CommandId = None
    mode: Mode = "latest"


class Unsubscribe(Struct, frozen=True, tag_field="type", tag="unsubscribe"):
    """Removes jobs from those that the client watches."""

    jobs: list[str]
    id: CommandId = None


class WatchSet(Struct, frozen=True, tag_field="type", tag="watch_set", forbid_unknown_fields=True):
    """Watches the jobs whose ids begin with `prefix`, also those that do not exist yet."""

    prefix: str
    id: CommandId = None
    statuses: Annotated[list[Status], Meta(min_length=1)] | None = None
    limit: Annotated[int, Meta(ge=1, le=MAX_SET_LIMIT)] = DEFAULT_SET_LIMIT


class UnwatchSet(
    Struct, frozen=True, tag_field="type", tag="unwatch_set", forbid_unknown_fields=True
):
    """Stops watching the set with this `id`; without an `id`, all sets with this prefix."""

    prefix: str | None = None
    id: CommandId = None


class Ping(Struct, frozen=True, tag_field="type", tag="ping"):
    """Requests a `pong`; with `time`, a `pong` that contains the time."""

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
    """Returns the command in one message from a client.

    Unknown fields are ignored, so that newer clients work with older gateways.
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
    """Returns the `id` in a message that need not be a valid command; None if there is none or it
    cannot be read."""
    try:
        return _identified.decode(text).id
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None


def parse_update(text: bytes) -> Update:
    """Returns the update in a request body. Unknown fields are errors, so that typos are noticed.

    Raises `InvalidInput` with code `invalid_json` or `invalid_update`.
    """
    return _parse_update(text, _updates)


def parse_batch(text: bytes, *, maximum: int) -> list[JobUpdate | InvalidInput]:
    """Returns the updates in a request body that is a list of updates; for an invalid one, the
    error.

    Raises `InvalidInput` if the body is not a list of objects, or has more than `maximum`.
    """
    try:
        items = _batches.decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise InvalidInput(f"not a list of updates: {error}", code="invalid_json") from None
    if len(items) > maximum:
        raise InvalidInput(f"over {maximum} updates", code="invalid_update")
    updates: list[JobUpdate | InvalidInput] = []
    for item in items:
        try:
            update = _parse_update(bytes(item), _job_updates)
            check_job_id(update.job)
        except InvalidInput as error:
            updates.append(error)
        else:
            updates.append(update)
    return updates


def _parse_update(text: bytes, decoder: msgspec.json.Decoder[U]) -> U:
    try:
        text.decode()  # msgspec does not check the text of `data`
        update = decoder.decode(text)
        if update.data is not UNSET:
            data = compact(update.data, field="data", maximum=MAX_DATA_BYTES, code="invalid_update")
            update = msgspec.structs.replace(update, data=data)
    except msgspec.ValidationError as error:
        raise _explain(error, code="invalid_update") from None
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise InvalidInput(f"not a JSON object: {error}", code="invalid_json") from None
    return update


def parse_job_request(text: bytes) -> RequestBody:
    """Returns the request to a worker in a request body. Raises `InvalidInput` with code
    `invalid_json` or `invalid_request`."""
    try:
        text.decode()
        request = _request_bodies.decode(text)
        if request.args is not UNSET:
            args = compact(request.args, field="args", maximum=MAX_ARGS, code="invalid_request")
            request = msgspec.structs.replace(request, args=args)
    except msgspec.ValidationError as error:
        raise _explain(error, code="invalid_request") from None
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise InvalidInput(f"not a JSON object: {error}", code="invalid_json") from None
    return request


def compact(raw: Raw, *, field: str, maximum: int, code: str) -> Raw:
    """Returns the application's JSON text without white space, so that equal data compares equal,
    and it contains no newline, which would separate frames.

    Raises `InvalidInput` if the text nests too deeply or is longer than `maximum` bytes.
    """
    if nests_too_deep(bytes(raw)):
        raise InvalidInput(f"{field} nests more than {MAX_DATA_DEPTH} deep", code=code, field=field)
    text = msgspec.json.format(bytes(raw), indent=-1)
    if len(text) > maximum:
        raise InvalidInput(
            f"{field} is longer than {maximum} bytes of JSON", code=code, field=field
        )
    # A copy, because this is stored, and msgspec's result takes half as much memory again.
    return Raw(bytes(memoryview(text)))


def _explain(error: msgspec.ValidationError, *, code: str) -> InvalidInput:
    """Returns an error with the text of msgspec's error, and the name of the field."""
    text = str(error)
    match = _PATH.search(text) or _NAMED.search(text)
    field = match.group(1) or None if match else None
    if text.startswith("Invalid enum value") and field in _VALUES:
        text = f"{text}; it is one of {', '.join(_VALUES[field])}"
    if code == "invalid_command" and field == "type":
        code = "unknown_type"
    return InvalidInput(text, code=code, field=field)
