"""The embedded broker: states in this process's memory. The reference for all others.

Each change happens between two checkpoints, so it is atomic by construction. What it
keeps is bounded: `limits.max_jobs` jobs, each with `limits.history` events, together
`limits.jobs_bytes`, for `limits.retention` seconds after their last word.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from heapq import heappop, heappush
from itertools import takewhile
from math import inf
from sys import getsizeof

import trio
from attrs import define, field
from msgspec.structs import replace
from trio.abc import ReceiveChannel

from ..auth.patterns import Patterns
from ..broker import Page, Receipt
from ..errors import InvalidInput
from ..fold import fold, lapse, lapses_at
from ..job import Event, Position, Record, Status, Update
from ..limits import DEFAULT_LIMITS, Limits
from .listing import Listing

__all__ = ["MemoryBroker"]

EVENT_BYTES = 600
"""What an event takes without its long texts, measured."""
FEED_CAPACITY = 10_000
"""Events a feed may be behind before `publish` waits: some megabytes."""


@define(eq=False)
class _Job:
    record: Record
    heard_at: float
    """When its worker was last heard, on the monotonic clock."""
    events: deque[Event] = field(factory=deque)
    weight: int = 0
    """What the events take, in bytes."""
    touched: int = 0
    """The number of its last update's event, over all jobs: the order of `recent`."""
    touched_at: float = -inf
    """When that was, on the monotonic clock."""
    wakes_at: float = inf
    """Its earliest entry in the heap of leases."""


