"""The embedded broker: it keeps states in this process's memory. The reference for other brokers.

Each change happens between two checkpoints, so it is atomic. The broker keeps at most
`limits.max_jobs` jobs, each with `limits.history` events, together `limits.jobs_bytes`, for
`limits.retention` seconds after their last report. If a limit is reached, `jobs_by_publisher`
decides which jobs are dropped.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from heapq import heappop, heappush
from math import inf
from sys import getsizeof

import trio
from attrs import define, field
from msgspec.structs import replace
from trio.abc import ReceiveChannel

from ..model.errors import GatewayError, InvalidInput
from ..model.groups import Contributions, inherited_request
from ..model.lease_times import next_deadline
from ..model.limits import DEFAULT_LIMITS, Limits
from ..model.reducer import expire_lease, may_begin, reduce
from ..model.state import UNSEEN, Event, Position, Record, Status, Update
from .base import JobFilter, Page, PublishResult
from .jobs_by_publisher import JobsByPublisher, PublisherJobs
from .listing import Listing
from .memory_feed import MemoryFeed

__all__ = ["MemoryBroker"]

EVENT_BYTES = 600
"""The memory of an event without its long texts, measured."""
CHILD_BYTES = 250
"""The memory of a child's contribution to a group, measured."""
LEASES_PER_SLICE = 200
"""Jobs whose leases are checked without a checkpoint: one or two milliseconds."""


@define(eq=False)
class _StoredJob:
    record: Record
    reported_at: float
    """The time when the worker last reported, on the monotonic clock."""
    publisher_jobs: PublisherJobs
    """The jobs of the publisher that reported this one first."""
    events: deque[Event] = field(factory=deque)
    size: int = 0
    """The size of the events and of the children's contributions, in bytes."""
    children: int = 0
    """The number of contributions that are counted in `size`."""
    update_number: int = 0
    """The serial number of its last update, over all jobs: the order of `recent`."""
    next_deadline_at: float = inf
    """The time of its earliest entry in the heap of deadlines."""


