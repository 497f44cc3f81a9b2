"""The close codes of connections: code, reason, and whether the client reconnects.

Codes below 4000 are defined by RFC 6455 §7.4.1. The gateway's own are 4000–4499, after which
clients reconnect, and 4500–4999, after which they do not. A client needs only the ranges; the
reasons are for people and logs.
"""

from __future__ import annotations

from attrs import evolve, frozen

from ..model.errors import Refusal

__all__ = ["CLOSE_CODES", "CODE_BY_REFUSAL", "FINAL_RANGE", "CloseCode", "reconnects_after"]


MAX_REASON = 123
"""Bytes of a close frame's text: RFC 6455 §5.5."""


@frozen
class CloseCode:
    """The code and the reason of a close frame."""

    code: int
    """The WebSocket close code."""
    reason: str
    """The close frame's text, at most 123 bytes (RFC 6455 §5.5)."""
    reconnect: bool
    """Whether the client should connect again."""
    meaning: str
    """The cause, for the documentation."""

    def with_detail(self, detail: str) -> CloseCode:
        """Returns the same code with `detail`, a sentence for the client, as its reason; without a
        detail, itself."""
        if not detail:
            return self
        return evolve(self, reason=detail.encode()[:MAX_REASON].decode(errors="ignore"))


NORMAL = CloseCode(1000, "normal", True, "the client closed, or its connection was lost")
GOING_AWAY = CloseCode(1001, "going away", True, "this node is draining; another one serves")
MALFORMED = CloseCode(1002, "protocol error", False, "the client broke the WebSocket protocol")
UNSUPPORTED = CloseCode(1003, "text frames only", False, "the client sent a binary frame")
NOT_UTF8 = CloseCode(1007, "invalid UTF-8", False, "a text frame that is not UTF-8")
POLICY = CloseCode(1008, "policy violation", False, "the client broke a rule of this gateway")
TOO_BIG = CloseCode(1009, "message too big", False, "a message over the size limit")
INTERNAL = CloseCode(
    1011, "internal error", True, "a defect of the gateway; its log has the reason"
)
PING_TIMEOUT = CloseCode(4000, "heartbeat timeout", True, "the client did not answer a ping")
WRITE_TIMEOUT = CloseCode(
    4001, "write timeout", True, "the client stopped reading (aborted: no close frame)"
)
OVERLOADED = CloseCode(
    4002,
    "too many connections",
    True,
    "this node has reached its limit of connections or of watched jobs",
)
TOO_MANY_FROM_ADDRESS = CloseCode(
    4003,
    "too many connections from this address",
    True,
    "the client's address has reached its limit of connections",
)
EXPIRED = CloseCode(
    4100, "token expired", True, "the token expired; the client reconnects with a new one"
)
UNAUTHORIZED = CloseCode(4500, "unauthorized", False, "the client sent no valid token in time")
FORBIDDEN_ORIGIN = CloseCode(
    4501, "forbidden origin", False, "a page of an origin not allowed here"
)
REVOKED = CloseCode(4502, "token revoked", False, "the token was revoked")
NOT_FOUND = CloseCode(4504, "no such endpoint", False, "a WebSocket at a path other than /ws")

CLOSE_CODES = (
    NORMAL,
    GOING_AWAY,
    MALFORMED,
    UNSUPPORTED,
    NOT_UTF8,
    POLICY,
    TOO_BIG,
    INTERNAL,
    PING_TIMEOUT,
    WRITE_TIMEOUT,
    OVERLOADED,
    TOO_MANY_FROM_ADDRESS,
    EXPIRED,
    UNAUTHORIZED,
    FORBIDDEN_ORIGIN,
    REVOKED,
    NOT_FOUND,
)
"""All close codes, in order. A new code must be added here too."""

FINAL_RANGE = range(4500, 5000)
"""The gateway's own codes after which a client does not reconnect, used or not."""


def reconnects_after(code: int) -> bool:
    """Returns whether a client reconnects after its connection was closed with `code`."""
    close_code = _BY_CODE.get(code)
    return close_code.reconnect if close_code else code not in FINAL_RANGE


_BY_CODE = {close_code.code: close_code for close_code in CLOSE_CODES}

CODE_BY_REFUSAL: dict[Refusal, CloseCode] = {
    "unauthenticated": UNAUTHORIZED,
    "expired": EXPIRED,
    "revoked": REVOKED,
    "forbidden_origin": FORBIDDEN_ORIGIN,
}
"""The close code for each reason of `Unauthorized`."""
