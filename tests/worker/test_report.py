"""The life of a report, without threads and clocks."""

from __future__ import annotations

from itertools import pairwise

import pytest

from gateway.worker.final_state import FinalState
from gateway.worker.limits import UPDATE_INTERVAL
from gateway.worker.publisher import PublishResult, Rejected
from gateway.worker.report import Report
from gateway.worker.snapshot import JobSnapshot

FAILED = FinalState("failed", "E: x")


@pytest.fixture
def report() -> Report:
    return Report("job", JobSnapshot(lease=30.0), timeout=10.0)


def test_start_is_sent_until_the_attempt_is_known(report: Report) -> None:
    first_update = report.take_updates(1.0)[-1]
    assert first_update == {"status": "running", "lease": 30.0, "start": True, "run": report.run}
    assert report.on_unreachable(first_update, "gone", now=1.1, retry_at=99.0) is None
    second_update = report.take_updates(1.2)[-1]
    assert second_update == first_update
    assert report.on_result(second_update, PublishResult(4, True)) is None
    known = {"status": "running", "lease": 30.0, "attempt": 4, "run": report.run}
    assert report.take_updates(1.3)[-1] == known


def test_an_attempt_older_than_a_second_has_an_age(report: Report) -> None:
    report.mark_changed(5.0)
    assert "age" not in report.take_updates(5.9)[-1]
    request = report.take_updates(67.25)[-1]
    assert request["age"] == 62.2
    report.on_rejected(request, Rejected("400 no field", field="age"), now=67.3)
    assert "age" not in report.take_updates(68.0)[-1]


def test_another_run_supersedes_the_report(report: Report) -> None:
    said = report.on_result(report.take_updates(1.0)[-1], PublishResult(7, False, "other_run"))
    assert said == "superseded by attempt 7; its updates are ignored from now on"
    assert report.superseded


def due(report: Report, now: float) -> float:
    """Returns when a change that is made `now` is to be sent."""
    assert report.mark_changed(now)
    return report.due_at


def test_updates_are_sent_at_a_limited_rate(report: Report) -> None:
    assert due(report, 5.0) == 5.0
    report.take_updates(5.0)
    assert due(report, 5.01) == 5.05
    assert not report.mark_changed(5.02)
    report.take_updates(5.05)
    assert due(report, 7.0) == 7.0
    report.on_rejected(report.take_updates(7.0)[-1], Rejected("401 no"), now=7.1)
    assert due(report, 7.5) == 17.0
    report.on_result(report.take_updates(17.0)[-1], PublishResult(1, True))
    assert report.due_at == 27.0
    assert due(report, 17.01) == 17.05
    report.set_final_state(FAILED, now=17.02)
    assert due(report, 17.02) == 17.02


def test_a_delivered_end_settles_the_report(report: Report) -> None:
    report.set_final_state(FAILED, now=1.0)
    report.set_final_state(FinalState("succeeded"), now=2.0)
    request = report.take_updates(3.0)[-1]
    assert (request["status"], request["error"]) == ("failed", "E: x")
    assert report.on_result(request, PublishResult(1, True)) is None
    assert report.closed
    assert report.delivered


def test_a_stale_attempt_supersedes_the_report(report: Report) -> None:
    said = report.on_result(report.take_updates(1.0)[-1], PublishResult(7, False, "stale_attempt"))
    assert said == "superseded by attempt 7; its updates are ignored from now on"
    assert report.closed
    assert report.superseded
    assert report.attempt is None


def test_a_final_state_of_another_process_settles_the_report(report: Report) -> None:
    said = report.on_result(report.take_updates(1.0)[-1], PublishResult(1, False, "final"))
    assert said == "the job was ended by another process; updates of this process are ignored"
    assert report.closed
    assert not report.delivered


def test_a_group_is_ended_by_its_children(report: Report) -> None:
    report.snapshot.children = 2
    said = report.on_result(report.take_updates(1.0)[-1], PublishResult(1, False, "final"))
    assert said == "the job was ended by its children; updates of this process are ignored"


def test_final_after_a_repeated_end_counts_as_delivered(report: Report) -> None:
    report.set_final_state(FAILED, now=1.0)
    report.on_unreachable(report.take_updates(1.0)[-1], "reset", now=1.1, retry_at=99.0)
    assert report.on_result(report.take_updates(1.2)[-1], PublishResult(1, False, "final")) is None
    assert report.delivered


def test_final_after_a_first_end_is_another_processs(report: Report) -> None:
    report.set_final_state(FAILED, now=1.0)
    assert (
        report.on_result(report.take_updates(1.2)[-1], PublishResult(1, False, "final")) is not None
    )
    assert report.closed
    assert not report.delivered


def test_a_rejected_field_is_omitted_until_it_changes(report: Report) -> None:
    report.snapshot.message = "bad"
    request = report.take_updates(1.0)[-1]
    error = Rejected("422 message: no", field="message")
    assert report.on_rejected(request, error, now=9.0) == (
        "the gateway rejects its message, which is no longer sent: 422 message: no"
    )
    assert "message" not in report.take_updates(2.0)[-1]
    report.snapshot.message = "worse"
    request = report.take_updates(3.0)[-1]
    assert request["message"] == "worse"
    assert report.on_rejected(request, error, now=9.0) is None
    assert "message" not in report.take_updates(4.0)[-1]


