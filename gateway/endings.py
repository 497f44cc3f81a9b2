"""Every way a connection can end: code, name, and whether the client comes back.

Codes below 4000 are RFC 6455 §7.4.1's; 4000–4499 are ours and ask the client to
reconnect, 4500–4999 are ours and ask it not to. A client needs only the ranges; the
names are for people and logs.
"""

from __future__ import annotations

from attrs import frozen

__all__ = ["ENDINGS", "Ending"]


@frozen
class Ending:
    """Why a connection ended, in the form that travels in a close frame."""

    code: int
    """The WebSocket close code."""
    reason: str
    """The close frame's text: ≤ 123 bytes (RFC 6455 §5.5), fixed, so nothing leaks."""
    reconnect: bool
    """Whether the client should connect again."""
    means: str
    """For the documentation: what happened."""


NORMAL = Ending(1000, "normal", True, "the client closed, or its connection was lost")
GOING_AWAY = Ending(1001, "going away", True, "this node is draining; another one serves")
MALFORMED = Ending(1002, "protocol error", False, "the client broke the WebSocket protocol")
UNSUPPORTED = Ending(1003, "text frames only", False, "the client sent a binary frame")
NOT_UTF8 = Ending(1007, "invalid UTF-8", False, "a text frame that is not UTF-8")
POLICY = Ending(1008, "policy violation", False, "the client broke a rule of this gateway")
TOO_BIG = Ending(1009, "message too big", False, "a message over the size limit")
INTERNAL = Ending(1011, "internal error", True, "a defect of the gateway; its log has the reason")
SILENT = Ending(4000, "heartbeat timeout", True, "nothing was heard from the client")
STUCK = Ending(4001, "write timeout", True, "the client stopped reading (aborted: no close frame)")
FULL = Ending(
    4002, "too many connections", True, "this node has as many, or watches as many jobs, as it may"
)
CROWDED = Ending(4003, "too many from here", True, "its address has as many as it may")
EXPIRED = Ending(4100, "token expired", True, "it comes back with a new token")
UNAUTHORIZED = Ending(4500, "unauthorized", False, "no token in time, or not a good one")
FORBIDDEN_ORIGIN = Ending(4501, "forbidden origin", False, "a page of an origin not allowed here")
REVOKED = Ending(4502, "token revoked", False, "its token was taken back")
NOT_FOUND = Ending(4504, "no such endpoint", False, "a WebSocket at a path other than /ws")

ENDINGS = (
    NORMAL,
    GOING_AWAY,
    MALFORMED,
    UNSUPPORTED,
    NOT_UTF8,
    POLICY,
    TOO_BIG,
    INTERNAL,
    SILENT,
    STUCK,
    FULL,
    CROWDED,
    EXPIRED,
    UNAUTHORIZED,
    FORBIDDEN_ORIGIN,
    REVOKED,
    NOT_FOUND,
)
"""The whole table, in order of code."""
