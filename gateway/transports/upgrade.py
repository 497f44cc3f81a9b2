"""The WebSocket handshake (RFC 6455 §4.2). Pure: a request's head in, an answer out."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha1

from attrs import frozen

from ..protocol import SUBPROTOCOL
from .head import BadHead, headers_in

__all__ = ["Upgrade", "parse_upgrade"]

_HEAD = re.compile(
    rb"GET ([!-~]+) HTTP/1\.1\r?\n"
    rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~]*\r?\n)*"
    rb"\r?\n"
)
_KEY = re.compile(r"[A-Za-z0-9+/]{22}==")  # §4.1: 16 bytes in base64
_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_BAD = b"400 Bad Request"
_OTHER_VERSION = b"426 Upgrade Required\r\nsec-websocket-version: 13"


@frozen
class Upgrade:
    """A request that may be accepted."""

    path: str
    headers: dict[str, str]
    """Names in lower case."""
    joins: bool
    """Whether the client offered our subprotocol."""
    answer: bytes
    """What accepts it."""


def parse_upgrade(head: bytes) -> Upgrade:
    """What the client asks for. Raises `BadHead`."""
    found = _HEAD.fullmatch(head)
    headers = headers_in(head)
    if found is None or not _is_whole(headers):
        raise BadHead(_BAD)
    if headers["sec-websocket-version"] != "13":
        raise BadHead(_OTHER_VERSION)
    joins = SUBPROTOCOL in _tokens(headers.get("sec-websocket-protocol", ""))
    proof = b64encode(sha1(headers["sec-websocket-key"].encode() + _MAGIC).digest())  # noqa: S324 - RFC 6455 says so
    chosen = b"Sec-WebSocket-Protocol: %b\r\n" % SUBPROTOCOL.encode() if joins else b""
    answer = (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %b\r\n%b\r\n" % (proof, chosen)
    )
    path = found.group(1).decode().partition("?")[0]
    return Upgrade(path, headers, joins, answer)


def _is_whole(headers: dict[str, str]) -> bool:
    host = headers.get("host", "")
    return (
        host != ""
        and "," not in host  # that would be two
        and "upgrade" in _tokens(headers.get("connection", "").lower())
        and _KEY.fullmatch(headers.get("sec-websocket-key", "")) is not None
        and headers.get("sec-websocket-version", "") != ""
        and headers.get("content-length", "0") == "0"  # what follows are frames
        and "transfer-encoding" not in headers
    )


def _tokens(text: str) -> list[str]:
    return [token.strip() for token in text.split(",")]