class MemoryBroker:
    """A broker for one process. It runs no task.

    `clock` returns Unix seconds, for the states. `monotonic` returns seconds that never go back,
    for leases: setting the machine's clock must not expire the leases of its workers.
    """

    def __init__(
        self,
        limits: Limits = DEFAULT_LIMITS,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = limits
        self._clock = clock
        self._monotonic = monotonic
        self._jobs: dict[str, _StoredJob] = {}
        self._recent: list[tuple[float, str]] = []  # the `update_number` of each job, ascending
        self._jobs_by_publisher = JobsByPublisher()
        self._last_update_number = 0
        self._deadlines: list[tuple[float, str]] = []
        """A heap of deadlines, about one entry per job."""
        self._feeds: set[MemoryFeed] = set()
        self._contributions = Contributions()
        self._last_epoch = 0
        self._list_limiter = trio.CapacityLimiter(1)

    def __repr__(self) -> str:
        return f"<MemoryBroker {len(self._jobs)} jobs, {len(self._feeds)} feeds>"

    @property
    def unavailable_reason(self) -> None:
        """Always None: memory is always available."""
        return None

    @property
    def ready(self) -> bool:
        return True

    @property
    def shared(self) -> bool:
        return False

    @property
    def unreadable(self) -> int:
        return 0

    @property
    def lag(self) -> int:
        return max((len(feed) for feed in self._feeds), default=0)

    async def publish(self, job: str, update: Update, *, publisher: str = "") -> PublishResult:
        """Applies one update, after waiting for readers of the feed that are too far behind."""
        await trio.lowlevel.checkpoint()
        for feed in list(self._feeds):
            await feed.wait_for_reader()

        now = self._clock()
        stored = self._jobs.get(job)
        if stored is None and not may_begin(update):
            return PublishResult(UNSEEN, attempt=0, reason="unknown")
        result = reduce(
            stored.record if stored else None,
            update,
            now=now,
            epoch=self._next_epoch(now),
            children=self._contributions.of(job).values(),
        )
        if result.applied:
            stored = self._commit(job, result.record, update.traceparent, publisher=publisher)
            self._mark_updated(job, stored)
            if result.restarted:
                self._contributions.restart(job)
            self._count_children_size(job, stored)
            self._change_groups(
                self._contributions.count_job(job, result.record, self._record, now=now)
            )
        elif stored:
            stored.record = result.record
        if stored and result.renews:
            self._apply_inherited_request(job, stored, now=now)
            stored.reported_at = self._monotonic()
            self._schedule(job, stored)
        if result.applied:
            self._free_memory(self._jobs_by_publisher.of(publisher))
        record = stored.record if stored else result.record
        request = record.state.request
        return PublishResult(
            record.position,
            attempt=record.state.attempt,
            reason=result.reason,
            request=request if request and request.open else None,
        )

    async def publish_many(
        self, updates: Sequence[tuple[str, Update]], *, publisher: str = ""
    ) -> list[PublishResult | GatewayError]:
        return [await self.publish(job, update, publisher=publisher) for job, update in updates]

    def partition(self, jobs: Sequence[str]) -> list[list[str]]:
        return [list(jobs)]

    async def read(self, jobs: Sequence[str]) -> dict[str, Event]:
        await trio.lowlevel.checkpoint()
        return {job: self._jobs[job].events[-1] for job in jobs if job in self._jobs}

    async def positions(self, jobs: Sequence[str]) -> dict[str, Position]:
        await trio.lowlevel.checkpoint()
        return {job: self._jobs[job].record.position for job in jobs if job in self._jobs}

    async def history(self, job: str, *, after: Position) -> list[Event]:
        await trio.lowlevel.checkpoint()
        stored = self._jobs.get(job)
        return [event for event in stored.events if event.position > after] if stored else []

    async def recent(
        self, jobs: JobFilter, *, status: Status | None = None, limit: int, after: str | None
    ) -> Page:
        cursor = inf if after is None else _parse_cursor(after)
        async with self._list_limiter:  # one list at a time; other tasks run in between
            listing = Listing(limit, self._limits.list_bytes)
            start = bisect_left(self._recent, (cursor,))
            for index in reversed(range(start)):
                number, job = self._recent[index]
                stored = self._jobs[job]
                wanted = (
                    job in jobs and job[0] != "!" and status in (None, stored.record.state.status)
                )
                if start - index > self._limits.list_scan or (wanted and listing.full):
                    return Page(listing.events, next_cursor=str(number + 1))
                if wanted:
                    listing.add(stored.events[-1])
            return Page(listing.events, None)

    async def running_children(self, group: str) -> list[str]:
        await trio.lowlevel.checkpoint()
        children = self._contributions.of(group).items()
        return [f"{group}/{name}" for name, child in children if child.status == "running"]

    async def expire_leases(self) -> int:
        """Works in slices, with checkpoints between them, and waits for readers of the feed."""
        await trio.lowlevel.checkpoint()
        now = self._monotonic()
        expired = checked = 0
        while self._deadlines and self._deadlines[0][0] <= now:
            entry_time, job = heappop(self._deadlines)
            stored = self._jobs.get(job)
            if stored is None or stored.next_deadline_at != entry_time:
                continue
            stored.next_deadline_at = inf
            at, expires = self._deadline(stored)
            record = expire_lease(stored.record) if expires and at <= now else None
            if record is not None:
                self._commit(job, record)
                clock = self._clock()
                self._change_groups(
                    self._contributions.count_job(
                        job, record, self._record, now=clock, expired=True
                    )
                )
                expired += 1
            state, sums = stored.record.state, stored.record.sums
            if sums is not None and sums.live and not state.final and at <= now:
                stored.reported_at = now  # a group with active children is kept
                at, _ = self._deadline(stored)
            if at > now or expires:
                self._schedule(job, stored)
            else:
                self._drop(job)
            checked += 1
            if checked % LEASES_PER_SLICE == 0:
                for feed in list(self._feeds):
                    await feed.wait_for_reader()
                await trio.lowlevel.checkpoint()
        return expired

    @asynccontextmanager
    async def feed(
        self, *, observed: Callable[[], Iterable[Event]] = tuple
    ) -> AsyncIterator[ReceiveChannel[Sequence[Event]]]:
        async with MemoryFeed() as feed:
            self._feeds.add(feed)
            try:
                yield feed
            finally:
                self._feeds.remove(feed)

    def _commit(
        self, job: str, record: Record, traceparent: str | None = None, *, publisher: str = ""
    ) -> _StoredJob:
        """Writes snapshot, history and feed together. Only the feed gets the `traceparent`."""
        event = Event(job, record.position, record.state)
        stored = self._jobs.get(job)
        if stored is None:
            own = self._jobs_by_publisher.of(publisher)
            if len(self._jobs) >= self._limits.max_jobs:
                self._drop(next(iter(self._jobs_by_publisher.to_shrink(own).jobs)))
            own = self._jobs_by_publisher.of(publisher)
            stored = self._jobs[job] = _StoredJob(record, self._monotonic(), own)
            own.jobs[job] = None
        stored.record = record
        self._resize(stored, _event_size(event, stored.events[-1] if stored.events else None))
        stored.events.append(event)
        if len(stored.events) > 1:
            stored.publisher_jobs.with_history[job] = None
            stored.publisher_jobs.with_history.move_to_end(job)
        if len(stored.events) > self._limits.history:
            self._shorten(stored)
        if traceparent is not None:
            event = replace(event, traceparent=traceparent)
        for feed in self._feeds:
            feed.put(event)
        return stored

    def _record(self, job: str) -> Record | None:
        stored = self._jobs.get(job)
        return stored.record if stored else None

    def _change_groups(self, changed: Iterable[tuple[str, Record]]) -> None:
        """Commits the groups that a child's update has changed."""
        for group, record in changed:
            stored = self._jobs[group]
            before = stored.record
            if record.position == before.position:
                stored.record = record
            else:
                self._commit(group, record)
                self._mark_updated(group, stored)
                stored.reported_at = self._monotonic()
                self._schedule(group, stored)
                self._apply_inherited_request(group, stored, now=self._clock())
            self._count_children_size(group, stored)

    def _apply_inherited_request(self, job: str, stored: _StoredJob, *, now: float) -> None:
        """Applies the request of a group above a job, if the job has not received it."""
        inherited = inherited_request(job, stored.record, self._record)
        if inherited is not None:
            result = reduce(stored.record, inherited, now=now, epoch=0)
            if result.applied:
                self._commit(job, result.record)
                self._mark_updated(job, stored)

    def _count_children_size(self, group: str, stored: _StoredJob) -> None:
        if stored.record.sums is not None:
            children = len(self._contributions.of(group))
            self._resize(stored, CHILD_BYTES * (children - stored.children))
            stored.children = children

    def _mark_updated(self, job: str, stored: _StoredJob) -> None:
        """Makes the job the most recently updated one. Usually it is already near the end of
        `_recent`, so few entries are moved."""
        if stored.update_number:
            del self._recent[bisect_left(self._recent, (stored.update_number,))]
        stored.publisher_jobs.jobs.move_to_end(job)
        self._last_update_number += 1
        stored.update_number = self._last_update_number
        self._recent.append((stored.update_number, job))

    def _free_memory(self, own: PublisherJobs) -> None:
        """Drops, while all jobs exceed `limits.jobs_bytes`, histories of the publisher that uses
        the most memory, then its jobs. Jobs with the oldest last event come first."""
        while self._jobs_by_publisher.size > self._limits.jobs_bytes and len(self._jobs) > 1:
            largest = self._jobs_by_publisher.to_shrink(own)
            if largest.with_history:
                stored = self._jobs[largest.with_history.popitem(last=False)[0]]
                while len(stored.events) > 1:
                    self._shorten(stored)
            else:
                self._drop(next(iter(largest.jobs)))

    def _shorten(self, stored: _StoredJob) -> None:
        oldest = stored.events.popleft()
        self._resize(stored, -_event_size(oldest, stored.events[0] if stored.events else None))

    def _resize(self, stored: _StoredJob, change: int) -> None:
        stored.size += change
        self._jobs_by_publisher.resize(stored.publisher_jobs, change)

    def _drop(self, job: str) -> None:
        stored = self._jobs.pop(job)
        self._jobs_by_publisher.resize(stored.publisher_jobs, -stored.size)
        self._jobs_by_publisher.remove(stored.publisher_jobs, job)
        if stored.update_number:
            del self._recent[bisect_left(self._recent, (stored.update_number,))]
        self._change_groups(self._contributions.drop_job(job, self._record, now=self._clock()))

    def _deadline(self, stored: _StoredJob) -> tuple[float, bool]:
        return next_deadline(
            stored.record.state, reported_at=stored.reported_at, retention=self._limits.retention
        )

    def _schedule(self, job: str, stored: _StoredJob) -> None:
        """Schedules the job's next deadline: when its lease or its retention ends."""
        at, _ = self._deadline(stored)
        if at < stored.next_deadline_at:
            stored.next_deadline_at = at
            heappush(self._deadlines, (at, job))
            if len(self._deadlines) > 2 * len(self._jobs) + 100:  # most entries are outdated
                self._deadlines = sorted(
                    (stored.next_deadline_at, job) for job, stored in self._jobs.items()
                )

    def _next_epoch(self, now: float) -> int:
        # Microseconds: larger than any epoch before, and small enough to be exact in JavaScript
        # and Lua.
        self._last_epoch = max(self._last_epoch + 1, int(now * 1_000_000))
        return self._last_epoch


def _event_size(event: Event, neighbour: Event | None) -> int:
    """Returns the approximate size of an event, in bytes. Texts that it shares with the
    neighbouring event are one object in memory, so they are not counted."""
    size = EVENT_BYTES
    for name in ("message", "error", "phase", "data"):
        text = getattr(event.state, name)
        if text and (neighbour is None or text is not getattr(neighbour.state, name)):
            size += len(text) if name == "data" else getsizeof(text)
    return size


def _parse_cursor(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) < 20:
        return int(text)
    raise InvalidInput("after is not the value of next from a page", field="after")
