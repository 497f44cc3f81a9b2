"""How pictures leave the process: what a publisher promises, and which one a URL names.

A publisher is a module of this package named in `SCHEMES`, with two functions:

    check(url, token)     raises ValueError or TypeError naming the argument; no I/O and no
                          heavy import, for it runs in the user's thread
    connect(url, token)   a Publisher; no I/O either, but it may import what it needs (the
                          sender calls it in its own thread, where no fork interferes)

Everything above (`Job`, the sender) is the same whatever carries the pictures.
"""

from __future__ import annotations

from importlib import import_module
from os import PathLike
from typing import Any, NamedTuple, Protocol

__all__ = ["Publisher", "Receipt", "Rejected", "Token", "Unreachable", "check", "connect", "shown"]

Token = str | PathLike[str] | None
"""What is shown to a gateway that asks: a token, or the file that has the newest one."""

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


class Receipt(NamedTuple):
    """The gateway's answer to a picture (docs/protocol.md, Update)."""

    attempt: int
    """The job's current attempt."""
    applied: bool
    reason: str | None = None
    """Why it was not applied: `unchanged`, `stale_attempt`, `final`."""
    epoch: int | None = None
    seq: int | None = None
    """The job's position after it."""


class Unreachable(Exception):
    """Nobody answered, or "not now": the same picture may be sent again later."""


class Rejected(Exception):
    """The gateway will never take this picture. `field` names what is wrong, if known."""

    def __init__(self, problem: str, *, field: str | None = None) -> None:
        super().__init__(problem)
        self.field = field


class Publisher(Protocol):
    """Carries pictures to one gateway. Used by one thread at a time."""

    def publish(self, job: str, fields: dict[str, Any]) -> Receipt:
        """Hand over the picture `fields` of `job` and return the answer.

        Blocks, for seconds at most. Connects if there is no connection. Raises
        `Unreachable` or `Rejected`; after the first it is not known whether the picture
        arrived.
        """

    def close(self) -> None:
        """Give the connection back; the next `publish` opens another one.

        Also called in a forked child, where a thread of the parent may have been inside
        `publish`: it must wait for no lock and say nothing to the peer.
        """


def check(url: str, token: Token) -> None:
    """Raise ValueError or TypeError if no publisher can use these."""
    if not isinstance(url, str):
        raise TypeError(f"url must be a str, not {type(url).__name__}")
    scheme, separator, _ = url.partition("://")
    if not separator or scheme not in SCHEMES:
        known = ", ".join(f"{name}://" for name in SCHEMES)
        raise ValueError(f"url must begin with one of {known}: {shown(url)!r}")
    import_module(SCHEMES[scheme]).check(url, token)


def shown(url: str) -> str:
    """`url` for logs: without what may be a password, before the host or in a query."""
    scheme, separator, rest = url.partition("?")[0].partition("://")
    authority, slash, path = rest.partition("/")
    return f"{scheme}{separator}{authority.rpartition('@')[2]}{slash}{path}"


def connect(url: str, token: Token) -> Publisher:
    """The publisher for a `url` that has passed `check`."""
    publisher: Publisher = import_module(SCHEMES[url.partition("://")[0]]).connect(url, token)
    return publisher