class MemoryBroker:
    """A broker for one process. It runs no task, so it needs no context.

    `clock` returns Unix seconds, for the states; `monotonic` any seconds that only go
    forward, for leases: a machine whose clock is set must not make its workers silent.
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
        self._long: OrderedDict[str, _Job] = OrderedDict()  # with a history, by their last event
        self._weight = 0
        self._touches = 0
        self._due: list[tuple[float, str]] = []  # a heap; about one entry a running job
        self._feeds: set[_Feed] = set()
        self._last_epoch = 0
        self._lister = trio.CapacityLimiter(1)

    def __repr__(self) -> str:
        return f"<MemoryBroker {len(self._jobs)} jobs, {len(self._feeds)} feeds>"

    @property
    def away(self) -> None:
        """It is never away."""
        return None

    @property
    def shared(self) -> bool:
        return False

    @property
    def behind(self) -> int:
        return max((len(feed) for feed in self._feeds), default=0)

    async def publish(self, job: str, update: Update) -> Receipt:
        """Fold one update. Waits, before anything is changed, for a feed that is behind."""
        await trio.lowlevel.checkpoint()
        for feed in list(self._feeds):
            await feed.room()

        now = self._clock()
        known = self._jobs.get(job)
        folded = fold(known.record if known else None, update, now=now, epoch=self._next_epoch(now))
        if folded.applied:
            known = self._commit(job, folded.record, update.traceparent)
            self._touch(job, known)
            self._make_room()
        if known and folded.renews:
            known.heard_at = self._monotonic()
            self._watch(job, known)
        return Receipt(
            folded.record.position, attempt=folded.record.state.attempt, reason=folded.reason
        )

    def apart(self, jobs: Sequence[str]) -> list[list[str]]:
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

    async def restore(self, events: Sequence[Event]) -> None:
        """What it does not know any more it was to forget."""
        await trio.lowlevel.checkpoint()

    async def recent(
        self, jobs: Patterns, *, status: Status | None = None, limit: int, after: str | None
    ) -> Page:
        cursor = inf if after is None else _parse_cursor(after)
        async with self._lister:  # in turn, with the tasks of others between two
            listing = Listing(limit, self._limits.page_bytes)
            start = bisect_left(self._recent, (cursor,))
            for index in reversed(range(start)):
                number, job = self._recent[index]
                known = self._jobs[job]
                wanted = (
                    job in jobs and job[0] != "!" and status in (None, known.record.state.status)
                )
                if start - index > self._limits.page_looks or (wanted and listing.full):
                    return Page(listing.events, next=str(number + 1))
                if wanted:
                    listing.add(known.events[-1])
            return Page(listing.events, None)

    async def reap(self) -> int:
        await trio.lowlevel.checkpoint()
        now = self._monotonic()
        self._forget(now)
        reaped = 0
        while self._due and self._due[0][0] <= now:
            woken_at, job = heappop(self._due)
            known = self._jobs.get(job)
            if known is None or known.wakes_at != woken_at:
                continue
            known.wakes_at = inf
            at = lapses_at(known.record.state, heard_at=known.heard_at)
            if at is not None and at <= now:
                record = lapse(known.record)
                if record is not None:
                    self._commit(job, record)
                    reaped += 1
            self._watch(job, known)
        self._make_room()
        return reaped

    @asynccontextmanager
    async def feed(self) -> AsyncIterator[ReceiveChannel[Sequence[Event]]]:
        async with _Feed() as feed:
            self._feeds.add(feed)
            try:
                yield feed
            finally:
                self._feeds.remove(feed)

    def _commit(self, job: str, record: Record, traceparent: str | None = None) -> _Job:
        """Snapshot, history and feed, together; the feed alone has the `traceparent`."""
        event = Event(job, record.position, record.state)
        known = self._jobs.get(job)
        if known is None:
            if len(self._jobs) >= self._limits.max_jobs:
                self._drop(self._recent.pop(0)[1])
            known = self._jobs[job] = _Job(record, self._monotonic())
        known.record = record
        self._weigh(known, _weight(event, known.events[-1] if known.events else None))
        known.events.append(event)
        if len(known.events) > 1:
            self._long[job] = known
            self._long.move_to_end(job)
        if len(known.events) > self._limits.history:
            self._shorten(known)
        if traceparent is not None:
            event = replace(event, traceparent=traceparent)
        for feed in self._feeds:
            feed.put(event)
        return known

    def _touch(self, job: str, known: _Job) -> None:
        """Put it first of all. Mostly it was among the first, and little has to move."""
        if known.touched:
            del self._recent[bisect_left(self._recent, (known.touched,))]
        self._touches += 1
        known.touched = self._touches
        known.touched_at = self._monotonic()
        self._recent.append((known.touched, job))

    def _make_room(self) -> None:
        """Forget histories, then jobs, until the rest is light enough: of those first that
        have had no event for longest."""
        while self._weight > self._limits.jobs_bytes and len(self._jobs) > 1:
            if self._long:
                known = self._long.popitem(last=False)[1]
                while len(known.events) > 1:
                    self._shorten(known)
            else:
                self._drop(self._recent.pop(0)[1])

    def _shorten(self, known: _Job) -> None:
        oldest = known.events.popleft()
        self._weigh(known, -_weight(oldest, known.events[0] if known.events else None))

    def _weigh(self, known: _Job, change: int) -> None:
        known.weight += change
        self._weight += change

    def _drop(self, job: str) -> None:
        """All of a job but its place in `recent`."""
        self._weight -= self._jobs.pop(job).weight
        self._long.pop(job, None)

    def _watch(self, job: str, known: _Job) -> None:
        """Look at this lease when it runs out."""
        at = lapses_at(known.record.state, heard_at=known.heard_at)
        if at is not None and at < known.wakes_at:
            known.wakes_at = at
            heappush(self._due, (at, job))
            if len(self._due) > 2 * len(self._jobs) + 100:  # of jobs that were forgotten
                all_jobs = self._jobs.items()
                self._due = sorted((k.wakes_at, job) for job, k in all_jobs if k.wakes_at < inf)

    def _forget(self, now: float) -> None:
        """Drop the jobs nobody has said a word about for the time of retention."""
        before = now - self._limits.retention
        old = takewhile(lambda row: self._jobs[row[1]].touched_at <= before, self._recent)
        forgotten = [job for _, job in old if self._jobs[job].heard_at <= before]
        for job in forgotten:
            self._drop(job)
        if forgotten:
            self._recent = [row for row in self._recent if row[1] in self._jobs]

    def _next_epoch(self, now: float) -> int:
        # Microseconds: new for every record, larger than any before, and still a whole
        # number in JavaScript and Lua.
        self._last_epoch = max(self._last_epoch + 1, int(now * 1_000_000))
        return self._last_epoch


@define(eq=False)
class _Feed(ReceiveChannel[Sequence[Event]]):
    """One reader's batch: everything since it last took one."""

    _events: list[Event] = field(factory=list)
    _arrived: trio.Event = field(factory=trio.Event)
    _taken: trio.Event = field(factory=trio.Event)
    _closed: bool = False

    def __len__(self) -> int:
        return len(self._events)

    def put(self, event: Event) -> None:
        self._events.append(event)
        self._arrived.set()

    async def room(self) -> None:
        """Return when the reader is less than `FEED_CAPACITY` events behind."""
        while len(self._events) >= FEED_CAPACITY and not self._closed:
            await self._taken.wait()

    async def receive(self) -> Sequence[Event]:
        if self._closed:
            raise trio.ClosedResourceError
        await self._arrived.wait()
        if self._closed:
            raise trio.ClosedResourceError
        batch, self._events = self._events, []
        self._arrived = trio.Event()
        self._taken.set()
        self._taken = trio.Event()
        return batch

    async def aclose(self) -> None:
        self._closed = True
        self._arrived.set()
        self._taken.set()
        await trio.lowlevel.checkpoint()


def _weight(event: Event, beside: Event | None) -> int:
    """Bytes that an event takes, about, while the one beside it is there: most texts stay the
    same from one to the next, and are one in memory."""
    weight = EVENT_BYTES
    for name in ("message", "error", "phase", "data"):
        text = getattr(event.state, name)
        if text and (beside is None or text is not getattr(beside.state, name)):
            weight += len(text) if name == "data" else getsizeof(text)
    return weight


def _parse_cursor(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) < 20:
        return int(text)
    raise InvalidInput("after is not the next of a page", field="after")
