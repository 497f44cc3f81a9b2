"""Decides which jobs a full memory broker drops: those of the publisher that uses the most memory.

A publisher is a token's subject, or an address. If it uses more than an equal share of the memory,
its own jobs are dropped, so a publisher of a thousand new jobs does not displace the ended jobs of
others. Pure.
"""

from __future__ import annotations

from collections import OrderedDict

from attrs import define, field

__all__ = ["JobsByPublisher", "PublisherJobs"]


@define(eq=False)
class PublisherJobs:
    """The jobs that one publisher has reported first, ordered by their last event, oldest first."""

    publisher: str
    jobs: OrderedDict[str, None] = field(factory=OrderedDict)
    with_history: OrderedDict[str, None] = field(factory=OrderedDict)
    """The jobs that have a history (more than one event)."""
    size: int = 0
    """The memory of all these jobs, in bytes."""


class JobsByPublisher:
    """The jobs of each publisher that has any."""

    def __init__(self) -> None:
        self._by_publisher: dict[str, PublisherJobs] = {}
        self._largest: PublisherJobs | None = None
        self.size = 0
        """The memory of all jobs, in bytes."""

    def of(self, publisher: str) -> PublisherJobs:
        """Returns the publisher's jobs; a new, empty object if it has none."""
        publisher_jobs = self._by_publisher.get(publisher)
        if publisher_jobs is None:
            publisher_jobs = self._by_publisher[publisher] = PublisherJobs(publisher)
        return publisher_jobs

    def resize(self, publisher_jobs: PublisherJobs, change: int) -> None:
        """Adds `change` bytes to the memory of a publisher's jobs."""
        publisher_jobs.size += change
        self.size += change

    def remove(self, publisher_jobs: PublisherJobs, job: str) -> None:
        """Removes a dropped job. The publisher is removed with its last job."""
        del publisher_jobs.jobs[job]
        publisher_jobs.with_history.pop(job, None)
        if not publisher_jobs.jobs:
            del self._by_publisher[publisher_jobs.publisher]
            if self._largest is publisher_jobs:
                self._largest = None

    def to_shrink(self, own: PublisherJobs) -> PublisherJobs:
        """Returns the publisher whose jobs must be dropped for a new job of the publisher `own`:
        `own` if it uses more than an equal share of the memory, otherwise the one that uses the
        most."""
        equal_part = self.size / len(self._by_publisher)
        if own.jobs and own.size >= equal_part:
            return own
        if self._largest is None or self._largest.size < equal_part:
            self._largest = max(
                (each for each in self._by_publisher.values() if each.jobs), key=lambda p: p.size
            )
        return self._largest
