"""The order of reports, without threads and clocks."""

from __future__ import annotations

from math import inf

import pytest

from gateway.worker.final_state import FinalState
from gateway.worker.report import Report
from gateway.worker.schedule import Schedule
from gateway.worker.snapshot import JobSnapshot


def report(job: str, *, ended: bool = False) -> Report:
    made = Report(job, JobSnapshot(lease=30.0), timeout=10.0)
    if ended:
        made.set_final_state(FinalState("succeeded"), now=0.0)
    return made


def add(schedule: Schedule, report: Report, due: float) -> None:
    report.due_at = due
    schedule.add(report)


def order(schedule: Schedule, now: float, *, unavailable: bool = False) -> str:
    """Take all due reports, in order."""
    taken = ""
    while (
        found := schedule.next(now, unavailable=unavailable)
    ) is not None and found.due_at <= now:
        taken += found.job
        found.due_at = inf
    return taken


@pytest.fixture
def schedule() -> Schedule:
    schedule = Schedule()
    for job, due in (("b", 2.0), ("a", 1.0), ("c", 2.0)):
        add(schedule, report(job), due)
    return schedule


def test_the_report_that_is_due_longest_comes_first(schedule: Schedule) -> None:
    found = schedule.next(0.0, unavailable=False)
    assert found is not None
    assert (found.job, found.due_at) == ("a", 1.0)
    assert order(schedule, 1.0) == "a"
    assert order(schedule, 9.0) == "bc"
    assert schedule.next(9.0, unavailable=False) is None


def test_a_due_end_comes_first(schedule: Schedule) -> None:
    add(schedule, report("Y", ended=True), 3.0)
    add(schedule, report("X", ended=True), 4.0)
    assert order(schedule, 2.0) == "abc"
    add(schedule, report("d"), 2.0)
    assert order(schedule, 5.0) == "YXd"


def test_during_an_outage_ends_wait_for_their_turn(schedule: Schedule) -> None:
    add(schedule, report("X", ended=True), 1.5)
    assert order(schedule, 5.0, unavailable=True) == "aXbc"


def test_an_overdue_end_waits_for_its_turn(schedule: Schedule) -> None:
    late = report("X", ended=True)
    late.deadline_passed = True
    add(schedule, late, 1.5)
    assert order(schedule, 5.0) == "aXbc"


def test_an_earlier_entry_of_a_report_is_void(schedule: Schedule) -> None:
    changed, settled = report("x"), report("y")
    add(schedule, changed, 0.0)
    add(schedule, settled, 0.0)
    add(schedule, changed, 3.0)
    settled.close()
    assert order(schedule, 5.0) == "abcx"


def test_void_entries_are_removed(schedule: Schedule) -> None:
    for number in range(10_000):
        passing = report("x", ended=number % 2 == 0)
        add(schedule, passing, inf)
        passing.close()
        assert len(schedule) < 100
    assert order(schedule, 5.0) == "abc"
