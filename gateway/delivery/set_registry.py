"""All sets of a node: updates each from the feed and from scans, and notifies its watchers.

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
from .quota import Quota, QuotaKey
from .timer_wheel import TimerWheel

__all__ = ["NOTIFY_INTERVAL", "SetRegistry", "SetScan", "SetStatistics", "SetWatcher"]

NOTIFY_INTERVAL = 0.02
"""Minimum seconds between two notifications of a set's watchers: about one frame of a screen.
The first change is notified at once."""


MAX_VIEWS = 20
"""Views that a set keeps, also without watchers, so that a client that reconnects finds its view
and receives only what has changed."""


class SetWatcher(Protocol):
    """Receives the notifications about a view of a set. The methods never block and never fail."""

    def on_change(self) -> None:
        """The content of the view may have changed."""

    def on_job_ended(self, job: str) -> None:
        """The job has ended. Called only after `SetRegistry.notify_end` for this job."""


@frozen
class SetStatistics:
    """The number and size of a node's sets at one moment."""

    sets: int
    loading: int
    jobs: int


@define(eq=False)
class _WatchedSet:
    """A set and its watchers. It is an entry of the timer wheel."""

    job_set: JobSet
    views: dict[tuple[tuple[Status, ...], int], SetView] = field(factory=dict)
    watchers: dict[SetView, dict[SetWatcher, QuotaKey | None]] = field(factory=dict)
    """The watchers of each view, each with the client for which it counts."""
    end_watchers: dict[str, dict[SetWatcher, None]] = field(factory=dict)
    """The watchers to notify when a job ends, by job: see `SetRegistry.notify_end`."""
    notified_at: float = -NOTIFY_INTERVAL
    is_scheduled: bool = False
    """Whether a notification is scheduled."""
    idle_since: float | None = None
    quota_key: QuotaKey | None = None
    """The client for which the set counts, while it has watchers."""

    def notify_watchers(self) -> None:
        self.is_scheduled = False
        self.notified_at = trio.current_time()
        for watchers in self.watchers.values():
            for watcher in watchers:
                watcher.on_change()

    on_tick = notify_watchers


