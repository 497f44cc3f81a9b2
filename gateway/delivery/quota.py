"""Limits how many jobs, or sets of jobs, a node watches: in total, per address and per subject.

Each watched job counts for exactly one client (its owner): for the first one that watched it, and
when that client stops, for another one that still watches it. So the counts of all owners add up
to the total, and a job that many clients watch uses up the quota of only one of them.
"""

from __future__ import annotations

from collections import Counter

from attrs import frozen

from ..model.addresses import network_of
from ..model.errors import NodeFull

__all__ = ["Owner", "Quota"]


@frozen
class Owner:
    """The client that a subscription counts for."""

    network: str = ""
    """The client's address, or its IPv6 network."""
    subject: str | None = None
    """The subject of the client's token."""

    @classmethod
    def at(cls, address: str, subject: str | None = None) -> Owner:
        """The owner for a client at this address."""
        return cls(network_of(address), subject)


class Quota:
    """Counts how many items are watched, and for whom.

    Args:
        what: What the items are ("jobs"), for messages.
        most: How many a node may watch.
        per_address: How many of them may count for one address.
        per_subject: How many of them may count for one subject.
    """

    def __init__(self, what: str, most: int, *, per_address: int, per_subject: int) -> None:
        self._what = what
        self._most = most
        self._per_address = per_address
        self._per_subject = per_subject
        self._taken = 0
        self._of_network: Counter[str] = Counter()
        self._of_subject: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"<Quota, {self.free} of {self._most} {self._what} free>"

    @property
    def free(self) -> int:
        """How many more items may be watched."""
        return self._most - self._taken

    def acquire(self, owner: Owner | None) -> None:
        """Count one more item for the owner (None: for the node itself).

        Raises `NodeFull` if the total or the owner's quota is used up.
        """
        if self.free <= 0:
            raise NodeFull(f"this node watches {self._most} {self._what} already")
        if owner is not None:
            if self._of_network[owner.network] >= self._per_address:
                watched = f"{self._per_address} {self._what}"
                raise NodeFull(f"clients at your address watch {watched} already", "share_full")
            if owner.subject and self._of_subject[owner.subject] >= self._per_subject:
                watched = f"{self._per_subject} {self._what}"
                raise NodeFull(f"clients of your subject watch {watched} already", "share_full")
        self._count(owner, 1)

    def release(self, owner: Owner | None) -> None:
        """Count one item less for the owner."""
        self._count(owner, -1)

    def transfer(self, owner: Owner | None, successor: Owner | None) -> None:
        """Count one item for the successor instead of the owner, even above its quota."""
        self._count(successor, 1)
        self._count(owner, -1)

    def _count(self, owner: Owner | None, change: int) -> None:
        self._taken += change
        if owner is not None:
            _add(self._of_network, owner.network, change)
            if owner.subject:
                _add(self._of_subject, owner.subject, change)


def _add(counts: Counter[str], key: str, change: int) -> None:
    counts[key] += change
    if not counts[key]:
        del counts[key]
