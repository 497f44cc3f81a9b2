"""The sets that clients of this node watch: all jobs whose ids begin with a prefix.

A node reads the whole feed anyway, so it updates the members of each set from the feed. The sets of
an event are looked up by the prefixes of its job's id, so the cost of an event does not depend on
the number of sets or clients. Jobs that are older than the set come from the broker's list, which
is read once for a new set (`SetScan`), and again when the feed may have lost events. Both sources
are merged by position, so their order does not matter.

Watchers are notified at most once in `NOTIFY_INTERVAL`, and then read the newest state of the set.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Protocol

import trio
from attrs import define, field, frozen

from ..model.limits import Limits
from ..model.state import Event
from ..model.statuses import FINAL, STATUSES, Status
from .job_set import JobSet, SetView
from .quota import Owner, Quota
from .timer_wheel import TimerWheel

__all__ = ["NOTIFY_INTERVAL", "JobSets", "SetScan", "SetStatistics", "SetWatcher"]

NOTIFY_INTERVAL = 0.02
"""Minimum seconds between two notifications of a set's watchers: about one frame of a screen.
The first change is notified at once."""


MAX_VIEWS = 20
"""Views that a set keeps, also without watchers, so that a client that reconnects finds its view
and receives only what has changed."""


class SetWatcher(Protocol):
    """Receives the notifications about a view of a set. Its methods never block and never fail."""

    def changed(self) -> None:
        """The content of the view may have changed."""

    def ended(self, job: str) -> None:
        """The job has ended. Called only after `JobSets.notify_end` for this job."""


@frozen
class SetStatistics:
    """The number and size of a node's sets at one moment."""

    sets: int
    loading: int
    jobs: int


@define(eq=False)
class _WatchedSet:
    """A set and its watchers. The timer wheel calls `open` to notify them."""

    jobs: JobSet
    views: dict[tuple[tuple[Status, ...], int], SetView] = field(factory=dict)
    watchers: dict[SetView, dict[SetWatcher, Owner | None]] = field(factory=dict)
    """The watchers of each view, with the owner that each counts for."""
    waiting: dict[str, dict[SetWatcher, None]] = field(factory=dict)
    """The watchers to notify when a job ends, by job: see `JobSets.notify_end`."""
    notified_at: float = -NOTIFY_INTERVAL
    due: bool = False
    """Whether a notification is scheduled."""
    idle_since: float | None = None
    owner: Owner | None = None
    """The client that the set counts for, while it has watchers."""

    def open(self) -> None:
        self.due = False
        self.notified_at = trio.current_time()
        for watchers in self.watchers.values():
            for watcher in watchers:
                watcher.changed()


