"""The messages of a client, as bytes, because the generator has no WebSocket library. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from struct import pack
from typing import Any, Protocol

import msgspec
from attrs import field, frozen

__all__ = ["Dialect", "Step", "binary", "text", "upgrade"]

_NO_MASK = b"\0\0\0\0"  # RFC 6455 §5.3 asks for a mask; one of zeros leaves the bytes alone


@frozen
class Step:
    """Sends `send`, and continues when the response contains `until`."""

    send: bytes
    until: bytes


class Conversation(Protocol):
    def __call__(self, jobs: Sequence[str]) -> Sequence[Step]:
        """Returns the steps of a client until it is subscribed to `jobs`."""
        ...


@frozen
class Dialect:
    """The messages of clients of one server."""

    subscribed: Conversation
    replies: Mapping[bytes, bytes] = field(factory=dict)
    """The reply to each message of the server, such as its ping."""


def upgrade(path: str, *, subprotocol: str | None = None) -> bytes:
    offered = f"Sec-WebSocket-Protocol: {subprotocol}\r\n" if subprotocol else ""
    return (
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\n"
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{offered}\r\n"
    ).encode()


def text(document: Any) -> bytes:
    """Returns a text frame with a string, or with the JSON of another value."""
    payload = document.encode() if isinstance(document, str) else msgspec.json.encode(document)
    return _frame(0x81, payload)


def binary(payload: bytes) -> bytes:
    return _frame(0x82, payload)


def _frame(first: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        head = pack("!BB", first, 0x80 | size)
    elif size < 65_536:
        head = pack("!BBH", first, 0x80 | 126, size)
    else:
        head = pack("!BBQ", first, 0x80 | 127, size)
    return head + _NO_MASK + payload


PING = b"\x89\x00"
PONG = _frame(0x8A, b"")
