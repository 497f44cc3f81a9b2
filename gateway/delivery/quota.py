"""Limits how many jobs, or sets of jobs, a node watches: in total, per address and per subject.

Each watched job counts for exactly one client: for the first one that watched it, and when that
client stops, for another one that still watches it. So the counts of all clients add up to the
total, and a job that many clients watch uses the quota of only one of them. A client's `QuotaKey`
names the address and the subject whose quotas it uses.
"""

from __future__ import annotations

from collections import Counter

from attrs import frozen

from ..model.addresses import network_of
from ..model.errors import NodeFull

__all__ = ["Quota", "QuotaKey"]


@frozen
class QuotaKey:
    """The client for which a subscription counts: its address and its token's subject."""

    network: str = ""
    """The client's address, or its IPv6 network."""
    subject: str | None = None
    """The subject of the client's token."""

    @classmethod
    def at(cls, address: str, subject: str | None = None) -> QuotaKey:
        """Returns the key of a client at this address."""
        return cls(network_of(address), subject)


class Quota:
    """Counts the items that are watched, by client.

    Args:
        items: The name of the items ("jobs"), for messages.
        maximum: The number of items that a node may watch.
        per_address: The number of items that may count for one address.
        per_subject: The number of items that may count for one subject.
    """

    def __init__(self, items: str, maximum: int, *, per_address: int, per_subject: int) -> None:
        self._items = items
        self._maximum = maximum
        self._per_address = per_address
        self._per_subject = per_subject
        self._used = 0
        self._used_by_network: Counter[str] = Counter()
        self._used_by_subject: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"<Quota, {self.free} of {self._maximum} {self._items} free>"

    @property
    def free(self) -> int:
        """The number of further items that may be watched."""
        return self._maximum - self._used

    def acquire(self, quota_key: QuotaKey | None) -> None:
        """Counts one more item for a client (None: for the node itself).

        Raises `NodeFull` if the total or the client's quota is used up.
        """
        if self.free <= 0:
            raise NodeFull(f"this node watches {self._maximum} {self._items} already")
        if quota_key is not None:
            if self._used_by_network[quota_key.network] >= self._per_address:
                watched = f"{self._per_address} {self._items}"
                raise NodeFull(f"clients at your address watch {watched} already", "share_full")
            if quota_key.subject and self._used_by_subject[quota_key.subject] >= self._per_subject:
                watched = f"{self._per_subject} {self._items}"
                raise NodeFull(f"clients of your subject watch {watched} already", "share_full")
        self._count(quota_key, 1)

    def release(self, quota_key: QuotaKey | None) -> None:
        """Counts one item less for a client."""
        self._count(quota_key, -1)

    def transfer(self, quota_key: QuotaKey | None, successor: QuotaKey | None) -> None:
        """Counts one item for `successor` instead of `quota_key`, even above its quota."""
        self._count(successor, 1)
        self._count(quota_key, -1)

    def _count(self, quota_key: QuotaKey | None, change: int) -> None:
        self._used += change
        if quota_key is not None:
            _add(self._used_by_network, quota_key.network, change)
            if quota_key.subject:
                _add(self._used_by_subject, quota_key.subject, change)


def _add(counts: Counter[str], key: str, change: int) -> None:
    counts[key] += change
    if not counts[key]:
        del counts[key]