class JobSets:
    """All sets of one node. `clock` returns Unix seconds, for epochs."""

    def __init__(
        self, limits: Limits, *, timer_wheel: TimerWheel, clock: Callable[[], float]
    ) -> None:
        self._limits = limits
        self._timer_wheel = timer_wheel
        self._clock = clock
        self._sets: dict[str, _WatchedSet] = {}
        self._quota = Quota(
            "sets",
            limits.max_sets,
            per_address=limits.max_sets_per_address,
            per_subject=limits.max_sets_per_subject,
        )
        self._lengths: tuple[int, ...] = ()
        """The lengths of all prefixes, in ascending order."""
        self._idle: dict[str, _WatchedSet] = {}  # sets without watchers, the longest idle first
        self._jobs = 0
        self._last_epoch = self._denied_epoch = int(clock() * 1_000_000)
        self._to_scan: dict[_WatchedSet, None] = {}
        self._scan_needed = trio.Event()

    def __repr__(self) -> str:
        return f"<JobSets {len(self._sets)} sets, {self._jobs} jobs>"

    def statistics(self) -> SetStatistics:
        loading = sum(watched.jobs.loading for watched in self._sets.values())
        return SetStatistics(len(self._sets), loading, self._jobs)

    def watch(
        self,
        prefix: str,
        watcher: SetWatcher,
        *,
        statuses: Collection[Status],
        limit: int,
        owner: Owner | None = None,
    ) -> SetView:
        """Watch the jobs that begin with `prefix` and have one of `statuses`, for `owner`.

        The watcher is notified when the view is loaded, and when it changes.
        Raises `NodeFull` if there would be too many sets, in total or for this owner.
        """
        watched = self._sets.get(prefix)
        if watched is None or not any(watched.watchers.values()):
            self._quota.acquire(owner)
            if watched is None:
                watched = self._add(prefix)
            watched.owner = owner
        watched.idle_since = None
        self._idle.pop(prefix, None)
        key = _ordered(statuses), limit
        view = watched.views.get(key)
        if view is None:
            view = watched.views[key] = SetView(watched.jobs, *key, epoch=self._next_epoch())
            watched.watchers[view] = {}
        watched.watchers[view][watcher] = owner
        if not watched.jobs.loading:
            watcher.changed()
        return view

    def denied(self, prefix: str, *, statuses: Collection[Status], limit: int) -> SetView:
        """The view of a set that is always empty. It does not count against any limit."""
        empty = JobSet(prefix, most=1)
        empty.loading = False
        return SetView(empty, _ordered(statuses), limit, epoch=self._denied_epoch)

    def unwatch(self, view: SetView, watcher: SetWatcher) -> None:
        """Stop watching. The set stays for `limits.linger`, for a page reload or a reconnect."""
        watched = self._sets.get(view.jobs.prefix)
        if watched is None or watcher not in watched.watchers.get(view, ()):
            return
        owner = watched.watchers[view].pop(watcher)
        if len(watched.views) > MAX_VIEWS and not watched.watchers[view]:
            del watched.watchers[view], watched.views[view.statuses, view.limit]
        others = next(filter(None, watched.watchers.values()), None)
        if others:
            if watched.owner is owner:
                watched.owner = next(iter(others.values()))
                self._quota.transfer(owner, watched.owner)
        else:
            self._quota.release(watched.owner)
            watched.idle_since = trio.current_time()
            self._idle[view.jobs.prefix] = watched

    def notify_end(self, view: SetView, job: str, watcher: SetWatcher) -> None:
        """Call `watcher.ended` when this job, which its view no longer shows, has ended."""
        watched = self._sets.get(view.jobs.prefix)
        if watched is not None:
            watched.waiting.setdefault(job, {})[watcher] = None

    def cancel_notify_end(self, view: SetView, job: str, watcher: SetWatcher) -> None:
        """Undo `notify_end`."""
        watched = self._sets.get(view.jobs.prefix)
        watchers = watched.waiting.get(job) if watched else None
        if watched is not None and watchers is not None:
            watchers.pop(watcher, None)
            if not watchers:
                del watched.waiting[job]

    def deliver(self, events: Iterable[Event]) -> None:
        """Merge events from the feed, or from a read of the broker."""
        if not self._sets:
            return
        changed: dict[_WatchedSet, None] = {}
        for event in events:
            job = event.job
            if job[0] == "!":
                continue
            for length in self._lengths:
                if length > len(job):
                    break
                watched = self._sets.get(job[:length])
                if watched is not None and self._merge(watched, event, watched.jobs.apply):
                    changed[watched] = None
        for watched in changed:
            self._notify(watched)

    def evict_idle(self) -> None:
        """Drop the sets that have had no watcher for `limits.linger` seconds."""
        before = trio.current_time() - self._limits.linger
        for watched in list(self._idle.values()):
            if watched.idle_since is None or watched.idle_since > before:
                return
            self._drop(watched)

    # Scans of the broker's list.

    def scan_all(self) -> None:
        """Request a scan of all sets, because the feed may have lost events."""
        self._to_scan |= dict.fromkeys(self._sets.values())
        self._scan_needed.set()

    async def scan_needed(self) -> None:
        """Wait until a set needs a scan."""
        await self._scan_needed.wait()

    def begin_scan(self, *, everything: bool) -> SetScan:
        """Start a scan of the broker's list, for the sets that need one, or for all sets."""
        sets = list(self._sets.values()) if everything else list(self._to_scan)
        self._to_scan.clear()
        self._scan_needed = trio.Event()
        return SetScan(sets, self)

    def retry_scan(self, scan: SetScan) -> None:
        """Request another scan of the same sets, because this one could not be completed."""
        self._to_scan |= {each: None for each in scan.sets if self._is_current(each)}
        self._scan_needed.set()

    def apply_scanned(self, watched: _WatchedSet, event: Event) -> None:
        """Merge an event that a scan has found. Called by `SetScan`."""
        if self._merge(watched, event, watched.jobs.scanned) and not watched.jobs.loading:
            self._notify(watched)

    def end_scan(self, watched: _WatchedSet, *, more: bool) -> None:
        """Complete the scan of one set. Called by `SetScan`."""
        jobs = watched.jobs
        loading, version, before = jobs.loading, jobs.version, len(jobs)
        jobs.end_scan(more=more)
        if self._is_current(watched):
            self._jobs += len(jobs) - before
        if loading or jobs.version != version:
            self._notify(watched)

    def _merge(self, watched: _WatchedSet, event: Event, merge: Callable[[Event], bool]) -> bool:
        jobs, job = watched.jobs, event.job
        before = len(jobs)
        changed = merge(event)
        if self._is_current(watched):
            self._jobs += len(jobs) - before
            if self._jobs > self._limits.total_set_jobs:
                self._evict_from_largest()
        if watched.waiting and job in watched.waiting and jobs.status(job) in FINAL:
            for watcher in watched.waiting.pop(job):
                watcher.ended(job)
        return changed

    def _notify(self, watched: _WatchedSet) -> None:
        """Notify the watchers now, or `NOTIFY_INTERVAL` after the last notification."""
        if watched.due or watched.jobs.loading:
            return
        again = watched.notified_at + NOTIFY_INTERVAL
        if trio.current_time() < again:
            watched.due = True
            self._timer_wheel.call_at(again, watched)
        else:
            watched.open()

    def _add(self, prefix: str) -> _WatchedSet:
        if len(self._sets) >= self._limits.max_sets:
            self._drop(next(iter(self._idle.values())))
        watched = self._sets[prefix] = _WatchedSet(JobSet(prefix, most=self._limits.max_set_jobs))
        self._update_lengths()
        self._to_scan[watched] = None
        self._scan_needed.set()
        return watched

    def _drop(self, watched: _WatchedSet) -> None:
        prefix = watched.jobs.prefix
        del self._sets[prefix]
        self._idle.pop(prefix, None)
        self._to_scan.pop(watched, None)
        self._jobs -= len(watched.jobs)
        self._update_lengths()

    def _update_lengths(self) -> None:
        self._lengths = tuple(sorted(Counter(map(len, self._sets))))

    def _is_current(self, watched: _WatchedSet) -> bool:
        return self._sets.get(watched.jobs.prefix) is watched

    def _evict_from_largest(self) -> None:
        """Drop an eighth of the largest set's jobs, so that this is seldom necessary."""
        largest = max(self._sets.values(), key=lambda watched: len(watched.jobs))
        number = max(1, len(largest.jobs) // 8)
        largest.jobs.evict(number)
        self._jobs -= number
        self._notify(largest)

    def _next_epoch(self) -> int:
        # Microseconds, as the epochs of records: new for every view.
        self._last_epoch = max(self._last_epoch + 1, int(self._clock() * 1_000_000))
        return self._last_epoch


class SetScan:
    """One scan of the broker's list of jobs, for several sets.

    `job in scan` is true for the jobs that these sets still need, so a scan can be the filter of
    `Broker.recent`.
    """

    def __init__(self, sets: Sequence[_WatchedSet], owner: JobSets) -> None:
        self.sets = sets
        self._owner = owner
        self._wanted = {watched.jobs.prefix: watched for watched in sets}
        self._lengths = tuple(sorted(Counter(map(len, self._wanted))))
        self._more: set[_WatchedSet] = set()
        for watched in sets:
            watched.jobs.begin_scan()

    def __contains__(self, job: str, /) -> bool:
        return any(job[:length] in self._wanted for length in self._lengths)

    def __bool__(self) -> bool:
        """Whether any set needs more of the list."""
        return bool(self._wanted)

    def add(self, events: Iterable[Event]) -> None:
        """Take the next events of the list, which begins with the most recently updated job."""
        for event in events:
            for length in self._lengths:
                watched = self._wanted.get(event.job[:length])
                if watched is None or length > len(event.job):
                    continue
                if watched.jobs.scan_is_full:
                    self._more.add(watched)
                    del self._wanted[watched.jobs.prefix]
                else:
                    self._owner.apply_scanned(watched, event)

    def end(self) -> None:
        """Complete the scan: the list has been read as far as any set needs it."""
        for watched in self.sets:
            self._owner.end_scan(watched, more=watched in self._more)


def _ordered(statuses: Collection[Status]) -> tuple[Status, ...]:
    return tuple(status for status in STATUSES if status in statuses)
