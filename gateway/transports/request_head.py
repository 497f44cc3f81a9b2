"""Reads a request's head within its limits, and checks what must be known before it is parsed. h11
and the WebSocket handshake check the rest.
"""

from __future__ import annotations

import re
from http import HTTPStatus

import msgspec
import trio

from ..model.limits import Limits
from .stream import ClientStream

__all__ = ["BadRequest", "headers_in", "is_upgrade", "read_head", "refuse"]

_END = re.compile(rb"\r?\n\r?\n")  # RFC 9112 §2.2: a bare LF is accepted, too
_FOLDED = re.compile(rb"\n[ \t]")
_OTHER_VERSION = re.compile(rb"\S+ \S+ HTTP/[^1]")
_UPGRADE = re.compile(rb"\nupgrade:[ \t]*websocket[ \t]*\r?\n", re.IGNORECASE)


class BadRequest(Exception):
    """The request is refused before an application receives it. The response has this status, and
    the connection is closed."""

    def __init__(self, status: int, detail: str | None = None) -> None:
        super().__init__(status, detail)
        self.status = HTTPStatus(status)
        self.detail = detail or self.status.description or self.status.phrase


async def read_head(stream: ClientStream, limits: Limits, *, begun: bytes = b"") -> bytes:
    """Reads a complete request head, which starts with `begun`. Bytes after the head are put back
    into the stream.

    Raises:
        BadRequest: It is not a head, or breaks a limit of size, number of headers or time.
        trio.BrokenResourceError: The connection was reset.
    """
    head = begun.lstrip(b"\r\n")  # RFC 9112 §2.2: blank lines are ignored
    end = _head_length(head, limits)
    if end is None:
        with trio.move_on_after(limits.request_header_timeout):
            while end is None:
                data = await stream.receive_some()
                if not data:
                    raise BadRequest(400)
                head = (head + data).lstrip(b"\r\n")
                end = _head_length(head, limits)
    if end is None:
        raise BadRequest(408, f"The request's head took over {limits.request_header_timeout:g} s.")
    if end < len(head):
        stream.unread(head[end:])
        head = head[:end]
    if _OTHER_VERSION.match(head):  # HTTP/2 in clear text, which starts with a head
        raise BadRequest(505)
    if _FOLDED.search(head):  # RFC 9112 §5.2: refuse or rewrite it
        raise BadRequest(400)
    return head


def _head_length(head: bytes, limits: Limits) -> int | None:
    """Returns the length of the request head at the beginning of `head`; None if it is incomplete.

    Raises `BadRequest` as soon as the received bytes cannot be the start of a valid request head.
    """
    if head and not head[:1].isalpha():
        # TLS on a plain port, or garbage: no HTTP method begins like this, so there is no need
        # to wait for more.
        raise BadRequest(400)
    match = _END.search(head)
    if (len(head) if match is None else match.end()) > limits.max_head:
        raise BadRequest(431, f"The request's head is over {limits.max_head} bytes.")
    # One line for each header, the request line, and the blank line at the end.
    if head.count(b"\n", 0, match.end() if match else len(head)) > limits.max_headers + 2:
        raise BadRequest(431, f"The request has over {limits.max_headers} headers.")
    return match and match.end()


async def refuse(stream: ClientStream, error: BadRequest) -> None:
    """Sends a response that says what is wrong (RFC 9457), and closes the connection."""
    status = error.status
    body = msgspec.json.encode(
        {
            "type": "about:blank",
            "title": status.phrase,
            "status": status.value,
            "detail": error.detail,
        }
    )
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/problem+json\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n"
    )
    if status == HTTPStatus.UPGRADE_REQUIRED:
        head += "sec-websocket-version: 13\r\n"  # RFC 6455 §4.4
    try:
        await stream.send_all(head.encode() + b"\r\n" + body)
        await stream.aclose()
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        stream.abort()


def is_upgrade(head: bytes) -> bool:
    """Returns whether the head asks for a WebSocket."""
    return _UPGRADE.search(head) is not None


def headers_in(head: bytes) -> dict[str, str]:
    """Returns the headers, names in lower case; the values of equal names are joined to a list."""
    match: dict[str, str] = {}
    for line in head.decode("latin-1").split("\n")[1:]:
        name, colon, text = line.partition(":")
        if colon:
            name, text = name.lower(), text.strip(" \t\r")
            match[name] = f"{match[name]}, {text}" if name in match else text
    return match
