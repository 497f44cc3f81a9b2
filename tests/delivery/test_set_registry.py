"""Which sets count for which client, and when a set drops jobs."""

from __future__ import annotations

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock

from gateway import Limits
from gateway.delivery.job_set import JobSet
from gateway.delivery.quota import QuotaKey
from gateway.delivery.set_registry import SetRegistry
from gateway.delivery.timer_wheel import TimerWheel
from gateway.model.errors import NodeFull
from tests.events import event


class SetSubscriber:
    """A watcher that counts its notifications."""

    def __init__(self) -> None:
        self.notified = 0

    def on_change(self) -> None:
        self.notified += 1

    def on_job_ended(self, job: str) -> None:
        pass


def open_sets(limits: Limits) -> SetRegistry:
    return SetRegistry(limits, timer_wheel=TimerWheel(), clock=lambda: 1.0)


def test_an_older_event_does_not_change_a_set() -> None:
    """An older event may come from the feed, or from a scan of the broker's list."""
    jobs = JobSet("a:", max_jobs=9)
    newest = event("a:1", 3)
    jobs.apply(replace(newest, state=replace(newest.state, status="succeeded")))
    jobs.begin_scan()
    version = jobs.version
    assert not jobs.apply(event("a:1", 2))
    assert not jobs.apply_scanned(event("a:1", 1))
    jobs.end_scan(more=False)
    assert (jobs.status("a:1"), jobs.version) == ("succeeded", version)


@pytest.mark.parametrize("scanning", [True, False])
def test_the_jobs_that_were_updated_longest_ago_leave_a_full_set(scanning: bool) -> None:
    jobs = JobSet("a:", max_jobs=2)
    jobs.begin_scan()
    if not scanning:
        jobs.end_scan(more=False)
    for job, seq in (("a:1", 1), ("a:2", 1), ("a:1", 2), ("a:3", 1)):
        newest = event(job, seq)
        jobs.apply(replace(newest, state=replace(newest.state, updated_at=float(seq))))
    if scanning:
        jobs.end_scan(more=False)
    assert (jobs.status("a:1"), jobs.status("a:2"), len(jobs)) == ("running", None, 2)


async def test_changes_within_an_interval_are_one_notification(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    timer_wheel = TimerWheel()
    nursery.start_soon(timer_wheel.run)
    sets = SetRegistry(Limits(), timer_wheel=timer_wheel, clock=lambda: 1.0)
    watcher = SetSubscriber()
    sets.watch("a:", watcher, statuses=["running"], limit=1)
    sets.begin_scan(everything=True).end()
    await trio.sleep(1)
    before = watcher.notified
    for number in range(5):
        sets.deliver([event(f"a:{number}", 1)])
    assert (watcher.notified - before, repr(timer_wheel)) == (1, "<TimerWheel, 1 waiting>")
    await trio.sleep(1)
    assert (watcher.notified - before, repr(timer_wheel)) == (2, "<TimerWheel, 0 waiting>")


async def test_a_watcher_that_leaves_a_set_of_another_owner_frees_nothing(
    autojump_clock: MockClock,
) -> None:
    sets = open_sets(Limits(max_sets_per_address=1))
    first_key, second_key = QuotaKey("192.0.2.1", None), QuotaKey("192.0.2.2", None)
    sets.watch("a:", SetSubscriber(), statuses=["running"], limit=1, quota_key=first_key)
    leaving = SetSubscriber()
    view = sets.watch("a:", leaving, statuses=["running"], limit=1, quota_key=second_key)
    sets.unwatch(view, leaving)
    sets.watch("b:", SetSubscriber(), statuses=["running"], limit=1, quota_key=second_key)
    for quota_key, prefix in ((first_key, "c:"), (second_key, "d:")):
        with pytest.raises(NodeFull):
            sets.watch(prefix, SetSubscriber(), statuses=["running"], limit=1, quota_key=quota_key)


async def test_a_set_that_is_watched_again_counts_again(autojump_clock: MockClock) -> None:
    sets = open_sets(Limits(max_sets=1))
    for _ in range(2):
        watcher = SetSubscriber()
        view = sets.watch("a:", watcher, statuses=["running"], limit=1)
        sets.unwatch(view, watcher)
    sets.watch("a:", SetSubscriber(), statuses=["running"], limit=1)
    with pytest.raises(NodeFull):
        sets.watch("b:", SetSubscriber(), statuses=["running"], limit=1)


async def test_all_sets_together_keep_as_many_jobs_as_the_limit(autojump_clock: MockClock) -> None:
    sets = open_sets(Limits(total_set_jobs=3))
    sets.watch("a:", SetSubscriber(), statuses=["running"], limit=1)
    sets.deliver([event(f"a:{number}", 1) for number in range(3)])
    assert sets.statistics().jobs == 3
    sets.deliver([event("a:3", 1)])
    assert sets.statistics().jobs == 3


async def test_the_watchers_of_a_set_are_notified_when_its_jobs_are_evicted(
    autojump_clock: MockClock,
) -> None:
    sets = open_sets(Limits(total_set_jobs=3))
    watcher = SetSubscriber()
    sets.watch("a:", watcher, statuses=["running"], limit=1)
    sets.watch("b:", SetSubscriber(), statuses=["running"], limit=1)
    sets.begin_scan(everything=True).end()
    await trio.sleep(1)
    sets.deliver([event(f"a:{number}", 1) for number in range(3)])
    await trio.sleep(1)
    before = watcher.notified
    sets.deliver([event("b:1", 1)])  # one more than all sets together may have
    assert watcher.notified == before + 1


@pytest.mark.parametrize("scanning", [True, False])
async def test_a_dropped_set_is_not_scanned(scanning: bool, autojump_clock: MockClock) -> None:
    """A dropped set may have waited for its first scan, or for another scan after a failed one."""
    limits = Limits()
    sets = open_sets(limits)
    watcher = SetSubscriber()
    view = sets.watch("a:", watcher, statuses=["running"], limit=1)
    scan = sets.begin_scan(everything=False) if scanning else None
    sets.unwatch(view, watcher)
    await trio.sleep(limits.linger)
    sets.evict_idle()
    if scan is not None:
        sets.retry_scan(scan)
    assert sets.statistics().sets == 0
    assert sets.begin_scan(everything=False).sets == []
