"""The span of a report is the span of the newest update in it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gateway.worker import Job
from tests.traceparents import MALFORMED, OTHER, SPAN

from .fake import FakePublisher, until


def end_job(job: Job) -> Job:
    job.succeed()
    assert job.wait()
    return job


def test_the_traceparent_function_is_called_for_each_report(fake: FakePublisher) -> None:
    spans: list[str | None] = [SPAN]
    fake.requests_allowed.clear()
    job = Job("job", url=fake.url, traceparent=lambda: spans[-1])
    job.update(percent=1)
    fake.started_requests.acquire()  # with the first update; the others have to wait
    spans.append(None)
    job.advance()
    spans.append(OTHER)
    job.update(percent=2)
    fake.requests_allowed.set()
    until(job, lambda: len(fake.updates) == 2)
    spans.append(None)
    job.update(message="outside of any span")
    until(job, lambda: len(fake.updates) == 3)
    spans.append(SPAN)
    end_job(job)
    spans.append(OTHER)
    job.update(percent=3)  # ignored
    assert [got.get("traceparent") for got in fake.updates] == [SPAN, OTHER, None, SPAN]


def test_one_traceparent_is_used_for_all_reports(fake: FakePublisher) -> None:
    end_job(Job("job", url=fake.url, traceparent=SPAN)).update(percent=1)
    assert [got["traceparent"] for got in fake.updates] == [SPAN]


def test_without_a_traceparent_none_is_sent(fake: FakePublisher) -> None:
    end_job(Job("job", url=fake.url))
    assert "traceparent" not in fake.updates[0]


@pytest.mark.parametrize(
    ("traceparent", "error"), [(3, TypeError), *((text, ValueError) for text in MALFORMED)]
)
def test_an_invalid_traceparent_raises(traceparent: str, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"^traceparent "):
        Job("job", traceparent=traceparent)


def broken() -> str:
    raise LookupError("the caller's own")


@pytest.mark.parametrize("send", [Job.update, Job.advance, Job.succeed])
def test_an_exception_of_the_traceparent_function_is_raised(
    fake: FakePublisher, send: Callable[[Job], None]
) -> None:
    job = Job("job", url=fake.url, traceparent=broken)
    with pytest.raises(LookupError, match="own"):
        send(job)
    assert fake.updates == []
