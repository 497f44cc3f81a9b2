"""What can go wrong, by whose fault it is.

    GatewayError
    ├── InvalidInput        the sender's fault: what it sent breaks a documented rule
    │   └── InvalidSettings the operator's: a flag or variable is wrong
    ├── Unauthorized        the client's: nobody we know, or not from where it may be
    ├── NodeFull            nobody's: this node has no room; another may have
    ├── BrokerUnavailable   nobody's here: the broker cannot be reached; try again
    └── TransportClosed     the peer's: it is gone, or has stopped taking what we send

The first carries `field`, so that every edge (WebSocket, HTTP, command line) can
name what was wrong in its own form.
"""

from __future__ import annotations

from .endings import UNAUTHORIZED, Ending

__all__ = [
    "BrokerUnavailable",
    "GatewayError",
    "InvalidInput",
    "InvalidSettings",
    "NodeFull",
    "TransportClosed",
    "Unauthorized",
]


class GatewayError(Exception):
    """The root of all errors this package raises on purpose."""


class InvalidInput(GatewayError, ValueError):
    """Input breaks a rule.

    `code` is a short machine-readable name, `field` the offending field (a path such
    as `jobs[3]`, or None when it is the whole), and the text says what was expected.
    """

    def __init__(self, message: str, *, code: str = "invalid", field: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.field = field


class InvalidSettings(InvalidInput):
    """A flag or a `GATEWAY_…` variable is wrong; `field` is its name."""


class Unauthorized(GatewayError):
    """Who it is is not known (any more), or it may not come in from where it is.

    The text is for its eyes and for logs; `ending` is how its connection ends.
    """

    def __init__(self, message: str, ending: Ending = UNAUTHORIZED) -> None:
        super().__init__(message)
        self.ending = ending


class NodeFull(GatewayError):
    """This node watches as many jobs as it may (`limits.max_topics`), and this is another."""


class BrokerUnavailable(GatewayError):
    """The broker did not answer. What was asked may or may not have happened.

    Updates are absolute, so asking again is harmless.
    """


class TransportClosed(GatewayError):
    """The peer is gone. Nothing more can be sent or received on this connection."""
