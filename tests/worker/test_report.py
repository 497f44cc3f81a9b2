"""The life of a report, without threads and clocks."""

from __future__ import annotations

import pytest

from gateway.worker.outcome import End
from gateway.worker.picture import Picture
from gateway.worker.publisher import Receipt, Rejected
from gateway.worker.report import Report

FAILED = End("failed", "E: x")


@pytest.fixture
def report() -> Report:
    return Report("job", Picture(lease=30.0, parent=None), timeout=10.0)


def test_start_until_the_attempt_is_known(report: Report) -> None:
    first = report.request(1.0)
    assert first == {"status": "running", "lease": 30.0, "start": True, "run": report.run}
    assert report.unreachable(first, "gone", now=1.1) is None
    again = report.request(1.2)
    assert again == first
    assert report.answered(again, Receipt(4, True)) is None
    assert report.request(1.3) == {"status": "running", "lease": 30.0, "attempt": 4}


def test_pace(report: Report) -> None:
    assert report.next_due(5.0) == 5.0
    report.request(5.0)
    assert report.next_due(5.01) == 5.05
    assert report.next_due(7.0) == 7.0
    report.rejected(report.request(7.0), Rejected("401 no"))
    assert report.next_due(7.5) == 17.0
    report.answered(report.request(17.0), Receipt(1, True))
    assert report.next_due(17.01) == 17.05
    report.end(FAILED, now=17.02)
    assert report.next_due(17.02) == 17.02


def test_end_delivered(report: Report) -> None:
    report.end(FAILED, now=1.0)
    report.end(End("succeeded"), now=2.0)
    request = report.request(3.0)
    assert (request["status"], request["error"]) == ("failed", "E: x")
    assert report.answered(request, Receipt(1, True)) is None
    assert report.settled
    assert report.delivered


def test_stale(report: Report) -> None:
    said = report.answered(report.request(1.0), Receipt(7, False, "stale_attempt"))
    assert said == "superseded by attempt 7; its updates are ignored from now on"
    assert report.settled
    assert report.superseded
    assert report.attempt is None


def test_final_of_somebody_else(report: Report) -> None:
    said = report.answered(report.request(1.0), Receipt(1, False, "final"))
    assert said == "somebody else has ended it; its updates are ignored"
    assert report.settled
    assert not report.delivered


def test_final_on_a_repeated_end_is_ours(report: Report) -> None:
    report.end(FAILED, now=1.0)
    report.unreachable(report.request(1.0), "reset", now=1.1)
    assert report.answered(report.request(1.2), Receipt(1, False, "final")) is None
    assert report.delivered


def test_final_on_a_first_end_is_not(report: Report) -> None:
    report.end(FAILED, now=1.0)
    assert report.answered(report.request(1.2), Receipt(1, False, "final")) is not None
    assert report.settled
    assert not report.delivered


def test_a_refused_field_is_left_out_until_it_changes(report: Report) -> None:
    report.picture.message = "bad"
    request = report.request(1.0)
    error = Rejected("422 message: no", field="message")
    assert report.rejected(request, error) == (
        "the gateway refuses its message, which is left out: 422 message: no"
    )
    assert "message" not in report.request(2.0)
    report.picture.message = "worse"
    request = report.request(3.0)
    assert request["message"] == "worse"
    assert report.rejected(request, error) is None
    assert "message" not in report.request(4.0)


@pytest.mark.parametrize("field", [None, "status", "job"])
def test_rejected_as_a_whole(report: Report, field: str | None) -> None:
    request = report.request(1.0)
    assert report.rejected(request, Rejected("404 gone", field=field)) == (
        "the gateway rejects its updates: 404 gone"
    )
    assert report.unwelcome
    assert report.rejected(report.request(2.0), Rejected("404 gone", field=field)) is None
    report.end(FAILED, now=3.0)
    assert report.rejected(report.request(3.0), Rejected("404 gone", field=field)) == (
        "the gateway rejects its end (failed): 404 gone"
    )
    assert report.settled
    assert not report.delivered


def test_an_end_without_an_attempt_is_given_up(report: Report) -> None:
    report.end(FAILED, now=1.0)
    assert report.expire("refused", now=10.9) is None
    assert report.expire("refused", now=11.0) == (
        "its end could not be delivered in time (refused)"
    )
    assert report.settled
    assert report.expire("refused", now=12.0) is None


def test_an_end_with_its_attempt_is_kept(report: Report) -> None:
    report.answered(report.request(0.0), Receipt(1, True))
    report.end(FAILED, now=1.0)
    said = report.unreachable(report.request(11.0), "reset", now=11.0)
    assert said is not None
    assert said.endswith("(reset); it is sent later if this process lives that long")
    assert report.overdue
    assert not report.settled
    assert report.answered(report.request(99.0), Receipt(1, True)) is None
    assert report.delivered


def test_an_end_nobody_waits_for_has_a_few_tries() -> None:
    report = Report("job", Picture(lease=30.0, parent=None), timeout=0.0)
    report.end(FAILED, now=1.0)
    assert report.expire("x", now=2.9) is None
    assert report.expire("x", now=3.0) is not None
