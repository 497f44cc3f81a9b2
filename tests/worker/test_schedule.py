"""What is sent next, without threads and clocks."""

from __future__ import annotations

from math import inf

import pytest

from gateway.worker.outcome import End
from gateway.worker.picture import Picture
from gateway.worker.report import Report
from gateway.worker.schedule import Schedule


def report(job: str, *, ended: bool = False) -> Report:
    made = Report(job, Picture(lease=30.0, parent=None), timeout=10.0)
    if ended:
        made.end(End("succeeded"), now=0.0)
    return made


def order(schedule: Schedule, now: float, *, away: bool = False) -> str:
    """All that are due, as they are taken."""
    taken = ""
    while (found := schedule.next(now, away=away)) is not None and found.due <= now:
        taken += found.job
        found.due = inf
    return taken


@pytest.fixture
def schedule() -> Schedule:
    schedule = Schedule()
    for job, due in (("b", 2.0), ("a", 1.0), ("c", 2.0)):
        schedule.add(report(job), due)
    return schedule


def test_the_longest_due_is_first(schedule: Schedule) -> None:
    found = schedule.next(0.0, away=False)
    assert found is not None
    assert (found.job, found.due) == ("a", 1.0)
    assert order(schedule, 1.0) == "a"
    assert order(schedule, 9.0) == "bc"
    assert schedule.next(9.0, away=False) is None


def test_an_end_that_is_due_goes_before(schedule: Schedule) -> None:
    schedule.add(report("Y", ended=True), 3.0)
    schedule.add(report("X", ended=True), 4.0)
    assert order(schedule, 2.0) == "abc"
    schedule.add(report("d"), 2.0)
    assert order(schedule, 5.0) == "YXd"


def test_while_it_is_away_all_take_turns(schedule: Schedule) -> None:
    schedule.add(report("X", ended=True), 1.5)
    assert order(schedule, 5.0, away=True) == "aXbc"


def test_an_end_that_is_overdue_takes_its_turn(schedule: Schedule) -> None:
    late = report("X", ended=True)
    late.overdue = True
    schedule.add(late, 1.5)
    assert order(schedule, 5.0) == "aXbc"


def test_what_was_said_before_is_void(schedule: Schedule) -> None:
    changed, settled = report("x"), report("y")
    schedule.add(changed, 0.0)
    schedule.add(settled, 0.0)
    schedule.add(changed, 3.0)
    settled.settled = True
    assert order(schedule, 5.0) == "abcx"


def test_it_keeps_little_of_what_is_void(schedule: Schedule) -> None:
    for number in range(10_000):
        passing = report("x", ended=number % 2 == 0)
        schedule.add(passing, inf)
        passing.settled = True
        assert len(schedule) < 100
    assert order(schedule, 5.0) == "abc"
