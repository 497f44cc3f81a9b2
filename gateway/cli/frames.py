"""What the gateway tells a watcher: `progress.v1` read from the client's side. Pure.

The gateway's own `protocol` module is the other direction. Fields and types that are not
known here are passed over, so that an older `gateway watch` works with a newer gateway.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct

from ..job import State

__all__ = ["Frame", "Gap", "Progress", "parse_frames"]


class Welcome(Struct, frozen=True, tag_field="type", tag="welcome"):
    """The first frame."""

    node: str
    ping_interval: float = 25.0
    retry: tuple[float, float] = (0.0, 0.5)


class Subscriptions(Struct, frozen=True, tag_field="type", tag="subscriptions"):
    """The answer to what we asked for."""

    denied: dict[str, str] = {}


class Progress(Struct, frozen=True, tag_field="type", tag="progress"):
    """A state at a position, and what it follows."""

    job: str
    epoch: int | None
    prev: int | None
    seq: int
    state: State | None
    snapshot: bool = False


class Gap(Struct, frozen=True, tag_field="type", tag="gap"):
    """Events that can no longer be had."""

    job: str


class Error(Struct, frozen=True, tag_field="type", tag="error"):
    """Something we sent was wrong."""

    code: str
    message: str


class Ping(Struct, frozen=True, tag_field="type", tag="ping"):
    """To be answered with a `pong`."""


class Pong(Struct, frozen=True, tag_field="type", tag="pong"):
    """The answer to our `ping`."""


class Goaway(Struct, frozen=True, tag_field="type", tag="goaway"):
    """The gateway is leaving."""

    retry: tuple[float, float] = (0.0, 0.5)


Frame = Welcome | Subscriptions | Progress | Gap | Error | Ping | Pong | Goaway

_frames: msgspec.json.Decoder[Frame] = msgspec.json.Decoder(Frame)
_tags: msgspec.json.Decoder[dict[str, Raw]] = msgspec.json.Decoder(dict[str, Raw])
_TYPES = frozenset(
    b'"%b"' % name
    for name in (
        b"welcome", b"subscriptions", b"progress", b"gap", b"error", b"ping", b"pong", b"goaway",
    )
)  # fmt: skip


def parse_frames(message: str) -> list[tuple[str, Frame]]:
    """The frames in a message, each with its text.

    Raises ValueError if there is something that is no frame.
    """
    found = []
    for text in message.split("\n"):
        try:
            found.append((text, _frames.decode(text)))
        except msgspec.ValidationError:
            if bytes(_tags.decode(text).get("type", b"")) in _TYPES:
                raise
        # msgspec's errors are ValueErrors: what is not JSON at all is raised as it is.
    return found
