"""The tokens that count no more, though they have not expired.

A list of token ids, shared by all nodes, each kept until the token would have expired
anyway; for ever if who revokes does not know when. Nodes look whether it has changed twice
a second, so a revocation is heard of within one, and one made while a node could not look
is heard of when it can again.
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
"""By which a token can be revoked: a UUID, a hash, a URL."""


@frozen
class Revoked:
    """The list, at one moment."""

    version: str
    """Another one after each change, also if what keeps the list was emptied meanwhile."""
    until: Mapping[str, float]
    """Token ids, and the Unix time until which each is listed."""


class Revocations(Protocol):
    """Where the list is kept.

    Every method raises `BrokerUnavailable` if that does not answer; asking again is
    harmless.
    """

    async def revoke(self, until: Mapping[str, float]) -> None:
        """Put token ids on the list until a Unix time (`inf`: for ever), or longer if they
        are there already."""
        ...

    async def read(self, *, known: str | None) -> Revoked | None:
        """The list; None if it is still of the version `known`.

        It may name tokens that have expired.
        """
        ...


class MemoryRevocations:
    """For one process."""

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
