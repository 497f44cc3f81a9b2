"""The wire: what a client may say, and what it is told. Bytes in, values out, and back.

`parse_command` and `parse_update` turn text into values or raise `InvalidInput` naming
the field. A `Message` is what goes the other way: JSON objects that are encoded once and
shared by every connection that needs them, in whichever form its transport sends.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from struct import pack
from typing import Any, Literal

import msgspec
from msgspec import UNSET, Raw, Struct

from .errors import InvalidInput
from .job import UNSEEN, Event, Position, Update, check_job_id
from .limits import MAX_DATA

__all__ = [
    "SUBPROTOCOL",
    "Command",
    "CommandId",
    "Hello",
    "Kind",
    "Message",
    "Mode",
    "Ping",
    "Pong",
    "Subscribe",
    "SyncSubscriptions",
    "Unsubscribe",
    "encode",
    "gap",
    "parse_command",
    "parse_update",
    "snapshot",
    "step",
    "steps",
    "unseen",
]

SUBPROTOCOL = "progress.v1"
"""What a client offers if it can take several objects, separated by newlines, in a frame."""

Mode = Literal["latest", "every"]
CommandId = str | int | None
Kind = Literal["answer", "step", "snapshot", "resync", "gap"]
"""What a message is to its client: an answer or an announcement; what follows what it
has; a snapshot to one that has nothing, or has what cannot be continued; a hole."""


class Hello(Struct, frozen=True, tag_field="type", tag="hello"):
    """Who the client is and what it already has."""

    token: str | None = None
    positions: dict[str, tuple[int | None, int]] = {}
    max_hz: float | None = None


class SyncSubscriptions(Struct, frozen=True, tag_field="type", tag="sync_subscriptions"):
    """The whole set of jobs the client wants; idempotent."""

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


class Ping(Struct, frozen=True, tag_field="type", tag="ping"):
    """Asks for a `pong`."""


class Pong(Struct, frozen=True, tag_field="type", tag="pong"):
    """Answers a `ping`."""


Command = Hello | SyncSubscriptions | Subscribe | Unsubscribe | Ping | Pong

_commands: msgspec.json.Decoder[Command] = msgspec.json.Decoder(Command)
_updates = msgspec.json.Decoder(Update)
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


def parse_update(text: bytes) -> Update:
    """The update in a request body; unknown fields are errors, so that typos are noticed.

    Raises `InvalidInput` with code `invalid_json` or `invalid_update`.
    """
    try:
        text.decode()  # msgspec does not look into what it passes through unread (`data`)
        update = _updates.decode(text)
        if update.data is not UNSET:
            # Compact, for two reasons: equal data compares equal, and a newline
            # between its tokens would break the frames that are separated by newlines.
            compact = msgspec.json.format(bytes(update.data), indent=-1)
            # A copy: what msgspec returns holds half as much memory again, and this is kept.
            update = msgspec.structs.replace(update, data=Raw(bytes(memoryview(compact))))
    except msgspec.ValidationError as error:
        raise _explain(error, code="invalid_update") from None
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise InvalidInput(f"not a JSON object: {error}", code="invalid_json") from None
    if update.data is not UNSET and len(bytes(update.data)) > MAX_DATA:
        raise InvalidInput(
            f"data is longer than {MAX_DATA} bytes of JSON", code="invalid_update", field="data"
        )
    if isinstance(update.parent, str):
        check_job_id(update.parent, field="parent")
    return update


def _explain(error: msgspec.ValidationError, *, code: str) -> InvalidInput:
    """msgspec's complaint, with the field it is about."""
    text = str(error)
    found = _PATH.search(text) or _NAMED.search(text)
    field = found.group(1) or None if found else None
    if code == "invalid_command" and field == "type":
        code = "unknown_type"
    return InvalidInput(text, code=code, field=field)


