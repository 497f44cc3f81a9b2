"""One set: an index of the jobs whose ids begin with a prefix, and views of it. No I/O, no clock.

A `JobSet` is an index of such jobs: their positions, statuses and times, not their states. Events
can be applied in any order, because it merges them by position. A scan of the broker's list repairs
it: a job that neither the scan nor an event during the scan contains is removed. A set is exact for
the `max_jobs` jobs that were updated last.

A `SetView` is the part of a set that a client watches: the first `limit` jobs with one of the
given statuses. It is computed when it is read, and encoded once for all clients at the same
position.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from heapq import merge
from itertools import islice

import msgspec
from attrs import define, field, frozen

from ..model.state import Event, Position, State
from ..model.statuses import FINAL, STATUSES, Status
from ..protocol.commands import CommandId
from ..protocol.messages import Message, job_set

__all__ = ["JobSet", "SetView"]

SortKey = tuple[float, str]
"""Orders the jobs of one status: the time, negated so that the newest is first, and the id."""


def _sort_key(job: str, state: State) -> SortKey:
    """Returns the key of the order: active jobs by their start (queued ones by their creation),
    ended jobs by their end."""
    if state.final:
        return -(state.finished_at or state.updated_at), job
    return -(state.started_at or state.created_at), job


@define
class _Member:
    position: Position
    status: Status
    sort_key: SortKey
    updated_at: float
    last_scan_seen: int
    """The number of the last scan that found the job, or during which it had an event."""
    last_scan_moved: int
    """The number of the last scan during which an event made it the most recently updated job."""


class JobSet:
    """The jobs whose ids begin with `prefix`: the `max_jobs` of them that were updated last."""

    def __init__(self, prefix: str, *, max_jobs: int) -> None:
        self.prefix = prefix
        self.max_jobs = max_jobs
        self.more = False
        """Whether there are more jobs than this set holds. They were updated longer ago."""
        self.version = 0
        """Increased by every change that a view can show."""
        self.loading = True
        """True until the first scan is complete."""
        self._members: OrderedDict[str, _Member] = OrderedDict()  # the oldest update first
        self._order: dict[Status, list[SortKey]] = {status: [] for status in STATUSES}
        self._scan = 0
        self._scanned: list[str] | None = None
        """The jobs that the current scan has found, newest first; None if no scan is running."""

    def __len__(self) -> int:
        return len(self._members)

    def __repr__(self) -> str:
        state = "loading" if self.loading else "live"
        return f"<JobSet {self.prefix!r} {state}, {len(self)} jobs>"

    def status(self, job: str) -> Status | None:
        """Returns the status of a job; None if the job is not a member."""
        member = self._members.get(job)
        return member.status if member else None

    def counts(self) -> dict[Status, int]:
        """Returns the number of members of each status."""
        return {status: len(sort_keys) for status, sort_keys in self._order.items()}

    def first(self, statuses: Sequence[Status], limit: int) -> list[str]:
        """Returns the ids of the first `limit` members that have one of these statuses.

        Active jobs come first, ordered by start, then ended jobs, ordered by end; newest first.
        """

        def jobs() -> Iterator[str]:
            for ended in (False, True):
                orders = [self._order[s] for s in statuses if (s in FINAL) == ended]
                for _, job in merge(*orders):
                    yield job

        return list(islice(jobs(), limit))

    def apply(self, event: Event) -> bool:
        """Merges an event of a job that begins with the prefix. Returns whether a view may change.

        An event that is not newer than the known position changes nothing.
        """
        return self._apply(event, recent=True)

    def _apply(self, event: Event, *, recent: bool) -> bool:
        job, state = event.job, event.state
        member = self._members.get(job)
        if member is None:
            sort_key = _sort_key(job, state)
            last_scan_moved = self._scan if recent else -1
            member = _Member(
                event.position,
                state.status,
                sort_key,
                state.updated_at,
                self._scan,
                last_scan_moved,
            )
            self._members[job] = member
            insort(self._order[state.status], sort_key)
            self.version += 1
            # During a scan the limit is doubled: only `end_scan` puts the jobs in order.
            if len(self._members) > self.max_jobs * (1 if self._scanned is None else 2):
                self.evict(1)
            return True
        member.last_scan_seen = self._scan
        if event.position <= member.position:
            return False
        member.position = event.position
        if recent and state.updated_at != member.updated_at:
            self._members.move_to_end(job)
            member.last_scan_moved = self._scan
        member.updated_at = state.updated_at
        sort_key = _sort_key(job, state)
        if state.status == member.status and sort_key == member.sort_key:
            return False
        self._remove_from_order(member)
        member.status, member.sort_key = state.status, sort_key
        insort(self._order[state.status], sort_key)
        self.version += 1
        return True

    def evict(self, count: int) -> None:
        """Drops the `count` members that were updated longest ago."""
        for _ in range(min(count, len(self._members))):
            _, member = self._members.popitem(last=False)
            self._remove_from_order(member)
        self.more = True
        self.version += 1

    def begin_scan(self) -> None:
        """Begins a scan. The caller then calls `apply_scanned` for each job of the broker's list,
        newest first, and finally `end_scan`. A scan that was not completed is abandoned."""
        self._scan += 1
        self._scanned = []

    def apply_scanned(self, event: Event) -> bool:
        """Merges the next job of the broker's list. Returns whether a view may change."""
        if self._scanned is None:
            raise RuntimeError("no scan is running")
        self._scanned.append(event.job)
        return self._apply(event, recent=False)

    @property
    def scan_is_full(self) -> bool:
        """Whether the scan has found as many jobs as this set can hold."""
        return self._scanned is not None and len(self._scanned) >= self.max_jobs

    def end_scan(self, *, more: bool) -> None:
        """Completes the scan. `more` says that the list continues beyond what this set can hold.

        Members that neither the scan nor an event during the scan contained are removed.
        """
        for job, member in list(self._members.items()):
            if member.last_scan_seen < self._scan:
                del self._members[job]
                self._remove_from_order(member)
                self.version += 1
        for job in self._scanned or ():
            scanned = self._members.get(job)
            if scanned is not None and scanned.last_scan_moved < self._scan:
                self._members.move_to_end(job, last=False)
        self._scanned = None
        if self.more != more:
            self.version += 1
        self.more = more
        if len(self._members) > self.max_jobs:
            self.evict(len(self._members) - self.max_jobs)
        self.loading = False

    def _remove_from_order(self, member: _Member) -> None:
        sort_keys = self._order[member.status]
        del sort_keys[bisect_left(sort_keys, member.sort_key)]


