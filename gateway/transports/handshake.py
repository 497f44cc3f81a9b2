"""The WebSocket handshake (RFC 6455 §4.2). Pure: a request's head in, a response out."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha1

from attrs import frozen

from ..protocol.messages import SUBPROTOCOL
from .request_head import BadRequest, headers_in

__all__ = ["Upgrade", "parse_upgrade"]

_HEAD = re.compile(
    rb"GET ([!-~]+) HTTP/1\.1\r?\n"
    rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~\x80-\xff]*\r?\n)*"  # RFC 9110 §5
    rb"\r?\n"
)
_KEY = re.compile(r"[A-Za-z0-9+/]{22}==")  # §4.1: 16 bytes in base64
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # §1.3


@frozen
class Upgrade:
    """A valid request for a WebSocket."""

    path: str
    """Without the query."""
    headers: dict[str, str]
    """Names in lower case."""
    joins_messages: bool
    """Whether the client offered the subprotocol, in which a frame may have several messages."""
    answer: bytes
    """The response that accepts it."""


def parse_upgrade(head: bytes) -> Upgrade:
    """Parses a request for a WebSocket. Raises `BadRequest` if it cannot be accepted."""
    match = _HEAD.fullmatch(head)
    headers = headers_in(head)
    if match is None or not _is_handshake(headers):
        raise BadRequest(400, "It is not a WebSocket handshake (RFC 6455 §4.1).")
    if headers["sec-websocket-version"] != "13":
        raise BadRequest(426, "Only version 13 of the WebSocket protocol is supported.")
    joins_messages = SUBPROTOCOL in _tokens(headers.get("sec-websocket-protocol", ""))
    accept = b64encode(sha1(headers["sec-websocket-key"].encode() + _GUID).digest())  # noqa: S324 - as RFC 6455 says
    chosen = b"Sec-WebSocket-Protocol: %b\r\n" % SUBPROTOCOL.encode() if joins_messages else b""
    answer = (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %b\r\n%b\r\n" % (accept, chosen)
    )
    path = match[1].decode().partition("?")[0]
    return Upgrade(path, headers, joins_messages, answer)


def _is_handshake(headers: dict[str, str]) -> bool:
    host = headers.get("host", "")
    return (
        host != ""
        and host.isascii()  # RFC 9110 §7.2
        and "," not in host  # that would be two
        and headers.get("sec-websocket-protocol", "").isascii()  # §4.1: tokens
        and "upgrade" in _tokens(headers.get("connection", "").lower())
        and _KEY.fullmatch(headers.get("sec-websocket-key", "")) is not None
        and "sec-websocket-version" in headers
        and headers.get("content-length", "0") == "0"  # what follows are frames
        and "transfer-encoding" not in headers
    )


def _tokens(text: str) -> list[str]:
    return [token.strip() for token in text.split(",")]
