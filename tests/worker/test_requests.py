"""Requests at the worker: received with an answer, acknowledged, and the effects on the job."""

from __future__ import annotations

import asyncio
import queue
import threading
from typing import Any

import pytest
import trio

from gateway.worker import Cancelled, Job
from gateway.worker.limits import REQUEST_POLL_INTERVAL
from gateway.worker.publisher import PublishResult
from gateway.worker.report import Report
from gateway.worker.snapshot import JobSnapshot

from .fake import FakePublisher, until

CANCEL = {"id": "r1", "verb": "cancel", "by": "user 7", "at": 5.0}


def result_with_request(request: dict[str, Any] = CANCEL) -> PublishResult:
    return PublishResult(1, True, request=request)


def reported_values(fake: FakePublisher, name: str) -> list[Any]:
    return [fields[name] for fields in fake.updates if name in fields]


def test_a_job_that_accepts_requests_receives_them(fake: FakePublisher) -> None:
    with Job("job", url=fake.url, accepts={"pause", "cancel"}) as job:
        fake.results.append(result_with_request({"id": "r1", "verb": "pause", "args": {"for": 3}}))
        job.update(done=1)
        until(job, lambda: job.request)
        assert job.request is not None
        assert (job.request.verb, job.request.args) == ("pause", {"for": 3})
        job.check()  # a pause is no cancel
        until(job, lambda: reported_values(fake, "ack"))
    assert fake.updates[0]["accepts"] == ["cancel", "pause"]
    assert set(reported_values(fake, "ack")) == {"r1"}


def test_check_raises_after_a_cancel_request(fake: FakePublisher) -> None:
    fake.results.append(result_with_request())
    with pytest.raises(Cancelled), Job("job", url=fake.url, accepts={"cancel"}) as job:  # noqa: PT012 - the block is tested
        until(job, lambda: job.request)
        try:
            job.check()
        except Exception:  # noqa: BLE001 - what programs do with errors
            pytest.fail("a cancellation is no error")
    assert fake.updates[-1]["status"] == "cancelled"


def test_a_refusal_is_sent_and_the_job_continues(fake: FakePublisher) -> None:
    fake.results.append(result_with_request())
    with Job("job", url=fake.url, accepts={"cancel"}, interrupt=True) as job:
        until(job, lambda: job.request)
        job.refuse("nearly done")
        job.check()
        job.advance()
        until(job, lambda: reported_values(fake, "refused"))
    assert reported_values(fake, "refused")[0] == "nearly done"
    assert fake.updates[-1]["status"] == "succeeded"


@pytest.mark.parametrize("way", ["track", "advance"])
def test_track_and_advance_raise_with_interrupt(fake: FakePublisher, way: str) -> None:
    fake.results.append(result_with_request())
    job = Job("job", url=fake.url, accepts={"cancel"}, interrupt=True)
    with pytest.raises(Cancelled), job:  # noqa: PT012 - the block is what is tested
        until(job, lambda: job._report.must_interrupt)
        if way == "advance":
            job.advance()
        for _ in job.track(range(3)):
            pass
    assert fake.updates[-1]["status"] == "cancelled"


def test_a_callback_gets_each_request_and_its_exceptions_are_logged(fake: FakePublisher) -> None:
    verbs: list[str] = []
    both_received = threading.Event()

    def on_request(request: Any) -> None:
        verbs.append(request.id)
        if len(verbs) == 2:
            both_received.set()
        raise RuntimeError("a defect")

    job = Job("job", url=fake.url, accepts={"cancel"})
    job.on_request(on_request)
    fake.results += [
        result_with_request(),
        result_with_request(),
        result_with_request({"id": "r2", "verb": "cancel"}),
    ]
    with job:
        assert both_received.wait(10)
    assert verbs == ["r1", "r2"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_callback_that_exits_its_thread_does_not_lose_the_end(fake: FakePublisher) -> None:
    threads: queue.Queue[threading.Thread] = queue.Queue()

    def on_request(request: Any) -> None:
        threads.put(threading.current_thread())
        raise SystemExit

    job = Job("job", url=fake.url, accepts={"cancel"})
    job.on_request(on_request)
    fake.results.append(result_with_request())
    with job:
        threads.get(timeout=10).join(10)
    assert job.wait(10)
    assert fake.updates[-1]["status"] == "succeeded"


async def test_in_trio_a_cancel_request_cancels_the_block(fake: FakePublisher) -> None:
    fake.results.append(result_with_request())
    with trio.fail_after(10):
        async with Job("job", url=fake.url, accepts={"cancel"}):
            await trio.sleep_forever()
    assert fake.updates[-1]["status"] == "cancelled"


def test_in_asyncio_a_cancel_request_cancels_the_block(fake: FakePublisher) -> None:
    async def main() -> str:
        async with Job("job", url=fake.url, accepts={"cancel"}):
            await asyncio.sleep(10)
            pytest.fail("it was not cancelled")
        await asyncio.sleep(0)  # nothing is left of the cancellation
        task = asyncio.current_task()
        assert task is not None
        return f"went on, {task.cancelling()}"

    fake.results.append(result_with_request())
    assert asyncio.run(main()) == "went on, 0"
    assert fake.updates[-1]["status"] == "cancelled"


def test_another_asyncio_cancellation_is_raised(fake: FakePublisher) -> None:
    async def work() -> None:
        async with Job("job", url=fake.url, accepts={"cancel"}):
            await asyncio.sleep(10)

    async def main() -> None:
        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert fake.updates[-1]["status"] == "cancelled"


def test_jobs_that_accept_requests_are_renewed_together_every_two_seconds() -> None:
    due_times = set()
    for number in range(10):
        snapshot = JobSnapshot(lease=30.0)
        snapshot.accepts = ("cancel",)
        report = Report("job", snapshot, timeout=1.0)
        now = 1_000.0 + number / 10
        report.mark_changed(now)
        fields = report.take_updates(now)[-1]
        report.on_result(fields, PublishResult(1, True))
        assert now < report.due_at <= now + REQUEST_POLL_INTERVAL
        due_times.add(report.due_at)
    assert len(due_times) <= 2


@pytest.mark.parametrize(
    ("accepts", "error", "text"),
    [
        ("cancel", TypeError, "accepts must contain verbs"),
        ({"Cancel"}, ValueError, "accepts must contain verbs"),
        ([f"v{n}" for n in range(9)], ValueError, "8 are allowed"),
    ],
)
def test_an_invalid_verb_is_named(accepts: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        Job("job", disabled=True, accepts=accepts)
