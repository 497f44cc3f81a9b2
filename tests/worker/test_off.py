"""Jobs without a gateway: switched off, or an address where no server is running."""

from __future__ import annotations

import asyncio
import threading
from time import monotonic
from typing import Any

import pytest

from gateway.integrations.tqdm import tqdm
from gateway.worker import Job, announce
from gateway.worker.sender import sender_for

from .fake import FakePublisher, until
from .fake_gateway import FakeGateway
from .forking import python


@pytest.fixture(params=["environment", "argument"])
def off(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The arguments with which a job reports nothing."""
    if request.param == "environment":
        monkeypatch.setenv("PROGRESS_GATEWAY_URL", "off")
        return {}
    return {"disabled": True}


def test_a_disabled_job_reports_nothing(
    off: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    threads = threading.active_count()
    with Job("job", **off) as job:
        with job.phase("p", share=0.5, total=2):
            job.advance()
        assert list(job.track("abc")) == ["a", "b", "c"]
    assert (job.status, job.url, job.wait()) == ("succeeded", "off", True)
    released = Job("other", **off)
    released.update(done=1)
    released.release()
    assert threading.active_count() == threads
    assert not caplog.records
    with pytest.raises(ValueError, match="name is not a job id"):
        Job("a b", **off)


def test_a_disabled_job_works_in_an_event_loop(off: dict[str, Any]) -> None:
    async def main() -> None:
        async with Job("job", **off) as job:
            job.advance()
            assert [item async for item in job.track(items())] == [1]

    async def items() -> Any:
        yield 1

    asyncio.run(main())


def test_the_environment_disables_all_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROGRESS_GATEWAY_URL", "OFF")
    announce("job")
    for _ in tqdm(range(3), job="bar", disable=None):
        pass
    assert sender_for(None, None).disabled


def test_a_disabled_bar_reports_nothing(fake_gateway: FakeGateway) -> None:
    for _ in tqdm(range(3), job="bar", disable=True):
        pass
    assert not fake_gateway.received
    with pytest.raises(ValueError, match="job id"):
        tqdm(range(3), job="a b", disable=True)


JOBS = (
    "from gateway.worker import Job\n"
    "for i in range(5):\n"
    "    with Job(f'job{i}') as job: job.update(done=1)\n"
)


def test_five_jobs_without_a_gateway_wait_one_second_together(nowhere: str) -> None:
    began = monotonic()
    result = python(JOBS, PROGRESS_GATEWAY_URL=nowhere)
    assert monotonic() - began < 5.0  # with the start of an interpreter on a busy machine
    away, end = result.stderr.splitlines()
    assert "is unavailable" in away
    assert end.startswith(f"jobs job0, job1, job2 and 2 more: could not be sent to {nowhere} (")


def test_a_disabled_process_starts_no_thread() -> None:
    result = python(
        JOBS
        + "import sys; print([m for m in ('http.client', 'ssl', 'redis') if m in sys.modules])",
        PROGRESS_GATEWAY_URL="off",
    )
    assert (result.stdout, result.stderr) == ("[]\n", "")


def test_an_end_waits_for_a_gateway_that_was_reachable_before(fake: FakePublisher) -> None:
    job = Job("job", url=fake.url)
    job.update()
    until(job, lambda: job.attempt)
    assert job._sender.wait_budget(job._report) == 10.0
    job.cancel()
    assert job.wait()
