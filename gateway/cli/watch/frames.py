"""Parses the gateway's frames: the client's side of `progress.v1`. Pure.

The gateway's `protocol` package is the other side. Unknown fields and types are ignored, so that an
older `gateway watch` works with a newer gateway.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct

from ...model.limits import DEFAULT_LIMITS
from ...model.state import State
from ...model.statuses import Status

__all__ = ["Frame", "Gap", "JobSet", "Progress", "parse_frames"]


class ClientLimits(Struct, frozen=True):
    """What a client may send: the maximum bytes of a message."""

    message: int = DEFAULT_LIMITS.max_frame


class Welcome(Struct, frozen=True, tag_field="type", tag="welcome"):
    """The first frame."""

    node: str
    ping_interval: float = 25.0
    retry: tuple[float, float] = (0.0, 0.5)
    limits: ClientLimits = ClientLimits()


class Subscriptions(Struct, frozen=True, tag_field="type", tag="subscriptions"):
    """The answer to a subscription command."""

    denied: dict[str, str] = {}


class Progress(Struct, frozen=True, tag_field="type", tag="progress"):
    """A state at a position, and the position before it."""

    job: str
    epoch: int | None
    prev: int | None
    seq: int
    state: State | None
    snapshot: bool = False


class JobSet(Struct, frozen=True, tag_field="type", tag="set"):
    """The jobs that a set shows, in order."""

    prefix: str
    epoch: int
    prev: int | None
    seq: int
    total: int
    counts: dict[Status, int]
    jobs: list[str]
    id: str | int | None = None
    snapshot: bool = False
    more: bool = False


class Gap(Struct, frozen=True, tag_field="type", tag="gap"):
    """Events that are no longer available."""

    job: str


class Error(Struct, frozen=True, tag_field="type", tag="error"):
    """A command was invalid."""

    code: str
    message: str


class Ping(Struct, frozen=True, tag_field="type", tag="ping"):
    """A `ping`, which must be answered with a `pong`."""


class Pong(Struct, frozen=True, tag_field="type", tag="pong"):
    """The answer to our `ping`."""


class Goaway(Struct, frozen=True, tag_field="type", tag="goaway"):
    """The gateway is shutting down."""

    retry: tuple[float, float] = (0.0, 0.5)


Frame = Welcome | Subscriptions | Progress | JobSet | Gap | Error | Ping | Pong | Goaway

_frames: msgspec.json.Decoder[Frame] = msgspec.json.Decoder(Frame)
_tags: msgspec.json.Decoder[dict[str, Raw]] = msgspec.json.Decoder(dict[str, Raw])
_QUOTED_FRAME_TYPES = frozenset(
    b'"%b"' % name
    for name in (
        b"welcome", b"subscriptions", b"progress", b"set", b"gap", b"error", b"ping", b"pong",
        b"goaway",
    )
)  # fmt: skip


def parse_frames(message: str) -> list[tuple[str, Frame]]:
    """Returns the frames in a message, each with its text.

    Raises ValueError if any of them is not a frame.
    """
    frames = []
    for text in message.split("\n"):
        try:
            frames.append((text, _frames.decode(text)))
        except msgspec.ValidationError:
            if bytes(_tags.decode(text).get("type", b"")) in _QUOTED_FRAME_TYPES:
                raise
        # msgspec's errors are ValueErrors, so an error for invalid JSON is raised unchanged.
    return frames
