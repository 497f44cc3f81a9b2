"""The interface for sending updates, and the choice of its implementation by URL.

A publisher is a module of this package named in `SCHEMES`, with three functions:

    check(url, token)     raises ValueError or TypeError that names the argument; no I/O and no
                          slow import, because it runs in the user's thread
    canonical(url)        returns the same text for all spellings of one address; also without I/O
    connect(url, token)   returns a Publisher; no I/O, but it may import modules (the sender
                          calls it in its own thread, where no fork interferes)

`Job` and the sender do not depend on the kind of publisher.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from os import PathLike
from typing import Any, NamedTuple, Protocol

__all__ = [
    "NotConnected",
    "Outcome",
    "PublishResult",
    "Publisher",
    "Rejected",
    "Token",
    "Unreachable",
    "canonical",
    "check",
    "connect",
    "publish_one",
    "redacted",
]

Token = str | PathLike[str] | None
"""A token for the gateway, or the path of a file that contains the newest token."""

SCHEMES: dict[str, str] = {
    "http": "gateway.worker.http",
    "https": "gateway.worker.http",
    "redis": "gateway.worker.redis",
    "rediss": "gateway.worker.redis",
    "unix": "gateway.worker.redis",
    "redis+sentinel": "gateway.worker.redis",
    "rediss+sentinel": "gateway.worker.redis",
    "redis+cluster": "gateway.worker.redis",
    "rediss+cluster": "gateway.worker.redis",
}


class PublishResult(NamedTuple):
    """The result of an update, from the gateway (docs/protocol.md, Update)."""

    attempt: int
    """The job's current attempt."""
    applied: bool
    reason: str | None = None
    """Why it was not applied: `unchanged`, `stale_attempt`, `final` and others."""
    epoch: int | None = None
    seq: int | None = None
    """The job's position after the update."""
    request: dict[str, Any] | None = None
    """The request to the worker (`id`, `verb`, …) that it has not acknowledged yet."""


class Unreachable(Exception):
    """There was no response, or it was to try again later.

    The update may or may not have arrived. `retry_after` is the number of seconds to wait that the
    response has requested; None if it has not.
    """

    def __init__(self, problem: str, *, retry_after: float | None = None) -> None:
        super().__init__(problem)
        self.retry_after = retry_after


class NotConnected(Unreachable):
    """No connection could be made, so the update has not arrived."""


class Rejected(Exception):
    """The gateway will never accept this update. `field` names the invalid field, if known."""

    def __init__(self, problem: str, *, field: str | None = None) -> None:
        super().__init__(problem)
        self.field = field


Outcome = PublishResult | Unreachable | Rejected


class Publisher(Protocol):
    """Sends updates to one gateway. Used by one thread at a time."""

    def publish(self, updates: Sequence[tuple[str, dict[str, Any]]]) -> list[Outcome]:
        """Sends updates (job, fields) in this order, and returns the outcome of each.

        Blocks for some seconds at most. Connects if there is no connection. Network errors are
        outcomes; only a defect raises an exception.
        """

    def close(self) -> None:
        """Closes the connection; the next `publish` opens another one.

        Also called in a forked child, where a thread of the parent may have been inside
        `publish`: it must wait for no lock and send nothing.
        """


def publish_one(publisher: Publisher, job: str, fields: dict[str, Any]) -> PublishResult:
    """Publishes one update. Raises `Unreachable` or `Rejected`."""
    (outcome,) = publisher.publish([(job, fields)])
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def check(url: str, token: Token) -> None:
    """Raises ValueError or TypeError if no publisher can use the URL and the token."""
    if not isinstance(url, str):
        raise TypeError(f"url must be a str, not {type(url).__name__}")
    scheme, separator, _ = url.partition("://")
    if not separator or scheme not in SCHEMES:
        schemes = ", ".join(f"{name}://" for name in SCHEMES)
        raise ValueError(f"url must begin with one of {schemes}, or be off: {redacted(url)!r}")
    _module(url).check(url, token)


def canonical(url: str) -> str:
    """Returns the canonical spelling of an address; `url` must have passed `check`."""
    spelling: str = _module(url).canonical(url)
    return spelling


def redacted(url: str) -> str:
    """Returns `url` for logs, without the parts that may contain a password: the user and the
    query."""
    scheme, separator, rest = url.partition("?")[0].partition("://")
    authority, slash, path = rest.partition("/")
    return f"{scheme}{separator}{authority.rpartition('@')[2]}{slash}{path}"


def connect(url: str, token: Token) -> Publisher:
    """Returns the publisher for a `url` that has passed `check`."""
    publisher: Publisher = _module(url).connect(url, token)
    return publisher


def _module(url: str) -> Any:
    return import_module(SCHEMES[url.partition("://")[0]])
