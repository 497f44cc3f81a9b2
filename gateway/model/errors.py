"""The errors of the gateway, by who can fix them.

    GatewayError
    ├── InvalidInput        the sender: the input breaks a documented rule
    │   ├── InvalidSettings the operator: a flag or variable is wrong
    │   ├── JobUnknown      an update that reports nothing, for an unknown job
    │   └── RecordUnreadable  the stored record is foreign data, which must not be changed
    ├── Unauthorized        the client: not authenticated, or its origin is not allowed
    ├── NodeFull            this node has reached a limit; another node may have capacity
    ├── BrokerUnavailable   the broker cannot be reached; try again
    └── TransportClosed     the peer has disconnected, or has stopped reading

`InvalidInput` has a `field`, so that every interface (WebSocket, HTTP, command line) can name the
wrong field in its own form.
"""

from __future__ import annotations

from typing import Literal

from .statuses import HINTS

__all__ = [
    "BrokerUnavailable",
    "GatewayError",
    "InvalidInput",
    "InvalidSettings",
    "JobUnknown",
    "NodeFull",
    "RecordUnreadable",
    "Refusal",
    "TransportClosed",
    "Unauthorized",
]


Refusal = Literal["unauthenticated", "expired", "revoked", "forbidden_origin"]


class GatewayError(Exception):
    """The base class of all errors that this package raises on purpose."""


class InvalidInput(GatewayError, ValueError):
    """Input breaks a rule.

    `code` is a short machine-readable name, `field` the wrong field (a path such as
    `jobs[3]`, or None if it is the whole input), and the text says what was expected.
    """

    def __init__(self, message: str, *, code: str = "invalid", field: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.field = field


class InvalidSettings(InvalidInput):
    """A flag or a `PROGRESS_GATEWAY_…` variable is wrong; `field` is its name."""


class JobUnknown(InvalidInput):
    """A renewal without any report, of a job that was never reported or that the gateway has lost.

    The worker must send its full state again, because the gateway has none.
    """

    def __init__(self) -> None:
        super().__init__(HINTS["unknown"], code="unknown")


class RecordUnreadable(InvalidInput):
    """The data at the job's key in the broker is not a record of this version of the gateway.

    Nothing was changed. The text names the key, for the operator of the other program.
    """

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message, code="unreadable_record", field=field)


class Unauthorized(GatewayError):
    """The client is not authenticated (or its token was revoked), or its origin is not allowed.

    The text is for the client and for logs; `refusal` is for the transport, which chooses a close
    code or an HTTP status by it.
    """

    def __init__(self, message: str, refusal: Refusal = "unauthenticated") -> None:
        super().__init__(message)
        self.refusal: Refusal = refusal


FullCode = Literal["node_full", "share_full"]
"""Codes of refusals for lack of capacity: the same may be allowed later, or by another node."""


class NodeFull(GatewayError):
    """A client cannot watch another job, because a limit such as `limits.max_topics` is reached.

    `code` says whether the limit is that of the node, or that of the client's address or token.
    """

    def __init__(self, message: str, code: FullCode = "node_full") -> None:
        super().__init__(message)
        self.code = code


class BrokerUnavailable(GatewayError):
    """The broker did not answer. The operation may or may not have been carried out.

    Updates are absolute, so repeating one is harmless. `refusal` is the kind of error by which it
    refuses, such as MISCONF; None if it cannot be reached.
    """

    def __init__(self, message: str, *, refusal: str | None = None) -> None:
        super().__init__(message)
        self.refusal = refusal


class TransportClosed(GatewayError):
    """The connection has ended. Nothing more can be sent or received on it."""
