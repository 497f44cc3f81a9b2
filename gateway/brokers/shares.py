"""Decides which jobs a full memory broker drops: those of the publisher that uses the most memory.

Each publisher (a token's subject, or an address) has a share of the broker. If it uses more than an
equal part, its own jobs are dropped, so a publisher of a thousand new jobs does not displace the
ended jobs of others. Pure.
"""

from __future__ import annotations

from collections import OrderedDict

from attrs import define, field

__all__ = ["Share", "Shares"]


@define(eq=False)
class Share:
    """One publisher's jobs, ordered by their last event, oldest first."""

    publisher: str
    jobs: OrderedDict[str, None] = field(factory=OrderedDict)
    with_history: OrderedDict[str, None] = field(factory=OrderedDict)
    """The jobs that have a history (more than one event)."""
    size: int = 0
    """The memory of all these jobs, in bytes."""


class Shares:
    """All publishers that have jobs."""

    def __init__(self) -> None:
        self._shares: dict[str, Share] = {}
        self._largest: Share | None = None
        self.size = 0

    def of(self, publisher: str) -> Share:
        """Returns the publisher's share; a new one if it has none."""
        share = self._shares.get(publisher)
        if share is None:
            share = self._shares[publisher] = Share(publisher)
        return share

    def resize(self, share: Share, change: int) -> None:
        """Add `change` bytes to the size of the share."""
        share.size += change
        self.size += change

    def remove(self, share: Share, job: str) -> None:
        """Remove a dropped job. The share is removed with its last job."""
        del share.jobs[job]
        share.with_history.pop(job, None)
        if not share.jobs:
            del self._shares[share.publisher]
            if self._largest is share:
                self._largest = None

    def largest(self, publisher_share: Share) -> Share:
        """Returns the share that must drop jobs for a new job of a publisher: the publisher's own
        share if it uses more than an equal part, otherwise the largest."""
        equal_part = self.size / len(self._shares)
        if publisher_share.jobs and publisher_share.size >= equal_part:
            return publisher_share
        if self._largest is None or self._largest.size < equal_part:
            self._largest = max(
                (share for share in self._shares.values() if share.jobs), key=lambda s: s.size
            )
        return self._largest
