"""A request's head: reading it, and what it says.

Only as much as must be known before a library gets the request; judging the rest of it is
left to that library.
"""

from __future__ import annotations

import re

import trio

from ..limits import Limits
from .stream import ClientStream

__all__ = ["BadHead", "headers_in", "is_upgrade", "read_head", "refuse"]

_END = re.compile(rb"\r?\n\r?\n")  # RFC 9112 §2.2: a bare LF is to be accepted
_FOLDED = re.compile(rb"\n[ \t]")
_OTHER_VERSION = re.compile(rb"\S+ \S+ HTTP/[^1]")
_UPGRADE = re.compile(rb"\nupgrade:[ \t]*websocket[ \t]*\r?\n", re.IGNORECASE)


class BadHead(Exception):
    """What came is no head of a request; `status` is the answer to it."""

    def __init__(self, status: bytes) -> None:
        super().__init__(status)
        self.status = status


async def read_head(stream: ClientStream, limits: Limits) -> bytes:
    """A whole request head, within its limits of size and time; what follows it is put back.

    Raises `BadHead`, and `trio.BrokenResourceError` if the connection was reset.
    """
    with trio.move_on_after(limits.head_timeout):
        head = b""
        while (end := _END.search(head)) is None:
            if len(head) > limits.max_head:
                raise BadHead(b"431 Request Header Fields Too Large")
            data = await stream.receive_some()
            if not data:
                raise BadHead(b"400 Bad Request")
            head = (head + data).lstrip(b"\r\n")  # RFC 9112 §2.2: blank lines are ignored
            if head and not head[:1].isalpha():
                # TLS on a plain port, or noise: no HTTP method begins like this, and
                # nothing more need be waited for.
                raise BadHead(b"400 Bad Request")
        if end.end() > limits.max_head:
            raise BadHead(b"431 Request Header Fields Too Large")
        stream.unread(head[end.end() :])
        if _OTHER_VERSION.match(head):  # HTTP/2 in clear text, which begins with a head
            raise BadHead(b"505 HTTP Version Not Supported")
        if _FOLDED.search(head, 0, end.end()):  # RFC 9112 §5.2: to be refused, or mended
            raise BadHead(b"400 Bad Request")
        return head[: end.end()]
    raise BadHead(b"408 Request Timeout")


async def refuse(stream: ClientStream, status: bytes) -> None:
    """Answer with a bare status, and close."""
    try:
        await stream.send_all(
            b"HTTP/1.1 %b\r\ncontent-length: 0\r\nconnection: close\r\n\r\n" % status
        )
        await stream.aclose()
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        stream.abort()


def is_upgrade(head: bytes) -> bool:
    """Whether it asks for a WebSocket."""
    return _UPGRADE.search(head) is not None


def headers_in(head: bytes) -> dict[str, str]:
    """Its headers, names in lower case; of several with one name, joined as a list."""
    found: dict[str, str] = {}
    for line in head.decode("latin-1").split("\n")[1:]:
        name, colon, text = line.partition(":")
        if colon:
            name, text = name.lower(), text.strip(" \t\r")
            found[name] = f"{found[name]}, {text}" if name in found else text
    return found
