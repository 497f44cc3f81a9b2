"""The order of reports, without threads and clocks."""

from __future__ import annotations

from math import inf

import pytest

from gateway.worker.final_state import FinalState
from gateway.worker.report import Report
from gateway.worker.send_order import SendOrder
from gateway.worker.snapshot import JobSnapshot


def report(job: str, *, ended: bool = False) -> Report:
    new_report = Report(job, JobSnapshot(lease=30.0), timeout=10.0)
    if ended:
        new_report.set_final_state(FinalState("succeeded"), now=0.0)
    return new_report


def add(send_order: SendOrder, report: Report, due: float) -> None:
    report.due_at = due
    send_order.add(report)


def order(send_order: SendOrder, now: float, *, unavailable: bool = False) -> str:
    """Takes all due reports, in order."""
    names = ""
    while (
        report_due := send_order.next(now, unavailable=unavailable)
    ) is not None and report_due.due_at <= now:
        names += report_due.job
        report_due.due_at = inf
    return names


@pytest.fixture
def send_order() -> SendOrder:
    send_order = SendOrder()
    for job, due in (("b", 2.0), ("a", 1.0), ("c", 2.0)):
        add(send_order, report(job), due)
    return send_order


def test_the_report_that_is_due_longest_comes_first(send_order: SendOrder) -> None:
    report_due = send_order.next(0.0, unavailable=False)
    assert report_due is not None
    assert (report_due.job, report_due.due_at) == ("a", 1.0)
    assert order(send_order, 1.0) == "a"
    assert order(send_order, 9.0) == "bc"
    assert send_order.next(9.0, unavailable=False) is None


def test_a_due_end_comes_first(send_order: SendOrder) -> None:
    add(send_order, report("Y", ended=True), 3.0)
    add(send_order, report("X", ended=True), 4.0)
    assert order(send_order, 2.0) == "abc"
    add(send_order, report("d"), 2.0)
    assert order(send_order, 5.0) == "YXd"


def test_during_an_outage_ends_wait_for_their_turn(send_order: SendOrder) -> None:
    add(send_order, report("X", ended=True), 1.5)
    assert order(send_order, 5.0, unavailable=True) == "aXbc"


def test_an_overdue_end_waits_for_its_turn(send_order: SendOrder) -> None:
    late = report("X", ended=True)
    late.deadline_passed = True
    add(send_order, late, 1.5)
    assert order(send_order, 5.0) == "aXbc"


def test_an_earlier_entry_of_a_report_is_void(send_order: SendOrder) -> None:
    changed, settled = report("x"), report("y")
    add(send_order, changed, 0.0)
    add(send_order, settled, 0.0)
    add(send_order, changed, 3.0)
    settled.close()
    assert order(send_order, 5.0) == "abcx"


def test_void_entries_are_removed(send_order: SendOrder) -> None:
    for number in range(10_000):
        passing = report("x", ended=number % 2 == 0)
        add(send_order, passing, inf)
        passing.close()
        assert len(send_order) < 100
    assert order(send_order, 5.0) == "abc"