@frozen
class _Document:
    """The content of a view at one position."""

    total: int
    counts: dict[Status, int]
    more: bool
    jobs: list[str]


@define(eq=False)
class SetView:
    """The first `limit` jobs of a set that have one of `statuses`.

    Its position is `(epoch, seq)`. A position is never used for two different documents.
    """

    job_set: JobSet
    statuses: tuple[Status, ...]
    limit: int
    epoch: int
    seq: int = field(default=0, init=False)
    """0 until the first `refresh`."""
    visible: dict[str, None] = field(factory=dict, init=False)
    """The ids of the jobs in the view, in order, as the keys of an ordered dict."""
    _document: _Document | None = field(default=None, init=False)
    _text: bytes = field(default=b"", init=False)
    """The document without its braces, as JSON."""
    _version: int = field(default=-1, init=False)
    _messages: dict[int | None, Message] = field(factory=dict, init=False)

    def refresh(self) -> None:
        """Computes the document again if the set has changed. A new document gets a new
        position."""
        if self._version == self.job_set.version:
            return
        self._version = self.job_set.version
        counts = self.job_set.counts()
        document = _Document(
            sum(counts[status] for status in self.statuses),
            counts,
            self.job_set.more,
            self.job_set.first(self.statuses, self.limit),
        )
        if document == self._document:
            return
        self._document = document
        self.seq += 1
        self.visible = dict.fromkeys(document.jobs)
        fields = {"total": document.total, "counts": document.counts}
        fields |= {"more": True} if document.more else {}
        self._text = msgspec.json.encode({**fields, "jobs": document.jobs})[1:-1]
        self._messages.clear()

    def document(self) -> bytes:
        """Returns the document and its position, as a JSON object."""
        return b'{"prefix":"%b","epoch":%d,"seq":%d,%b}' % (
            self.job_set.prefix.encode(),
            self.epoch,
            self.seq,
            self._text,
        )

    def message(self, *, prev: int | None, id_: CommandId) -> Message:
        """Returns the message that takes a client from the document `prev` (None: it has no
        document) to the newest one."""
        message = self._messages.get(prev) if id_ is None else None
        if message is None:
            message = job_set(
                self.job_set.prefix,
                epoch=self.epoch,
                prev=prev,
                seq=self.seq,
                text=self._text,
                id_=id_,
            )
            if id_ is None:
                self._messages[prev] = message
        return message
