"""The times of updates, on the test's clock: no thread, no network."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from gateway.worker.announcement_queue import Announcement
from gateway.worker.final_state import FinalState
from gateway.worker.limits import (
    MAX_REQUEST_BYTES,
    MAX_UPDATES_PER_REQUEST,
    MAX_UPDATES_PER_SECOND,
    RENEWALS_PER_LEASE,
)
from gateway.worker.publisher import Outcome, PublishResult, Rejected, Unreachable
from gateway.worker.report import Report
from gateway.worker.send_queue import Item, LogLine, SendQueue
from gateway.worker.snapshot import JobSnapshot

GOOD = PublishResult(1, True)


def report(job: str, *, lease: float = 30.0) -> Report:
    return Report(job, JobSnapshot(lease=lease), timeout=10.0)


class World:
    """A queue and a gateway that is `round_trip` seconds away."""

    def __init__(self, *, round_trip: float = 0.1) -> None:
        self.now = 0.0
        self.queue = SendQueue()
        self.round_trip = round_trip
        self.requests: list[tuple[float, list[Item]]] = []
        self.received: dict[str, float] = {}
        self.log: list[LogLine] = []
        self.answer: Callable[[Item], Outcome] = lambda item: GOOD

    def step(self) -> bool:
        """Makes one request; returns False if nothing will ever be due."""
        while not (items := self.queue.next_items(self.now)):
            at = self.queue.next_request_at(self.now)
            if at is None:
                return False
            self.now = max(self.now, at)
        self.now += self.round_trip
        self.requests.append((self.now, items))
        outcomes = [self.answer(item) for item in items]
        for item, outcome in zip(items, outcomes, strict=True):
            if isinstance(outcome, PublishResult):
                self.received[item.job] = self.now
        self.log += self.queue.handle_outcomes(items, outcomes, now=self.now, random=0.5)
        return True

    def run(self, until: float) -> None:
        while self.now < until and self.step():
            pass


def completed_report(job: str, *, run: str | None = None) -> Report:
    """Returns a report of a job that is at 100 %."""
    new_report = Report(job, JobSnapshot(lease=30.0), timeout=10.0, run=run)
    segment = new_report.snapshot.phase.segment
    segment.count_without_loops = segment.total = 4
    new_report.snapshot.message = "four"
    return new_report


def test_a_deleted_job_is_reported_at_its_next_renewal() -> None:
    world = World()
    new_report = report("a")
    world.queue.mark_changed(new_report, 0.0)
    world.run(until=5.0)
    new_report.abandon()
    world.run(until=1_000.0)
    (item,) = world.requests[-1][1]
    assert world.requests[-1][0] < 31.0
    assert item.fields["message"] == "its Job object was deleted, and the job was not ended"
    assert item.fields["lease"] == 1.0
    assert new_report.closed
    assert [line.text for line in world.log] == [f"not ended: {item.fields['message']}"]


def test_a_job_that_stays_at_100_percent_is_reported_until_it_is_touched() -> None:
    world = World()
    new_report = completed_report("a")
    world.queue.mark_changed(new_report, 0.0)
    world.run(until=1_000.0)
    at, (item,) = world.requests[-1]
    assert 300.0 <= at < 312.0
    assert item.fields["message"] == "four (it is at 100 %, and was not ended)"
    new_report.snapshot.message = None
    world.queue.mark_changed(new_report, world.now)
    world.step()
    assert world.requests[-1][1][0].fields["message"] is None
    assert world.requests[-1][1][0].fields["lease"] == 30.0
    new_report.set_final_state(FinalState("succeeded"), now=world.now)
    world.queue.mark_changed(new_report, world.now)
    world.run(until=2_000.0)
    assert new_report.delivered


@pytest.mark.parametrize("why", ["block", "run", "fork", "group"])
def test_a_job_that_may_still_be_ended_is_renewed(why: str) -> None:
    world = World()
    new_report = completed_report("a", run="r1" if why == "run" else None)
    if why == "block":
        new_report.in_block = True
    elif why == "fork":
        new_report.before_fork()
    elif why == "group":
        new_report.snapshot.children = None
    world.queue.mark_changed(new_report, 0.0)
    world.run(until=1_000.0)
    assert world.now >= 1_000.0
    assert {item.fields["message"] for _, items in world.requests for item in items} == {"four"}


def test_a_thousand_jobs_at_100_ms_are_renewed_in_time() -> None:
    world = World()
    reports = [report(f"job{i}") for i in range(1_000)]
    for waiting_report in reports:
        world.queue.mark_changed(waiting_report, 0.0)
    world.run(3.0)
    assert len(world.received) == 1_000
    for second in range(3, 120):
        for waiting_report in reports[::7]:
            world.queue.mark_changed(waiting_report, world.now)
        world.run(float(second))
        assert world.now - min(world.received.values()) < 30.0 * (1 + 1 / RENEWALS_PER_LEASE) / 2


def test_ten_thousand_ends_use_the_minimum_of_requests() -> None:
    world = World(round_trip=0.001)
    for i in range(10_000):
        new_report = report(f"job{i}")
        new_report.set_final_state(FinalState("succeeded"), now=0.0)
        world.queue.mark_changed(new_report, 0.0)
    while world.queue.reports:
        world.step()
    assert len(world.requests) == 10_000 // MAX_UPDATES_PER_REQUEST
    assert world.now < 1.0


def test_many_busy_jobs_share_the_rate_limit() -> None:
    world = World(round_trip=0.0)
    reports = [report(f"job{i}") for i in range(1_000)]
    sent_count = 0
    while world.now < 10.0:
        for one in reports:
            world.queue.mark_changed(one, world.now)
        world.step()
        sent_count += len(world.requests[-1][1])
    assert sent_count <= 10 * MAX_UPDATES_PER_SECOND + MAX_UPDATES_PER_REQUEST
    assert len(world.received) == 1_000


def test_an_end_does_not_wait_for_the_rate_limit() -> None:
    world = World(round_trip=0.0)
    for number in range(MAX_UPDATES_PER_REQUEST):
        world.queue.mark_changed(report(f"job{number}"), 0.0)
    world.step()
    running, ended_report = report("running"), report("ended")
    ended_report.set_final_state(FinalState("succeeded"), now=0.0)
    for added in (running, ended_report):
        world.queue.mark_changed(added, 0.0)
    assert world.queue.next_request_at(0.0) == 0.0
    assert [item.job for item in world.queue.next_items(0.0)] == ["ended"]
    ended_report.close()
    assert world.queue.next_request_at(0.0) == MAX_UPDATES_PER_REQUEST / MAX_UPDATES_PER_SECOND
    assert [
        item.job
        for item in world.queue.next_items(MAX_UPDATES_PER_REQUEST / MAX_UPDATES_PER_SECOND)
    ] == ["running"]


def test_a_job_that_fails_every_request_does_not_delay_others() -> None:
    world = World()
    for name in ("good0", "bad", "good1", "good2"):
        world.queue.mark_changed(report(name), 0.0)
    items: list[list[Item]] = []

    while world.now < 20.0 and len(world.received) < 3:
        next_items = world.queue.next_items(world.now)
        if not next_items:
            at = world.queue.next_request_at(world.now)
            assert at is not None
            world.now = max(world.now, at)
            continue
        items.append(next_items)
        fails = any(item.job == "bad" for item in next_items)
        outcome: Outcome = Unreachable("500") if fails else GOOD
        world.received |= {} if fails else {item.job: world.now for item in next_items}
        world.queue.handle_outcomes(
            next_items, [outcome] * len(next_items), now=world.now, random=0.5
        )
    assert set(world.received) == {"good0", "good1", "good2"}


def test_a_job_without_an_answer_is_retried_alone() -> None:
    world = World()
    world.answer = lambda item: Unreachable("503") if item.job == "bad" else GOOD
    bad, good = report("bad"), report("good")
    world.queue.mark_changed(bad, 0.0)
    world.queue.mark_changed(good, 0.0)
    world.step()
    assert not world.queue.outage.failures
    world.queue.mark_changed(good, world.now)
    world.step()
    assert [item.job for item in world.requests[-1][1]] == ["good"]
    world.answer = lambda item: GOOD
    world.run(3.0)
    assert bad.attempt == 1


def test_retry_after_delays_the_next_request() -> None:
    world = World(round_trip=0.0)
    world.answer = lambda item: Unreachable("429", retry_after=7.0)
    world.queue.mark_changed(report("job"), 0.0)
    world.step()
    at = world.queue.next_request_at(world.now)
    assert at is not None
    assert at >= 7.0


def test_a_released_report_sends_its_state_once() -> None:
    world = World()
    new_report = report("job")
    new_report.snapshot.phase.segment.count_without_loops = 50
    world.queue.mark_changed(new_report, 0.0)
    world.queue.release(new_report, 0.0)
    new_report.snapshot.phase.segment.count_without_loops = 50
    world.run(60.0)
    ((_, (item,)),) = world.requests
    assert (item.fields["done"], item.fields["status"]) == (50, "running")
    assert world.queue.empty
    world.queue.mark_changed(new_report, world.now)
    assert not world.queue.next_items(world.now)


@pytest.mark.parametrize("answer", [Unreachable("gone"), Rejected("403 no")])
def test_a_released_report_is_dropped_after_its_deadline(answer: Outcome) -> None:
    world = World()
    world.answer = lambda item: answer
    new_report = report("job")
    world.queue.mark_changed(new_report, 0.0)
    world.queue.release(new_report, 0.0)
    world.run(60.0)
    assert new_report.closed
    assert world.queue.empty


def test_an_announcement_waits_for_a_released_report_of_the_same_job() -> None:
    world = World()
    new_report = report("job")
    world.queue.mark_changed(new_report, 0.0)
    world.queue.release(new_report, 0.0)
    fields: dict[str, Any] = {"status": "queued", "start": True, "run": "next"}
    world.queue.announce(Announcement("job", fields, expires=60.0))
    world.run(5.0)
    sent = [item.fields.get("run") for _, items in world.requests for item in items]
    assert sent == [new_report.run, "next"]


def test_a_try_that_is_continued_by_the_next_one_is_not_logged() -> None:
    """A retry of a job in the same process begins the next attempt at once."""
    world = World()
    first_report, second_report = report("job"), report("job")
    world.queue.mark_changed(first_report, 0.0)
    world.queue.release(first_report, 0.0)
    assert world.queue.mark_changed(second_report, 0.0) == []
    assert (first_report.superseded, second_report.superseded) == (True, False)
    left_report = report("other")
    world.queue.mark_changed(left_report, 0.0)
    world.queue.release(left_report, 0.0)
    world.answer = lambda item: PublishResult(2, False, reason="stale_attempt")
    world.run(1.0)
    assert left_report.superseded
    assert [line.subject for line in world.log] == [second_report]


def test_a_thousand_jobs_that_accept_requests_listen_with_less_than_one_request_per_second() -> (
    None
):
    """Each job is renewed so often that its worker receives a job request within two seconds."""
    world = World(round_trip=0.3)
    for number in range(1_000):
        new_report = report(f"job{number}")
        new_report.snapshot.accepts = ("cancel",)
        new_report.snapshot.message = f"part {number}"
        world.queue.mark_changed(new_report, 0.0)
    world.answer = lambda item: PublishResult(1, False, "unchanged", epoch=7, seq=1)
    world.run(until=10.0)
    before, since = len(world.requests), world.now
    oldest = 0.0
    while world.now < 70.0:
        began = min(world.received.values())
        world.step()
        oldest = max(oldest, world.now - began)
    assert oldest < 2.0
    requests = world.requests[before:]
    assert len(requests) <= world.now - since
    # At most one HTTP request for each, but for those with all snapshots, once per 10 s.
    small = [items for _, items in requests if not any("status" in item.fields for item in items)]
    assert len(small) >= 0.7 * len(requests)
    sizes = [sum(len(json.dumps({"job": i.job} | i.fields)) + 1 for i in s) for s in small]
    assert max(sizes) < MAX_REQUEST_BYTES
