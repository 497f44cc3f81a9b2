"""The list of revoked tokens that have not expired yet.

All nodes share a list of token ids. An entry stays until the token would have expired anyway, or
for ever if the expiry is not known. The authenticator of each node (`authenticator.py`) reads the
list every 0.4 s if it has changed, and checks tokens with it, so a revocation takes effect within a
second. If a node cannot read the list at that time, the revocation takes effect there when it can.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Annotated, Protocol

import trio
from attrs import frozen
from msgspec import Meta

__all__ = ["MemoryRevocations", "Revocations", "Revoked", "TokenId"]

TokenId = Annotated[str, Meta(min_length=1, max_length=200)]
"""The id of a token, such as a UUID, a hash or a URL."""


@frozen
class Revoked:
    """The list at one moment."""

    version: str
    """A new value after each change, also if the store was emptied."""
    until: Mapping[str, float]
    """Token ids, and the Unix time until which each is listed."""


class Revocations(Protocol):
    """The store of the list.

    Every method raises `BrokerUnavailable` if the store does not answer; calls can be repeated
    without harm.
    """

    async def revoke(self, until: Mapping[str, float]) -> None:
        """Adds token ids to the list until a Unix time (`inf`: for ever). An entry that is listed
        for longer already stays as it is."""
        ...

    async def read(self, *, known: str | None) -> Revoked | None:
        """Returns the list; None if its version still is `known`.

        It may contain tokens that have expired.
        """
        ...


class MemoryRevocations:
    """The list of a single process."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._until: dict[str, float] = {}
        self._changes = 0

    async def revoke(self, until: Mapping[str, float]) -> None:
        await trio.lowlevel.checkpoint()
        now = self._clock()
        self._until = {id_: end for id_, end in self._until.items() if end > now}
        for id_, end in until.items():
            self._until[id_] = max(end, self._until.get(id_, end))
        self._changes += 1

    async def read(self, *, known: str | None) -> Revoked | None:
        await trio.lowlevel.checkpoint()
        version = str(self._changes)
        return None if known == version else Revoked(version, dict(self._until))
