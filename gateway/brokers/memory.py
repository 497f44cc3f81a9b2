"""The embedded broker: it keeps states in this process's memory. The reference for other brokers.

Each change happens between two checkpoints, so it is atomic. It keeps at most `limits.max_jobs`
jobs, each with `limits.history` events, together `limits.jobs_bytes`, for `limits.retention`
seconds after their last report. If a limit is reached, `shares` decides which jobs are dropped.
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
from ..model.groups import Contributions, late_request
from ..model.leases import next_deadline
from ..model.limits import DEFAULT_LIMITS, Limits
from ..model.reducer import expire_lease, may_begin, reduce
from ..model.state import UNSEEN, Event, Position, Record, Status, Update
from .base import JobFilter, Page, PublishResult
from .listing import Listing
from .memory_feed import MemoryFeed
from .shares import Share, Shares

__all__ = ["MemoryBroker"]

EVENT_BYTES = 600
"""The memory of an event without its long texts, measured."""
CHILD_BYTES = 250
"""The memory of a child's contribution to a group, measured."""
SLICE = 200
"""Jobs whose leases are checked without a checkpoint: one or two milliseconds."""


@define(eq=False)
class _Job:
    record: Record
    reported_at: float
    """When its worker last reported, on the monotonic clock."""
    share: Share
    """The share of the publisher that reported it first."""
    events: deque[Event] = field(factory=deque)
    size: int = 0
    """The size of the events and of the children's contributions, in bytes."""
    children: int = 0
    """How many contributions are counted in `size`."""
    touched: int = 0
    """A serial number of its last update, over all jobs: the order of `recent`."""
    wakes_at: float = inf
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
        self._jobs: dict[str, _Job] = {}
        self._recent: list[tuple[float, str]] = []  # `touched` of each job, in order
        self._shares = Shares()
        self._touches = 0
        self._due: list[tuple[float, str]] = []  # a heap of deadlines, about one entry per job
        self._feeds: set[MemoryFeed] = set()
        self._contributions = Contributions()
        self._last_epoch = 0
        self._lister = trio.CapacityLimiter(1)

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
        """Apply one update. First it waits for readers of the feed that are too far behind."""
        await trio.lowlevel.checkpoint()
        for feed in list(self._feeds):
            await feed.wait_for_reader()

        now = self._clock()
        known = self._jobs.get(job)
        if known is None and not may_begin(update):
            return PublishResult(UNSEEN, attempt=0, reason="unknown")
        result = reduce(
            known.record if known else None,
            update,
            now=now,
            epoch=self._next_epoch(now),
            children=self._contributions.of(job).values(),
        )
        if result.applied:
            known = self._commit(job, result.record, update.traceparent, publisher=publisher)
            self._touch(job, known)
            if result.restarted:
                self._contributions.restart(job)
            self._count_children_size(job, known)
            self._change_groups(self._contributions.take(job, result.record, self._record, now=now))
        elif known:
            known.record = result.record
        if known and result.renews:
            self._apply_late_request(job, known, now=now)
            known.reported_at = self._monotonic()
            self._schedule(job, known)
        if result.applied:
            self._free_memory(self._shares.of(publisher))
        record = known.record if known else result.record
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
        known = self._jobs.get(job)
        return [event for event in known.events if event.position > after] if known else []

    async def recent(
        self, jobs: JobFilter, *, status: Status | None = None, limit: int, after: str | None
    ) -> Page:
        cursor = inf if after is None else _parse_cursor(after)
        async with self._lister:  # one list at a time; other tasks run in between
            listing = Listing(limit, self._limits.list_bytes)
            start = bisect_left(self._recent, (cursor,))
            for index in reversed(range(start)):
                number, job = self._recent[index]
                known = self._jobs[job]
                wanted = (
                    job in jobs and job[0] != "!" and status in (None, known.record.state.status)
                )
                if start - index > self._limits.list_scan or (wanted and listing.full):
                    return Page(listing.events, next_cursor=str(number + 1))
                if wanted:
                    listing.add(known.events[-1])
            return Page(listing.events, None)

    async def running_children(self, group: str) -> list[str]:
        await trio.lowlevel.checkpoint()
        children = self._contributions.of(group).items()
        return [f"{group}/{name}" for name, one in children if one.status == "running"]

    async def expire_leases(self) -> int:
        """Works in slices, with checkpoints between them, and waits for readers of the feed."""
        await trio.lowlevel.checkpoint()
        now = self._monotonic()
        expired = checked = 0
        while self._due and self._due[0][0] <= now:
            at_entry, job = heappop(self._due)
            known = self._jobs.get(job)
            if known is None or known.wakes_at != at_entry:
                continue
            known.wakes_at = inf
            at, expires = self._deadline(known)
            record = expire_lease(known.record) if expires and at <= now else None
            if record is not None:
                self._commit(job, record)
                clock = self._clock()
                self._change_groups(
                    self._contributions.take(job, record, self._record, now=clock, expired=True)
                )
                expired += 1
            state, sums = known.record.state, known.record.sums
            if sums is not None and sums.live and not state.final and at <= now:
                known.reported_at = now  # a group is kept as long as it has active children
                at, _ = self._deadline(known)
            if at > now or expires:
                self._schedule(job, known)
            else:
                self._drop(job)
            checked += 1
            if checked % SLICE == 0:
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
    ) -> _Job:
        """Write snapshot, history and feed together. Only the feed gets the `traceparent`."""
        event = Event(job, record.position, record.state)
        known = self._jobs.get(job)
        if known is None:
            share = self._shares.of(publisher)
            if len(self._jobs) >= self._limits.max_jobs:
                self._drop(next(iter(self._shares.largest(share).jobs)))
            share = self._shares.of(publisher)
            known = self._jobs[job] = _Job(record, self._monotonic(), share)
            share.jobs[job] = None
        known.record = record
        self._resize(known, _event_size(event, known.events[-1] if known.events else None))
        known.events.append(event)
        if len(known.events) > 1:
            known.share.long[job] = None
            known.share.long.move_to_end(job)
        if len(known.events) > self._limits.history:
            self._shorten(known)
        if traceparent is not None:
            event = replace(event, traceparent=traceparent)
        for feed in self._feeds:
            feed.put(event)
        return known

    def _record(self, job: str) -> Record | None:
        known = self._jobs.get(job)
        return known.record if known else None

    def _change_groups(self, changed: Iterable[tuple[str, Record]]) -> None:
        """Commit the groups that a child's update has changed."""
        for group, record in changed:
            known = self._jobs[group]
            before = known.record
            if record.position == before.position:
                known.record = record
            else:
                self._commit(group, record)
                self._touch(group, known)
                known.reported_at = self._monotonic()
                self._schedule(group, known)
                self._apply_late_request(group, known, now=self._clock())
            self._count_children_size(group, known)

    def _apply_late_request(self, job: str, known: _Job, *, now: float) -> None:
        """Apply the request to a group above a job, if the job has not got it."""
        late = late_request(job, known.record, self._record)
        if late is not None:
            result = reduce(known.record, late, now=now, epoch=0)
            if result.applied:
                self._commit(job, result.record)
                self._touch(job, known)

    def _count_children_size(self, group: str, known: _Job) -> None:
        if known.record.sums is not None:
            children = len(self._contributions.of(group))
            self._resize(known, CHILD_BYTES * (children - known.children))
            known.children = children

    def _touch(self, job: str, known: _Job) -> None:
        """Make the job the most recently updated one. Usually it is near the end of `_recent`
        already, so few entries have to move."""
        if known.touched:
            del self._recent[bisect_left(self._recent, (known.touched,))]
        known.share.jobs.move_to_end(job)
        self._touches += 1
        known.touched = self._touches
        self._recent.append((known.touched, job))

    def _free_memory(self, wanting: Share) -> None:
        """While all jobs exceed `limits.jobs_bytes`, drop histories of the publisher that uses the
        most memory, then its jobs. Jobs with the oldest last event come first."""
        while self._shares.size > self._limits.jobs_bytes and len(self._jobs) > 1:
            share = self._shares.largest(wanting)
            if share.long:
                known = self._jobs[share.long.popitem(last=False)[0]]
                while len(known.events) > 1:
                    self._shorten(known)
            else:
                self._drop(next(iter(share.jobs)))

    def _shorten(self, known: _Job) -> None:
        oldest = known.events.popleft()
        self._resize(known, -_event_size(oldest, known.events[0] if known.events else None))

    def _resize(self, known: _Job, change: int) -> None:
        known.size += change
        self._shares.resize(known.share, change)

    def _drop(self, job: str) -> None:
        known = self._jobs.pop(job)
        self._shares.resize(known.share, -known.size)
        self._shares.remove(known.share, job)
        if known.touched:
            del self._recent[bisect_left(self._recent, (known.touched,))]
        self._change_groups(self._contributions.forget(job, self._record, now=self._clock()))

    def _deadline(self, known: _Job) -> tuple[float, bool]:
        return next_deadline(
            known.record.state, reported_at=known.reported_at, retention=self._limits.retention
        )

    def _schedule(self, job: str, known: _Job) -> None:
        """Schedule the job's next deadline: when its lease or its retention ends."""
        at, _ = self._deadline(known)
        if at < known.wakes_at:
            known.wakes_at = at
            heappush(self._due, (at, job))
            if len(self._due) > 2 * len(self._jobs) + 100:  # most entries are outdated
                self._due = sorted((known.wakes_at, job) for job, known in self._jobs.items())

    def _next_epoch(self, now: float) -> int:
        # Microseconds: larger than any epoch before, and small enough to be exact in JavaScript
        # and Lua.
        self._last_epoch = max(self._last_epoch + 1, int(now * 1_000_000))
        return self._last_epoch


def _event_size(event: Event, beside: Event | None) -> int:
    """The approximate size of an event, in bytes. Texts that it shares with the event beside it
    are one object in memory, so they are not counted."""
    size = EVENT_BYTES
    for name in ("message", "error", "phase", "data"):
        text = getattr(event.state, name)
        if text and (beside is None or text is not getattr(beside.state, name)):
            size += len(text) if name == "data" else getsizeof(text)
    return size


def _parse_cursor(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) < 20:
        return int(text)
    raise InvalidInput("after is not the value of next from a page", field="after")