class SetRegistry:
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
        return f"<SetRegistry {len(self._sets)} sets, {self._jobs} jobs>"

    def statistics(self) -> SetStatistics:
        loading = sum(watched.job_set.loading for watched in self._sets.values())
        return SetStatistics(len(self._sets), loading, self._jobs)

    def watch(
        self,
        prefix: str,
        watcher: SetWatcher,
        *,
        statuses: Collection[Status],
        limit: int,
        quota_key: QuotaKey | None = None,
    ) -> SetView:
        """Watches the jobs that begin with `prefix` and have one of `statuses`.

        The watcher is notified when the view is loaded, and when it changes.
        `quota_key` identifies the client in whose quota the set counts.
        Raises `NodeFull` if there would be too many sets, in total or for this client.
        """
        watched = self._sets.get(prefix)
        if watched is None or not any(watched.watchers.values()):
            self._quota.acquire(quota_key)
            if watched is None:
                watched = self._add(prefix)
            watched.quota_key = quota_key
        watched.idle_since = None
        self._idle.pop(prefix, None)
        key = _ordered(statuses), limit
        view = watched.views.get(key)
        if view is None:
            view = watched.views[key] = SetView(watched.job_set, *key, epoch=self._next_epoch())
            watched.watchers[view] = {}
        watched.watchers[view][watcher] = quota_key
        if not watched.job_set.loading:
            watcher.on_change()
        return view

    def denied_view(self, prefix: str, *, statuses: Collection[Status], limit: int) -> SetView:
        """Returns the view of a set that is always empty. It counts against no limit."""
        empty = JobSet(prefix, max_jobs=1)
        empty.loading = False
        return SetView(empty, _ordered(statuses), limit, epoch=self._denied_epoch)

    def unwatch(self, view: SetView, watcher: SetWatcher) -> None:
        """Stops watching. The set stays for `limits.linger`, for a page reload or a reconnect."""
        watched = self._sets.get(view.job_set.prefix)
        if watched is None or watcher not in watched.watchers.get(view, ()):
            return
        quota_key = watched.watchers[view].pop(watcher)
        if len(watched.views) > MAX_VIEWS and not watched.watchers[view]:
            del watched.watchers[view], watched.views[view.statuses, view.limit]
        others = next(filter(None, watched.watchers.values()), None)
        if others:
            if watched.quota_key is quota_key:
                watched.quota_key = next(iter(others.values()))
                self._quota.transfer(quota_key, watched.quota_key)
        else:
            self._quota.release(watched.quota_key)
            watched.idle_since = trio.current_time()
            self._idle[view.job_set.prefix] = watched

    def notify_end(self, view: SetView, job: str, watcher: SetWatcher) -> None:
        """Calls `watcher.on_job_ended` when this job, which its view no longer shows, has ended."""
        watched = self._sets.get(view.job_set.prefix)
        if watched is not None:
            watched.end_watchers.setdefault(job, {})[watcher] = None

    def cancel_notify_end(self, view: SetView, job: str, watcher: SetWatcher) -> None:
        """Undoes `notify_end`."""
        watched = self._sets.get(view.job_set.prefix)
        watchers = watched.end_watchers.get(job) if watched else None
        if watched is not None and watchers is not None:
            watchers.pop(watcher, None)
            if not watchers:
                del watched.end_watchers[job]

    def deliver(self, events: Iterable[Event]) -> None:
        """Merges events from the feed, or from a read of the broker."""
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
                if watched is not None and self._merge(watched, event, watched.job_set.apply):
                    changed[watched] = None
        for watched in changed:
            self._notify(watched)

    def evict_idle(self) -> None:
        """Drops the sets that have had no watcher for `limits.linger` seconds."""
        before = trio.current_time() - self._limits.linger
        for watched in list(self._idle.values()):
            if watched.idle_since is None or watched.idle_since > before:
                return
            self._drop(watched)

    # Scans of the broker's list.

    def scan_all(self) -> None:
        """Requests a scan of all sets, because the feed may have lost events."""
        self._to_scan |= dict.fromkeys(self._sets.values())
        self._scan_needed.set()

    async def scan_needed(self) -> None:
        """Waits until a set needs a scan."""
        await self._scan_needed.wait()

    def begin_scan(self, *, everything: bool) -> SetScan:
        """Starts a scan of the broker's list, for the sets that need one, or for all sets."""
        sets = list(self._sets.values()) if everything else list(self._to_scan)
        self._to_scan.clear()
        self._scan_needed = trio.Event()
        return SetScan(sets, self)

    def retry_scan(self, scan: SetScan) -> None:
        """Requests another scan of the same sets, because this one could not be completed."""
        self._to_scan |= {each: None for each in scan.sets if self._is_registered(each)}
        self._scan_needed.set()

    def apply_scanned(self, watched: _WatchedSet, event: Event) -> None:
        """Merges an event that a scan has found. Called by `SetScan`."""
        changed = self._merge(watched, event, watched.job_set.apply_scanned)
        if changed and not watched.job_set.loading:
            self._notify(watched)

    def end_scan(self, watched: _WatchedSet, *, more: bool) -> None:
        """Completes the scan of one set. Called by `SetScan`."""
        job_set = watched.job_set
        loading, version, size = job_set.loading, job_set.version, len(job_set)
        job_set.end_scan(more=more)
        if self._is_registered(watched):
            self._jobs += len(job_set) - size
        if loading or job_set.version != version:
            self._notify(watched)

    def _merge(self, watched: _WatchedSet, event: Event, merge: Callable[[Event], bool]) -> bool:
        job_set, job = watched.job_set, event.job
        size = len(job_set)
        changed = merge(event)
        if self._is_registered(watched):
            self._jobs += len(job_set) - size
            if self._jobs > self._limits.total_set_jobs:
                self._evict_from_largest()
        if watched.end_watchers and job in watched.end_watchers and job_set.status(job) in FINAL:
            for watcher in watched.end_watchers.pop(job):
                watcher.on_job_ended(job)
        return changed

    def _notify(self, watched: _WatchedSet) -> None:
        """Notifies the watchers now, or `NOTIFY_INTERVAL` after the last notification."""
        if watched.is_scheduled or watched.job_set.loading:
            return
        not_before = watched.notified_at + NOTIFY_INTERVAL
        if trio.current_time() < not_before:
            watched.is_scheduled = True
            self._timer_wheel.call_at(not_before, watched)
        else:
            watched.notify_watchers()

    def _add(self, prefix: str) -> _WatchedSet:
        if len(self._sets) >= self._limits.max_sets:
            self._drop(next(iter(self._idle.values())))
        watched = self._sets[prefix] = _WatchedSet(
            JobSet(prefix, max_jobs=self._limits.max_set_jobs)
        )
        self._update_lengths()
        self._to_scan[watched] = None
        self._scan_needed.set()
        return watched

    def _drop(self, watched: _WatchedSet) -> None:
        prefix = watched.job_set.prefix
        del self._sets[prefix]
        self._idle.pop(prefix, None)
        self._to_scan.pop(watched, None)
        self._jobs -= len(watched.job_set)
        self._update_lengths()

    def _update_lengths(self) -> None:
        self._lengths = tuple(sorted(Counter(map(len, self._sets))))

    def _is_registered(self, watched: _WatchedSet) -> bool:
        return self._sets.get(watched.job_set.prefix) is watched

    def _evict_from_largest(self) -> None:
        """Drops an eighth of the largest set's jobs, so that this is seldom necessary."""
        largest = max(self._sets.values(), key=lambda watched: len(watched.job_set))
        count = max(1, len(largest.job_set) // 8)
        largest.job_set.evict(count)
        self._jobs -= count
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

    def __init__(self, sets: Sequence[_WatchedSet], registry: SetRegistry) -> None:
        self.sets = sets
        self._registry = registry
        self._unfinished = {watched.job_set.prefix: watched for watched in sets}
        self._lengths = tuple(sorted(Counter(map(len, self._unfinished))))
        self._truncated: set[_WatchedSet] = set()
        for watched in sets:
            watched.job_set.begin_scan()

    def __contains__(self, job: str, /) -> bool:
        return any(job[:length] in self._unfinished for length in self._lengths)

    def __bool__(self) -> bool:
        """Returns whether any set needs more of the list."""
        return bool(self._unfinished)

    def add(self, events: Iterable[Event]) -> None:
        """Merges the next events of the list, which begins with the most recently updated job."""
        for event in events:
            for length in self._lengths:
                watched = self._unfinished.get(event.job[:length])
                if watched is None or length > len(event.job):
                    continue
                if watched.job_set.scan_is_full:
                    self._truncated.add(watched)
                    del self._unfinished[watched.job_set.prefix]
                else:
                    self._registry.apply_scanned(watched, event)

    def end(self) -> None:
        """Completes the scan, after the list was read as far as any set needs it."""
        for watched in self.sets:
            self._registry.end_scan(watched, more=watched in self._truncated)


def _ordered(statuses: Collection[Status]) -> tuple[Status, ...]:
    return tuple(status for status in STATUSES if status in statuses)
