"""Messages to clients, encoded.

A `Message` contains JSON objects that are encoded once and shared by every connection that needs
them, in the form that its transport sends.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from struct import pack
from typing import Any, Literal

import msgspec

from ..model.state import UNSEEN, Event, Position

__all__ = [
    "SUBPROTOCOL",
    "Kind",
    "Message",
    "denial",
    "encode",
    "gap",
    "job_set",
    "snapshot",
    "step",
    "steps",
    "unseen",
]

SUBPROTOCOL = "progress.v1"
"""The subprotocol of clients that accept several objects in a frame, separated by newlines."""

Kind = Literal["answer", "step", "snapshot", "resync", "gap", "set"]
"""The kind of a message: `answer` (a reply or an announcement), `step` (continues the client's
position), `snapshot` (for a client without a position), `resync` (a snapshot, because the position
cannot be continued), `gap`, `set` (the jobs of a set)."""


_OBJECT, _TEXT = 500, 48
"""Memory in bytes of a message with its dict entry and its frames, and of each text, without their
contents (CPython, rounded up)."""


class Message:
    """JSON objects for clients, encoded at most once in each form.

    `texts` are the objects; `separate_frames` has each in a WebSocket text frame of its own;
    `joined_frame` has all in one frame, separated by newlines. `position` is a client's position
    after the message, for transports whose frames carry it (SSE).
    """

    __slots__ = (
        "_joined_frame",
        "_separate_frames",
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
        """The total size of the JSON objects, in bytes."""
        self.job = job
        self.position = position
        self.skipped = skipped
        """The number of events that the message covers and does not contain (mode `latest`)."""
        self.event = event
        """The last event in the message, if it is new to the client."""
        self._joined_frame: bytes | None = None
        self._separate_frames: bytes | None = None

    def split(self, size: int) -> Iterator[Message]:
        """Yields messages of about `size` bytes, among which the objects are divided."""
        start, taken_bytes = 0, 0
        for end, text in enumerate(self.texts, start=1):
            taken_bytes += len(text)
            if taken_bytes >= size or end == len(self.texts):
                epoch, last = self.position
                position = Position(epoch, last - (len(self.texts) - end))
                yield Message(
                    self.texts[start:end],
                    self.kind,
                    job=self.job,
                    position=position,
                    event=self.event,
                )
                start, taken_bytes = end, 0

    @property
    def memory(self) -> int:
        """Maximum memory in bytes, with every form in which the message may be encoded."""
        forms = 2 if len(self.texts) == 1 else 3
        return _OBJECT + len(self.texts) * _TEXT + forms * self.size

    @property
    def separate_frames(self) -> bytes:
        if self._separate_frames is None:
            self._separate_frames = b"".join([text_frame(text) for text in self.texts])
        return self._separate_frames

    @property
    def joined_frame(self) -> bytes:
        if self._joined_frame is None:
            if len(self.texts) == 1:
                self._joined_frame = self.separate_frames
            else:
                self._joined_frame = text_frame(b"\n".join(self.texts))
        return self._joined_frame

    def __repr__(self) -> str:
        return f"<Message {b' '.join(self.texts).decode()}>"


def text_frame(payload: bytes) -> bytes:
    """Returns a complete, unmasked text frame (RFC 6455 §5.2), as a server sends it."""
    size = len(payload)
    if size < 126:
        return b"\x81%c" % size + payload
    if size < 65_536:
        return pack("!BBH", 0x81, 126, size) + payload
    return pack("!BBQ", 0x81, 127, size) + payload


def encode(type_: str, /, **fields: Any) -> Message:
    """Returns a message of one object."""
    return Message((msgspec.json.encode({"type": type_} | fields),))


def denial(jobs: Mapping[str, str], *, added: Iterable[str] = ()) -> Message:
    """Returns a message with the reasons why a client does not receive these jobs, which no command
    has named; `added` are the jobs that it receives."""
    fields = {"id": None, "added": list(added), "removed": [], "unchanged": 0}
    return encode("subscriptions", **fields, denied=dict(jobs))


_STEP_TEMPLATE = b'{"type":"progress","job":"%b","epoch":%d,"prev":%d,"seq":%d,"state":%b}'
_SNAPSHOT_TEMPLATE = (
    b'{"type":"progress","job":"%b","epoch":%d,"prev":null,"seq":%d,"snapshot":true,"state":%b}'
)


def snapshot(job: str, position: Position, text: bytes, *, kind: Kind) -> Message:
    """Returns a message with the state `text` of `job`, for a client with any position."""
    return Message(
        (_SNAPSHOT_TEMPLATE % (job.encode(), *position, text),), kind, job=job, position=position
    )


def step(
    job: str, position: Position, text: bytes, *, prev: int, event: Event | None = None
) -> Message:
    """Returns a message with the state `text` of `job`, which continues `prev`; events in between
    may be left out."""
    epoch, seq = position
    return Message(
        (_STEP_TEMPLATE % (job.encode(), epoch, prev, seq, text),),
        "step",
        job=job,
        position=position,
        skipped=seq - prev - 1,
        event=event,
    )


def steps(
    job: str, position: Position, texts: Sequence[bytes], *, event: Event | None = None
) -> Message:
    """Returns a message with the states `texts` of `job` as separate objects, the last of which is
    at `position`.

    The first event of an epoch is always a snapshot.
    """
    name, (epoch, last) = job.encode(), position
    first = last - len(texts) + 1
    objects = [
        _STEP_TEMPLATE % (name, epoch, seq - 1, seq, text)
        if seq > 1
        else _SNAPSHOT_TEMPLATE % (name, epoch, 1, text)
        for seq, text in enumerate(texts, start=first)
    ]
    return Message(objects, "step", job=job, position=position, event=event)


def unseen(job: str, *, kind: Kind) -> Message:
    """Returns a snapshot of a job that has not been reported yet."""
    return Message(
        (
            b'{"type":"progress","job":"%b","epoch":null,"prev":null,"seq":0,'
            b'"snapshot":true,"state":null}' % job.encode(),
        ),
        kind,
        job=job,
    )


def gap(job: str, *, epoch: int, first: int, last: int) -> Message:
    """Returns the message that the events `first … last` of `job` are no longer available."""
    document = {"type": "gap", "job": job, "epoch": epoch, "from": first, "to": last}
    return Message((msgspec.json.encode(document),), "gap")


def job_set(
    prefix: str, *, epoch: int, prev: int | None, seq: int, text: bytes, id_: str | int | None
) -> Message:
    """Returns a message with the jobs of a set, which continues `prev` (None: a snapshot). `text`
    is the JSON of the remaining fields, without braces. The message has the `id` of its command, if
    that had one."""
    id_field = b"" if id_ is None else b'"id":%b,' % msgspec.json.encode(id_)
    position_fields = b'"prev":null,"seq":%d,"snapshot":true' % seq
    if prev is not None:
        position_fields = b'"prev":%d,"seq":%d' % (prev, seq)
    return Message(
        (
            b'{"type":"set",%b"prefix":"%b","epoch":%d,%b,%b}'
            % (id_field, prefix.encode(), epoch, position_fields, text),
        ),
        "set",
    )
