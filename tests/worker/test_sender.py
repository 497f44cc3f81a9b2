"""The sender, if the gateway is slow, unavailable, broken or available again."""

from __future__ import annotations

import gc
import logging
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from time import monotonic
from typing import Any

import pytest

from gateway.worker import Job, process_state, report, send_queue, sender
from gateway.worker.publisher import PublishResult, Rejected, Unreachable
from gateway.worker.report import Report

from .fake import FakePublisher, until
from .fake_gateway import DEADLINE, FakeGateway, drop_connection


def log_messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.message for r in caplog.records if r.name == "gateway.worker"]


def test_the_start_is_repeated_until_it_is_answered(fake_gateway: FakeGateway) -> None:
    fake_gateway.answers.extend([drop_connection, drop_connection])
    with Job("job") as job:
        until(job, lambda: job.attempt)
    starts = [g.fields for g in fake_gateway.received if "start" in g.fields]
    assert len(starts) == 3
    assert len({s["run"] for s in starts}) == 1
    assert fake_gateway.attempts["job"][0] == 1


def test_a_repeated_end_that_is_final_counts_as_delivered(fake: FakePublisher) -> None:
    with Job("job", url=fake.url) as job:
        until(job, lambda: job.attempt)
        fake.results.extend([Unreachable("reset"), PublishResult(1, False, "final")])
    assert job.wait()
    assert [g["status"] for g in fake.updates] == ["running", "succeeded", "succeeded"]


def test_an_undelivered_end_is_logged_after_the_timeout(
    nowhere: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "EXIT_TIMEOUT", 0.0)
    job, start = Job("job", timeout=0.2), monotonic()
    with pytest.raises(ValueError, match="mine"), job:
        raise ValueError("mine")
    assert 0.2 <= monotonic() - start < DEADLINE
    assert not job.wait()
    away, end = log_messages(caplog)
    assert "is unavailable" in away
    assert end.startswith("job job: its final state could not be delivered in time (")
    assert "refused" in end