class Message:
    """JSON objects bound for clients, encoded at most once in each form.

    `texts` are the objects; `frames` is each in a WebSocket text frame of its own, one
    after the other; `frame` is all in one, separated by newlines. `position` is how far a
    client is that has got it, for transports (SSE) whose frames carry that.
    """

    __slots__ = (
        "_frame",
        "_frames",
        "event",
        "job",
        "kind",
        "position",
        "size",
        "skipped",
        "texts",
    )

    def __init__(
        self,
        texts: Sequence[bytes],
        kind: Kind = "answer",
        *,
        job: str | None = None,
        position: Position = UNSEEN,
        skipped: int = 0,
        event: Event | None = None,
    ) -> None:
        self.texts = texts
        self.kind = kind
        self.size = sum(map(len, texts)) if len(texts) > 1 else len(texts[0])
        """Bytes of all its objects."""
        self.job = job
        self.position = position
        self.skipped = skipped
        """Events that it stands for and does not show (mode `latest`)."""
        self.event = event
        """The last of what it shows, if that is news to its client."""
        self._frame: bytes | None = None
        self._frames: bytes | None = None

    def split(self, size: int) -> Iterator[Message]:
        """The same in messages of about `size` bytes; of objects that follow each other."""
        start, taken = 0, 0
        for end, text in enumerate(self.texts, start=1):
            taken += len(text)
            if taken >= size or end == len(self.texts):
                epoch, last = self.position
                position = Position(epoch, last - (len(self.texts) - end))
                yield Message(
                    self.texts[start:end],
                    self.kind,
                    job=self.job,
                    position=position,
                    event=self.event,
                )
                start, taken = end, 0

    @property
    def frames(self) -> bytes:
        if self._frames is None:
            self._frames = b"".join([text_frame(text) for text in self.texts])
        return self._frames

    @property
    def frame(self) -> bytes:
        if self._frame is None:
            if len(self.texts) == 1:
                self._frame = self.frames
            else:
                self._frame = text_frame(b"\n".join(self.texts))
        return self._frame

    def __repr__(self) -> str:
        return f"<Message {b' '.join(self.texts).decode()}>"


def text_frame(payload: bytes) -> bytes:
    """A whole, unmasked text frame (RFC 6455 §5.2), as a server sends it."""
    size = len(payload)
    if size < 126:
        return b"\x81%c" % size + payload
    if size < 65_536:
        return pack("!BBH", 0x81, 126, size) + payload
    return pack("!BBQ", 0x81, 127, size) + payload


def encode(type_: str, /, **fields: Any) -> Message:
    """A message of one object."""
    return Message((msgspec.json.encode({"type": type_} | fields),))


_STEP = b'{"type":"progress","job":"%b","epoch":%d,"prev":%d,"seq":%d,"state":%b}'
_SNAPSHOT = (
    b'{"type":"progress","job":"%b","epoch":%d,"prev":null,"seq":%d,"snapshot":true,"state":%b}'
)


def snapshot(job: str, position: Position, text: bytes, *, kind: Kind) -> Message:
    """The state `text` of `job`, whatever its client has."""
    return Message((_SNAPSHOT % (job.encode(), *position, text),), kind, job=job, position=position)


def step(
    job: str, position: Position, text: bytes, *, prev: int, event: Event | None = None
) -> Message:
    """The state `text` of `job`, as what follows `prev`, whatever came between."""
    epoch, seq = position
    return Message(
        (_STEP % (job.encode(), epoch, prev, seq, text),),
        "step",
        job=job,
        position=position,
        skipped=seq - prev - 1,
        event=event,
    )


def steps(
    job: str, position: Position, texts: Sequence[bytes], *, event: Event | None = None
) -> Message:
    """The states `texts` of `job` one by one, the last of which is at `position`.

    The first event of an epoch is always a snapshot.
    """
    name, (epoch, last) = job.encode(), position
    first = last - len(texts) + 1
    wholes = [
        _STEP % (name, epoch, seq - 1, seq, text) if seq > 1 else _SNAPSHOT % (name, epoch, 1, text)
        for seq, text in enumerate(texts, start=first)
    ]
    return Message(wholes, "step", job=job, position=position, event=event)


def unseen(job: str, *, kind: Kind) -> Message:
    """What is known of a job that nobody has reported yet."""
    return Message(
        (
            b'{"type":"progress","job":"%b","epoch":null,"prev":null,"seq":0,'
            b'"snapshot":true,"state":null}' % job.encode(),
        ),
        kind,
        job=job,
    )


def gap(job: str, *, epoch: int, first: int, last: int) -> Message:
    """The events `first … last` of `job` can no longer be had."""
    whole = {"type": "gap", "job": job, "epoch": epoch, "from": first, "to": last}
    return Message((msgspec.json.encode(whole),), "gap")
