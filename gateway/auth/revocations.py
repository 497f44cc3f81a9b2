"""The tokens that count no more, though they have not expired.

A list of token ids, shared by all nodes, each kept until the token would have expired
anyway. Nodes look whether it has changed twice a second, so a revocation is heard of
within one, and one made while a node could not look is heard of when it can again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

import trio
from attrs import frozen

__all__ = ["MAX_TOKEN_ID", "MemoryRevocations", "Revocations", "Revoked"]

MAX_TOKEN_ID = 200
"""Characters of a token id: a UUID, a hash, a URL."""


@frozen
class Revoked:
    """The list, at one moment."""

    version: str
    """Another one after each change, also if what keeps the list was emptied meanwhile."""
    ids: frozenset[str]


class Revocations(Protocol):
    """Where the list is kept.

    Every method raises `BrokerUnavailable` if that does not answer; asking again is
    harmless.
    """

    async def revoke(self, token_id: str, *, until: float) -> None:
        """Put one on the list until the Unix time `until`, or longer if it is there already."""
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

    async def revoke(self, token_id: str, *, until: float) -> None:
        await trio.lowlevel.checkpoint()
        now = self._clock()
        self._until = {id_: end for id_, end in self._until.items() if end > now}
        self._until[token_id] = max(until, self._until.get(token_id, until))
        self._changes += 1

    async def read(self, *, known: str | None) -> Revoked | None:
        await trio.lowlevel.checkpoint()
        version = str(self._changes)
        return None if known == version else Revoked(version, frozenset(self._until))