def test_an_end_is_over_when_its_outcome_is_logged(fake: FakePublisher) -> None:
    """The process could exit before the log line otherwise."""
    logging_it, go_on = threading.Event(), threading.Event()

    class Slow(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            logging_it.set()
            go_on.wait(DEADLINE)

    handler, log = Slow(), logging.getLogger("gateway.worker")
    log.addHandler(handler)
    try:
        fake.default_result = Rejected("403 no")
        job = Job("job", url=fake.url)
        job.fail("no disk")
        assert logging_it.wait(DEADLINE)
        assert job._report.closed
        assert not job._sender.must_not_wait(job._report)
        go_on.set()
        until(job, lambda: job._sender.must_not_wait(job._report))
    finally:
        go_on.set()
        log.removeHandler(handler)


def test_an_infinite_timeout_waits(fake: FakePublisher) -> None:
    job = Job("job", url=fake.url, timeout=sys.maxsize)
    with pytest.raises(ValueError, match="mine"), process_state.lock, job:  # so it has to wait
        raise ValueError("mine")
    assert job.wait(0)


def test_a_late_end_with_an_attempt_is_delivered(
    fake: FakePublisher, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "EXIT_TIMEOUT", 0.0)
    with Job("job", url=fake.url, timeout=0.1) as job:
        until(job, lambda: job.attempt)
        fake.default_result = Unreachable("refused")
    assert job._report.deadline_passed
    assert not job.wait()
    fake.default_result = PublishResult(1, True)
    until(job, lambda: job._report.delivered)
    assert job.wait()
    assert "it is sent later" in caplog.text


def test_the_number_of_late_ends_is_limited(
    fake: FakePublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "EXIT_TIMEOUT", 0.0)
    monkeypatch.setattr(send_queue, "MAX_OVERDUE_JOBS", 1)
    jobs = [Job(f"job{i}", url=fake.url, timeout=0) for i in range(3)]
    for job in jobs:
        job.update()
    until(jobs[0], lambda: all(job.attempt for job in jobs))
    fake.default_result = Unreachable("refused")
    for job in jobs:
        job.fail("x")
        assert not job.wait()
    assert [job._report.closed for job in jobs] == [True, True, False]
    fake.default_result = PublishResult(1, True)
    until(jobs[2], lambda: jobs[2]._report.delivered)


def test_in_a_long_outage_a_block_does_not_wait(fake: FakePublisher) -> None:
    fake.default_result = Unreachable("refused")
    job, before = Job("job", url=fake.url), Job("before", url=fake.url)
    before.update()
    until(before, lambda: job._sender._queue.outage.failures)
    job._sender._queue.outage.began_at = monotonic() - 10.1
    start = monotonic()
    with job:
        pass
    assert monotonic() - start < 1.0
    assert not job._report.closed
    fake.default_result = PublishResult(1, True)
    assert job.wait()
    before.cancel()
    assert before.wait()


def test_ends_without_a_timeout_are_dropped_together(
    fake: FakePublisher, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "EXIT_TIMEOUT", 0.0)
    fake.default_result = Unreachable("refused")
    fake.requests_allowed.clear()
    jobs = [Job(f"job{i}", url=fake.url, timeout=0.0) for i in range(20)]
    for job in jobs:
        job.succeed()
    fake.requests_allowed.set()
    until(jobs[0], lambda: all(jobs[0]._sender.must_not_wait(job._report) for job in jobs))
    assert len(fake.batches) == 1
    assert not jobs[0]._sender._queue.reports
    assert caplog.text.count("could not be delivered") == 20


def test_a_zero_timeout_does_not_lose_the_end(fake: FakePublisher) -> None:
    fake.requests_allowed.clear()
    job = Job("job", url=fake.url, timeout=0)
    with job:
        pass
    assert not job._report.closed
    fake.requests_allowed.set()
    assert job.wait(DEADLINE)
    assert fake.updates[-1]["status"] == "succeeded"


def test_a_hanging_gateway_does_not_delay_others(
    fake: FakePublisher, fake_gateway: FakeGateway
) -> None:
    fake.requests_allowed.clear()
    stuck = Job("stuck", url=fake.url)
    stuck.update(done=1)
    assert fake.started_requests.acquire(timeout=DEADLINE)
    with Job("job") as job:
        job.update(done=1)
    assert job.wait(0)
    fake.requests_allowed.set()
    stuck.cancel()
    assert stuck.wait()


def test_a_failing_job_does_not_delay_others_of_its_gateway(fake: FakePublisher) -> None:
    """The gateway fails for each update of one job; the updates of others succeed."""

    def poison(fields: dict[str, Any]) -> None:
        fake.default_result = Unreachable("500") if "bad" in fields else PublishResult(1, True)

    fake.on_update = lambda fields: poison(fields.get("data") or {})
    bad = Job("bad", url=fake.url, data={"bad": 1})
    bad.update()
    for i in range(3):
        with Job(f"good{i}", url=fake.url) as good:
            pass
        assert good.wait(0)
    bad.update(data=None)
    bad.succeed()
    assert bad.wait()


def test_an_end_is_sent_before_other_updates(fake: FakePublisher) -> None:
    jobs = [Job(f"job{i}", url=fake.url) for i in range(50)]
    last_job = Job("last", url=fake.url)
    fake.requests_allowed.clear()
    for job in (last_job, *jobs):
        job.update(done=1)
    assert fake.started_requests.acquire(timeout=DEADLINE)
    last_job.succeed()
    fake.requests_allowed.set()
    assert last_job.wait()
    second_update = fake.updates[fake.batches[0]]
    assert (second_update["job"], second_update["status"]) == ("last", "succeeded")


def test_a_change_during_a_request_is_sent_after_it(fake: FakePublisher) -> None:
    with Job("job", url=fake.url) as job:
        fake.requests_allowed.clear()
        job.update(done=1)
        assert fake.started_requests.acquire(timeout=DEADLINE)
        job.update(done=2)
        fake.requests_allowed.set()
        until(job, lambda: fake.updates and fake.updates[-1].get("done") == 2)


def test_a_report_superseded_during_a_request_is_settled(fake: FakePublisher) -> None:
    fake.requests_allowed.clear()
    old = Job("job", url=fake.url)
    old.update()
    assert fake.started_requests.acquire(timeout=DEADLINE)
    with Job("job", url=fake.url, timeout=0) as new:
        fake.requests_allowed.set()
    assert new.wait(DEADLINE)
    assert old.superseded
    assert old.attempt is None
    assert next(g["run"] for g in fake.updates if "run" in g) == old._report.run


def test_an_exception_in_a_publisher_is_logged_once(
    fake: FakePublisher, caplog: pytest.LogCaptureFixture
) -> None:
    fake.results.extend([ZeroDivisionError("ouch"), ZeroDivisionError("ouch")])
    with Job("job", url=fake.url) as job:
        until(job, lambda: job.attempt)
    assert job.wait(0)
    assert [r.levelno for r in caplog.records if "unexpected error" in r.message] == [logging.ERROR]


def test_a_log_handler_that_raises_does_not_stop_the_sender(
    fake: FakePublisher, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise RuntimeError(f"no disk for: {record.getMessage()}")

    monkeypatch.setattr(logging.getLogger("gateway.worker"), "handlers", [Broken()])
    fake.results.append(ZeroDivisionError("ouch"))
    with Job("job", url=fake.url) as old, Job("job", url=fake.url) as job:
        until(job, lambda: job.attempt)
    assert old.superseded
    assert job.wait(0)
    stderr = capsys.readouterr().err
    assert all(
        text in stderr
        for text in ("superseded", "unexpected error", "is unavailable", "is available again")
    )
    assert stderr.count("RuntimeError: no disk for: ") == 4


def test_a_publisher_that_cannot_be_opened_is_retried(fake: FakePublisher) -> None:
    fake.connect_error = OSError("no certificates")
    with Job("job", url=fake.url) as job:
        until(job, lambda: job._sender._queue.outage.failures)
        fake.connect_error = None
    assert job.wait(0)


def test_an_idle_connection_is_closed(fake: FakePublisher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "IDLE_TIMEOUT", 0.01)
    with Job("job", url=fake.url):
        pass
    assert fake.closed.wait(DEADLINE)
    with Job("again", url=fake.url) as job:
        pass
    assert job.wait(0)


def wait_for_thread_end(job: Job) -> None:
    """Waits until the thread of its sender has ended."""
    for thread in threading.enumerate():
        if thread.name == f"progress {job.url}":
            thread.join(DEADLINE)
    assert job._sender._thread is None


def test_an_idle_sender_ends_its_thread(
    fake: FakePublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A different token for each job means a sender for each."""
    monkeypatch.setattr(sender, "IDLE_TIMEOUT", 0.01)
    one = "one"
    with Job("job", url=fake.url, token=one) as job:
        pass
    wait_for_thread_end(job)
    assert fake.closed.is_set()
    with Job(
        "again", url=fake.url, token=one
    ) as second_job:  # its sender still exists, and starts again
        pass
    assert second_job._sender is job._sender
    assert second_job.wait(0)
    wait_for_thread_end(second_job)
    left = weakref.ref(job._sender)
    del job, second_job
    gc.collect()
    assert left() is None


def test_an_idle_sender_without_a_publisher_ends(
    fake: FakePublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "IDLE_TIMEOUT", 0.01)
    fake.connect_error = OSError("never opened")
    monkeypatch.setattr(report, "EXIT_TIMEOUT", 0.0)
    with Job("job", url=fake.url, timeout=0.0) as job:
        pass
    wait_for_thread_end(job)
    fake.connect_error = None
    with Job("again", url=fake.url) as again:
        pass
    assert again.wait(0)


def test_a_thread_that_cannot_start_is_logged(
    fake: FakePublisher, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        job = Job("job", url=fake.url)
        job.update(done=1)
        start = monotonic()
        with Job("late", url=fake.url) as late:  # as in an `atexit` function of Python 3.12
            pass
        assert not late.wait()
        late._sender.flush()
        assert monotonic() - start < 1.0
    assert "cannot start the thread that reports progress" in caplog.text
    job.succeed()
    assert job.wait()
    assert late.wait()


def test_an_answer_wakes_only_callers_that_wait_for_it(
    fake: FakePublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cost of many jobs that end together would be quadratic otherwise."""
    waiting, woken = threading.Semaphore(0), []

    class Counted(threading.Condition):
        def wait(self, timeout: float | None = None) -> bool:
            if threading.current_thread() not in threads:
                return super().wait(timeout)
            waiting.release()
            try:
                return super().wait(timeout)
            finally:
                woken.append(self)

    threads: list[threading.Thread] = []
    with monkeypatch.context() as patch:
        patch.setattr(threading, "Condition", Counted)
        fake.requests_allowed.clear()
        jobs = [Job(f"job{i}", url=fake.url) for i in range(20)]
        for job in jobs:
            job.succeed()
            threads.append(threading.Thread(target=job.wait))
            threads[-1].start()
            assert waiting.acquire(timeout=DEADLINE)
        fake.requests_allowed.set()
        for thread in threads:
            thread.join(DEADLINE)
    assert all(job.wait(0) for job in jobs)
    assert len(woken) == len(jobs)


def test_flush_waits_for_changes_and_ends(fake: FakePublisher) -> None:
    fake.requests_allowed.clear()
    running, ended = Job("running", url=fake.url), Job("ended", url=fake.url)
    running.update(done=1)
    assert fake.started_requests.acquire(timeout=DEADLINE)
    running.update(done=2)
    ended.fail("x")
    flushed = threading.Event()

    def flush() -> None:
        process_state.flush_all()
        flushed.set()

    thread = threading.Thread(target=flush)
    thread.start()
    assert not flushed.is_set()
    fake.requests_allowed.set()
    assert flushed.wait(DEADLINE)
    thread.join(DEADLINE)
    assert {(g["job"], g.get("done"), g["status"]) for g in fake.updates} >= {
        ("running", 2, "running"),
        ("ended", None, "failed"),
    }
    running.succeed()
    assert running.wait()


def test_flush_does_not_wait_for_an_unavailable_gateway(nowhere: str) -> None:
    job = Job("job", url=nowhere + "/flush")
    job.update(done=1)
    until(job, lambda: job._sender._queue.outage.failures)
    start = monotonic()
    job._sender.flush()
    assert monotonic() - start < 1.0


def test_there_is_one_sender_per_gateway_and_token() -> None:
    one = sender.sender_for("http://127.0.0.1:9/one", None)
    assert sender.sender_for("http://127.0.0.1:9/one", None) is one
    assert sender.sender_for("http://127.0.0.1:9/one", "t") is not one


@pytest.mark.parametrize(
    ("url", "other"),
    [
        ("http://gateway.example", "http://gateway.example/"),
        ("http://gateway.example", "http://Gateway.Example:80"),
        ("https://gateway.example/prefix", "https://gateway.example:443/prefix/"),
        ("redis://redis.example", "redis://redis.example:6379/0"),
        ("redis://user@redis.example/1?prefix=a", "redis://user@REDIS.example:6379/1/?prefix=a"),
    ],
)
def test_two_spellings_of_an_address_share_a_sender(url: str, other: str) -> None:
    assert sender.sender_for(url, None) is sender.sender_for(other, None)


def test_jobs_that_end_together_are_each_checked_once(
    fake: FakePublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = 0
    reports: list[Report] = []

    def expire(self: Report, why: str, *, now: float) -> None:
        nonlocal looked
        looked += self in reports  # not those of an earlier test

    with Job("first", url=fake.url):
        pass  # the gateway is reachable, so the others wait until they are sent
    monkeypatch.setattr(Report, "expire", expire)
    jobs = [Job(f"job{i}", url=fake.url) for i in range(100)]
    reports += [job._report for job in jobs]
    fake.requests_allowed.clear()
    for job in jobs:
        job.succeed()
    fake.requests_allowed.set()
    for job in jobs:
        assert job.wait(DEADLINE)
    assert looked == 0


def test_a_rejected_end_settles(fake: FakePublisher) -> None:
    fake.default_result = Rejected("403 no")
    with Job("job", url=fake.url) as job:
        pass
    assert job._report.closed
    assert not job.wait(0)


def test_calls_in_a_signal_handler_do_not_deadlock(fake: FakePublisher) -> None:
    """The lock is re-entrant: a handler may run while this thread holds it."""
    with Job("job", url=fake.url) as job:
        with process_state.lock:
            job.update(done=1)
            job.cancel()
        assert job.status == "cancelled"


def test_a_job_can_be_deleted_anywhere(fake: FakePublisher) -> None:
    calls: list[Callable[[], None]] = [gc.collect] * 2  # type: ignore[list-item]  # returns an int
    job = Job("job", url=fake.url)
    job.update()
    with process_state.lock:
        del job
        for call in calls:
            call()
    with pytest.raises(ValueError, match="name"):
        Job("not a job")
    gc.collect()


@pytest.mark.parametrize("inside", [nullcontext(), process_state.lock])
def test_a_block_that_ends_in_the_senders_thread_does_not_wait(
    fake: FakePublisher, inside: AbstractContextManager[object]
) -> None:
    """The garbage collector may close a generator in that thread, which must not wait for
    itself."""

    def pipeline() -> Iterator[Job]:
        with Job("inner", url=fake.url, timeout=1.0) as job:
            yield job

    durations: list[float] = []

    def collect(_: object) -> None:
        if generators:
            start = monotonic()
            with inside:
                generators.pop().close()
            durations.append(monotonic() - start)

    fake.on_update = collect
    generators: list[Any] = []
    generator = pipeline()
    inner = next(generator)
    until(inner, lambda: inner.attempt)
    generators.append(generator)
    with Job("outer", url=fake.url) as outer:
        pass
    assert outer.wait(0)
    assert inner.wait(DEADLINE)
    assert durations[0] < 1.0