@pytest.mark.parametrize("field", [None, "status", "job"])
def test_a_wholly_rejected_report_sends_only_renewals(report: Report, field: str | None) -> None:
    request = report.take_updates(1.0)[-1]
    assert report.on_rejected(request, Rejected("404 gone", field=field), now=9.0) == (
        "the gateway rejects its updates: 404 gone"
    )
    assert report.only_renewals
    assert (
        report.on_rejected(report.take_updates(2.0)[-1], Rejected("404 gone", field=field), now=9.0)
        is None
    )
    report.set_final_state(FAILED, now=3.0)
    assert report.on_rejected(
        report.take_updates(3.0)[-1], Rejected("404 gone", field=field), now=9.0
    ) == ("the gateway rejects its final state (failed): 404 gone")
    assert report.closed
    assert not report.delivered


def test_a_late_end_without_an_attempt_is_dropped(report: Report) -> None:
    report.set_final_state(FAILED, now=1.0)
    assert report.expire("refused", now=10.9) is None
    assert report.expire("refused", now=11.0) == (
        "its final state could not be delivered in time (refused)"
    )
    assert report.closed
    assert report.expire("refused", now=12.0) is None


def test_a_late_end_with_an_attempt_is_kept(report: Report) -> None:
    report.on_result(report.take_updates(0.0)[-1], PublishResult(1, True))
    report.set_final_state(FAILED, now=1.0)
    outcome = report.on_unreachable(report.take_updates(11.0)[-1], "reset", now=11.0, retry_at=99.0)
    assert outcome is not None
    assert outcome.endswith("(reset); it is sent later if this process is still running then")
    assert report.deadline_passed
    assert not report.closed
    assert report.on_result(report.take_updates(99.0)[-1], PublishResult(1, True)) is None
    assert report.delivered


def test_an_end_without_a_timeout_is_tried_a_few_times() -> None:
    report = Report("job", JobSnapshot(lease=30.0), timeout=0.0)
    report.set_final_state(FAILED, now=1.0)
    assert report.expire("x", now=2.9) is None
    assert report.expire("x", now=3.0) is not None


UNCHANGED = PublishResult(3, False, "unchanged", epoch=7, seq=4)
WHOLE = {"status", "lease", "accepts", "run", "attempt", "age"}


@pytest.fixture
def listening(report: Report) -> Report:
    """A report of a job that accepts requests, whose whole snapshot was received at 100 s."""
    report.snapshot.accepts = ("cancel",)
    report.mark_changed(90.0)
    report.on_result(report.take_updates(100.0)[-1], UNCHANGED)
    return report


def test_a_job_that_accepts_requests_is_renewed_by_its_identity(listening: Report) -> None:
    """The full snapshot is still sent as often as the lease needs it."""
    full_updates = []
    while listening.due_at < 131.0:
        (fields,) = listening.take_updates(now := listening.due_at)
        if "status" in fields:
            full_updates.append(now)
        else:
            assert fields == {"run": listening.run, "attempt": 3, "age": round(now - 90.0, 1)}
        listening.on_result(fields, UNCHANGED)
    assert [after - before for before, after in pairwise([100.0, *full_updates])] == [
        pytest.approx(9.0, abs=1.5)
    ] * len(full_updates)
    assert len(full_updates) >= 3


@pytest.mark.parametrize(
    "result",
    [
        PublishResult(3, True, epoch=7, seq=5),  # it was stalled, or its attempt unknown
        PublishResult(3, False, "unchanged", epoch=8, seq=4),
        PublishResult(3, False, "unchanged", epoch=7, seq=3),
    ],
)
def test_a_renewal_that_shows_a_loss_is_followed_by_the_snapshot(
    listening: Report, result: PublishResult
) -> None:
    fields = listening.take_updates(listening.due_at)[-1]
    assert "status" not in fields
    assert listening.on_result(fields, result) is None
    assert listening.due_at <= listening.sent_at + UPDATE_INTERVAL
    assert listening.take_updates(listening.due_at)[-1].keys() == WHOLE


def test_a_renewal_of_a_job_that_the_gateway_does_not_know_is_followed_by_the_snapshot(
    listening: Report,
) -> None:
    fields = listening.take_updates(listening.due_at)[-1]
    unknown = Rejected("404 the job is unknown")
    assert listening.on_rejected(fields, unknown, now=listening.sent_at + 0.01) is None
    assert listening.due_at <= listening.sent_at + UPDATE_INTERVAL
    assert listening.take_updates(listening.due_at)[-1].keys() == WHOLE


def test_a_renewal_without_an_answer_is_followed_by_the_snapshot(listening: Report) -> None:
    fields = listening.take_updates(listening.due_at)[-1]
    assert listening.on_unreachable(fields, "gone", now=102.0, retry_at=103.0) is None
    assert listening.take_updates(103.0)[-1].keys() == WHOLE


def test_a_snapshot_that_was_rejected_is_not_renewed_by_the_identity(listening: Report) -> None:
    listening.mark_changed(101.0)
    fields = listening.take_updates(101.0)[-1]
    assert listening.on_rejected(fields, Rejected("403 not allowed"), now=101.1)
    assert listening.take_updates(listening.due_at)[-1].keys() == WHOLE


def test_a_job_that_is_left_sends_its_message_with_the_snapshot(listening: Report) -> None:
    listening.snapshot.message = "part 7"
    assert (
        listening.take_unended_updates("deleted", listening.due_at)[-1]["message"]
        == "part 7 (deleted)"
    )
