"""Phases and percentages, in the fields of a request. Nothing is sent."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.worker import Job
from gateway.worker.phases import PhaseRecord, Segment


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch) -> Job:
    return silent_job()


def silent_job(**arguments: Any) -> Job:
    """Returns a job that reports nothing."""
    job = Job("job", url="http://127.0.0.1:9", **arguments)
    job._report.close()
    return job


def displayed_fields(job: Job) -> tuple[Any, ...]:
    fields = job._snapshot.fields()
    return tuple(fields.get(name) for name in ("percent", "phase", "done", "total", "unit"))


def test_there_is_no_percentage_without_counts(job: Job) -> None:
    assert displayed_fields(job) == (None, None, None, None, None)
    job.advance(5)
    assert displayed_fields(job) == (None, None, 5, None, None)


def test_percent_comes_from_counts(job: Job) -> None:
    job.update(done=1, total=3)
    assert displayed_fields(job) == (33.33, None, 1, 3, None)


def test_percent_is_clamped_and_never_falls(job: Job) -> None:
    job.update(percent=-5)
    assert displayed_fields(job)[0] == 0
    job.update(percent=40)
    job.update(percent=30)
    assert displayed_fields(job)[0] == 40
    job.update(percent=170)
    assert displayed_fields(job)[0] == 100


def test_a_growing_total_does_not_lower_the_percentage(job: Job) -> None:
    job.update(done=5, total=10)
    assert displayed_fields(job)[0] == 50
    job.update(total=100)
    assert displayed_fields(job)[0] == 50


def test_phases_fill_their_shares(job: Job) -> None:
    with job.phase("hash", share=0.3, total=10, unit="files") as same:
        assert same is job
        assert displayed_fields(job) == (0, "hash", None, 10, "files")
        job.advance(5)
        assert displayed_fields(job) == (15, "hash", 5, 10, "files")
    assert displayed_fields(job) == (30, None, None, None, None)
    with job.phase("pack", share=0.5):
        assert displayed_fields(job)[:2] == (30, "pack")
        job.update(percent=50)
        assert displayed_fields(job)[0] == 55
    with job.phase("rest", total=4):
        job.advance(2)
        assert displayed_fields(job)[0] == 90
    assert displayed_fields(job)[0] == 100


def test_a_phase_without_a_block_ends_with_the_next(job: Job) -> None:
    job.phase("a", share=0.25, total=4)
    job.advance(4)
    job.phase("b", share=0.75, total=2, message="now b")
    job.advance()
    assert displayed_fields(job) == (62.5, "b", 1, 2, None)
    assert job._snapshot.message == "now b"


def test_a_phase_without_share_and_total_continues_the_counts() -> None:
    job = silent_job(total=10, unit="rows")
    job.advance(2)
    with job.phase("read"):
        job.advance(2)
        assert displayed_fields(job) == (40, "read", 4, 10, "rows")
    assert displayed_fields(job) == (40, None, 4, 10, "rows")
    job.phase("write", unit="lines")
    assert displayed_fields(job) == (40, "write", 4, 10, "lines")
    job.update(phase="close")
    assert displayed_fields(job)[1] == "close"


def test_nested_phases_fill_the_phase_around_them(job: Job) -> None:
    with job.phase("outer", share=0.5):
        with job.phase("inner", share=0.5, total=2):
            job.advance()
            assert displayed_fields(job) == (12.5, "inner", 1, 2, None)
        assert displayed_fields(job)[:2] == (25, "outer")
        job.phase("plain", share=0.25)
        assert displayed_fields(job)[:2] == (25, "plain")
    assert displayed_fields(job)[:2] == (50, None)


def test_an_exception_leaves_the_job_in_its_phase(job: Job) -> None:
    with (  # noqa: PT012 - the block is what is tested
        pytest.raises(ZeroDivisionError),
        job.phase("a", share=0.5, total=4),
    ):
        job.advance()
        job.advance(1 // 0)
    assert displayed_fields(job) == (12.5, "a", 1, 4, None)
    job.phase("b", share=0.5)
    assert displayed_fields(job)[:2] == (50, "b")


def test_a_phase_ended_by_its_successor_ends_only_once(job: Job) -> None:
    first = job.phase("a", share=0.5)
    job.phase("b", share=0.25)
    with first:
        pass
    assert displayed_fields(job)[:2] == (50, "b")


def test_a_phase_without_a_share_left_is_logged(job: Job, caplog: pytest.LogCaptureFixture) -> None:
    job.phase("a", total=2)
    job.phase("b", total=2)
    assert [r.message for r in caplog.records] == [
        "job job: phase b gets no share, because the earlier phases have used it"
    ]
    assert caplog.records[0].levelno == logging.WARNING
    with job.phase("c", share=0):  # says so itself
        job.advance()
    assert len(caplog.records) == 1
    with job.phase("d", share=0), job.phase("e", share=0):
        pass


def test_shares_above_one_are_cut(job: Job) -> None:
    job.phase("a", share=0.7)
    with job.phase("b", share=0.7, total=2):
        job.advance()
        assert displayed_fields(job)[0] == 85
    assert displayed_fields(job)[0] == 100


def test_a_cleared_field_is_sent_as_null(job: Job) -> None:
    job.update(message="m", data={"a": 1})
    assert job._snapshot.fields()["message"] == "m"
    job.update(message=None, data=None)
    fields = job._snapshot.fields()
    assert fields["message"] is None
    assert fields["data"] is None
    assert "error" not in fields


def test_after_the_end_nothing_changes(job: Job) -> None:
    with job.phase("a", share=0.5, total=2):
        job.advance()
        job.fail("broken")
        before = job._snapshot.fields()
        job.update(done=2, message="late", percent=99)
        job.advance()
        job.succeed()
        with job.phase("b", share=0.5):
            pass
    assert job._snapshot.fields() == before
    assert before["status"] == "failed"
    assert before["error"] == "broken"
    assert before["percent"] == 25


def test_the_first_stage_cannot_be_ended() -> None:
    whole = PhaseRecord(None, Segment())
    assert whole.in_block
    assert whole.end() is whole


def test_success_is_100_percent(job: Job) -> None:
    job.update(done=1, total=2)
    job.succeed("fine")
    assert displayed_fields(job)[:1] == (100,)


NUMBER = st.integers(0, 20) | st.floats(0, 20)
STEPS = st.one_of(
    st.tuples(st.just("done"), NUMBER),
    st.tuples(st.just("total"), st.none() | NUMBER),
    st.tuples(st.just("percent"), st.floats(-10, 120)),
    st.tuples(st.just("advance"), NUMBER),
    st.tuples(st.just("phase"), st.tuples(st.none() | st.floats(0, 1), st.none() | NUMBER)),
    st.tuples(st.just("enter"), st.tuples(st.none() | st.floats(0, 1), st.none() | NUMBER)),
    st.tuples(st.just("leave"), st.booleans()),
    st.tuples(st.just("send"), st.none()),
)


@given(steps=st.lists(STEPS, max_size=40))
def test_the_percentage_never_falls(steps: list[tuple[str, Any]]) -> None:
    job, percents, last_percent = silent_job(), [], 0.0
    logging.getLogger("gateway.worker").disabled = True
    try:
        for what, value in steps:
            if what in ("done", "total", "percent"):
                job.update(**{what: value})
            elif what == "advance":
                job.advance(value)
            elif what == "phase":
                job.phase("p", share=value[0], total=value[1])
            elif what == "enter":
                phase = job.phase("p", share=value[0], total=value[1])
                phase.__enter__()
                percents.append(phase)
            elif what == "leave" and percents:
                error = ValueError() if value else None
                percents.pop().__exit__(None, error, None)
            elif what == "send":
                percent = job._snapshot.fields().get("percent", 0.0)
                assert last_percent <= percent <= 100
                last_percent = percent
    finally:
        logging.getLogger("gateway.worker").disabled = False
    # Not only because of the maximum: the segments themselves are in order.
    segment = job._snapshot.phase.segment
    while segment.outer is not None:
        assert segment.outer.low <= segment.low <= segment.high <= segment.outer.high
        segment = segment.outer
