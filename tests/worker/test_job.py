"""`Job` from the outside: what the gateway receives, and the effects in the user's code."""

from __future__ import annotations

import asyncio
import copy
import gc
import logging
import pickle
import threading
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise

import pytest

from gateway.worker import Job

from .fake import FakePublisher, until
from .fake_gateway import DEADLINE, FakeGateway, acceptance, problem
from .forking import python


def test_a_job_is_reported_from_start_to_end(fake_gateway: FakeGateway) -> None:
    with Job("video:42", total=3, unit="frames", weight=2, data={"a": 1}) as job:
        assert job.status == "running"
        assert list(job.track("abc")) == ["a", "b", "c"]
        until(job, lambda: job.attempt)
    first_update, last_update = fake_gateway.received[0].fields, fake_gateway.received[-1].fields
    assert first_update["start"] is True
    assert (first_update["total"], first_update["unit"], first_update["weight"]) == (3, "frames", 2)
    assert first_update["data"] == {"a": 1}
    assert (last_update["status"], last_update["percent"], last_update["done"]) == (
        "succeeded",
        100,
        3,
    )
    assert last_update["attempt"] == 1
    assert "start" not in last_update
    assert len(fake_gateway.ends("video:42")) == 1
    assert job.status == "succeeded"
    assert not job.superseded
    assert repr(job) == f"<Job video:42 succeeded at {fake_gateway.url}>"
    assert job.url == fake_gateway.url


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (ValueError("bad"), "failed", "ValueError: bad"),
        (KeyboardInterrupt(), "cancelled", None),
        (SystemExit(0), "succeeded", None),
        (SystemExit(2), "failed", "SystemExit: 2"),
        (asyncio.CancelledError(), "cancelled", None),
        (ValueError("x" * 5000), "failed", "ValueError: " + "x" * 3987 + "…"),
    ],
)
def test_exceptions_end_the_job_and_are_raised(
    fake_gateway: FakeGateway, error: BaseException, status: str, text: str | None
) -> None:
    with pytest.raises(type(error)) as caught, Job("job"):
        raise error
    assert caught.value is error
    assert error.__context__ is None
    (end,) = fake_gateway.ends("job")
    assert (end.fields["status"], end.fields.get("error")) == (status, text)


def test_an_explicit_end_overrides_the_blocks_end(fake_gateway: FakeGateway) -> None:
    with Job("a") as job:
        job.fail(TypeError("t"), "see the log")
    with Job("b") as job:
        job.cancel("not needed")
    with Job("c") as job:
        job.succeed("enough")
        job.fail("no")
    received = [
        (g.fields["status"], g.fields.get("error"), g.fields["message"])
        for name in "abc"
        for g in fake_gateway.ends(name)
    ]
    assert received == [
        ("failed", "TypeError: t", "see the log"),
        ("cancelled", None, "not needed"),
        ("succeeded", None, "enough"),
    ]


def test_a_job_without_a_block_is_reported(fake_gateway: FakeGateway) -> None:
    job = Job("job")
    with pytest.raises(RuntimeError, match="has not ended"):
        job.wait()
    job.update(message="working")
    until(job, lambda: job.attempt)
    job.succeed()
    assert job.wait()
    assert job.wait(timeout=0)


def test_entering_a_job_twice_raises(fake_gateway: FakeGateway) -> None:
    job = Job("job")
    with job, pytest.raises(RuntimeError, match="each attempt"), job:
        pass
    with Job("job") as second:
        pass
    assert fake_gateway.ends("job")[-1].fields["status"] == "succeeded"
    assert second.attempt == 2


def test_only_the_newest_state_is_sent_at_a_limited_rate(fake: FakePublisher) -> None:
    send_times: list[float] = []
    fake.on_update = lambda fields: send_times.append(job._report.sent_at)
    job = Job("job", url=fake.url, total=200_000)
    with job:
        for i in range(200_001):
            job.update(done=i)
        until(job, lambda: fake.updates and fake.updates[-1].get("done") == 200_000)
    assert len(send_times) > 2
    assert all(b - a >= 0.05 for a, b in pairwise(send_times[:-1]))
    assert fake.updates[-1]["status"] == "succeeded"


def test_track_counts_items_and_sets_the_total(fake_gateway: FakeGateway) -> None:
    def endless() -> Iterator[int]:
        yield from range(2)

    job = Job("job")
    span = job._snapshot.phase.segment
    for _ in job.track([1, 2, 3]):
        pass
    assert (span.done, span.total) == (3, 3)
    for item in job.track(range(4)):
        if item == 2:
            break
    assert (span.done, span.total) == (5, 7)
    for _ in job.track([1]):  # announced already
        pass
    assert (span.done, span.total) == (6, 7)
    assert list(job.track(endless())) == [0, 1]
    assert (span.done, span.total) == (8, 7)
    assert list(job.track(endless(), total=2)) == [0, 1]
    assert (span.done, span.total) == (10, 10)
    job.succeed()
    assert job.wait()


async def test_track_counts_an_async_iterable(fake_gateway: FakeGateway) -> None:
    async def items() -> AsyncIterator[int]:
        for i in range(3):
            yield i

    async with Job("job") as job:
        assert [i async for i in job.track(items(), total=3)] == [0, 1, 2]
    assert fake_gateway.received[-1].fields["done"] == 3


def test_many_threads_can_report_one_job(fake_gateway: FakeGateway) -> None:
    with Job("job", total=80_000) as job:

        def work() -> None:
            for _ in range(10_000):
                job.advance()

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE)
    assert fake_gateway.received[-1].fields["done"] == 80_000
    assert len([t for t in threading.enumerate() if t.name == f"progress {fake_gateway.url}"]) == 1


def test_a_renewal_has_the_whole_snapshot(fake_gateway: FakeGateway) -> None:
    with Job("job", lease=1.0, message="m", total=4):
        fake_gateway.wait_for(lambda got: len(got) >= 4)
    _, *beats, _ = fake_gateway.received
    assert all(b.fields["message"] == "m" and b.fields["attempt"] == 1 for b in beats)
    first, *_, last = beats  # each is due half a second or so after the one before
    assert last.at - first.at > 0.3 * (len(beats) - 1)


def test_a_lost_record_is_created_again(fake_gateway: FakeGateway) -> None:
    with Job("job", lease=1.0, message="m") as job:
        until(job, lambda: job.attempt)
        fake_gateway.attempts.clear()
        seen = len(fake_gateway.received)
        fake_gateway.wait_for(lambda got: len(got) > seen)
    assert fake_gateway.attempts["job"][0] == 1
    assert fake_gateway.received[-1].fields["message"] == "m"


def test_a_deleted_job_is_reported_and_its_lease_expires(fake_gateway: FakeGateway) -> None:
    job = Job("job", lease=1.0)
    job.update(done=1)
    fake_gateway.wait_for(lambda got: len(got) == 2)  # the first report
    sender = job._sender
    del job
    gc.collect()
    with sender._changed:
        assert sender._changed.wait_for(lambda: "job" not in sender._queue.reports, DEADLINE)
    last_update = fake_gateway.requests_of("job")[-1].fields
    assert (last_update["message"], last_update["lease"]) == (
        "its Job object was deleted, and the job was not ended",
        1.0,
    )


def test_a_job_without_a_name_joins_gateway_run(
    fake_gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PROGRESS_GATEWAY_JOB", raising=False)
    with pytest.raises(TypeError, match="name is missing"):
        Job()
    monkeypatch.setenv("PROGRESS_GATEWAY_JOB", "backup:1")
    monkeypatch.setenv("PROGRESS_GATEWAY_RUN", "r1")
    with Job() as job:
        assert (job.name, job.run) == ("backup:1", "r1")
    assert fake_gateway.requests_of("backup:1")[0].fields["run"] == "r1"


def test_a_superseded_job_stops_reporting(
    fake_gateway: FakeGateway, caplog: pytest.LogCaptureFixture
) -> None:
    with Job("job") as job:
        until(job, lambda: job.attempt)
        fake_gateway.attempts["job"] = 2, "another"
        job.update(done=1)
        until(job, lambda: job.superseded)
        job.update(done=2)
    assert job.superseded
    assert [r.message for r in caplog.records] == [
        "job job: superseded by attempt 2; its updates are ignored from now on "
        f"[{fake_gateway.url}]"
    ]
    assert fake_gateway.ends("job") == []
    assert not job.wait()


def test_a_newer_job_of_the_process_supersedes_the_older(
    fake_gateway: FakeGateway, caplog: pytest.LogCaptureFixture
) -> None:
    with Job("job") as old:
        until(old, lambda: old.attempt)
        with Job("job") as new:
            assert old.superseded
            old.update(done=1)
    assert new.attempt == 2
    assert not new.superseded
    assert [r.message for r in caplog.records] == [
        f"job job: superseded by a newer Job of this process [{fake_gateway.url}]"
    ]


def test_a_job_ended_by_another_process_stops_reporting(
    fake_gateway: FakeGateway, caplog: pytest.LogCaptureFixture
) -> None:
    with Job("job") as job:
        until(job, lambda: job.attempt)
        fake_gateway.answers.append(acceptance(1, "final"))
        job.update(done=1)
    assert "the job was ended by another process" in caplog.text
    assert [vars(r)["job_ended_elsewhere"] for r in caplog.records] == [True]
    assert not job.superseded


def test_a_rejected_field_does_not_prevent_the_end(
    fake_gateway: FakeGateway, caplog: pytest.LogCaptureFixture
) -> None:
    fake_gateway.default_answer = lambda got: (
        problem(422, "data: not here", field="data")(got)
        if "data" in got.fields
        else fake_gateway._usual(got)
    )
    with Job("job", data={"a": 1}) as job:
        until(job, lambda: job.attempt)
        job.update(message="m")
    assert len([g for g in fake_gateway.received if "data" in g.fields]) == 1
    assert fake_gateway.received[-1].fields["status"] == "succeeded"
    assert [r.message for r in caplog.records] == [
        "job job: the gateway rejects its data, which is no longer sent: 422 data: not here "
        f"[{fake_gateway.url}]"
    ]


def test_a_rejection_is_logged_once_and_the_block_does_not_wait(
    fake_gateway: FakeGateway, caplog: pytest.LogCaptureFixture
) -> None:
    fake_gateway.default_answer = problem(401, "a token is needed")
    with Job("job") as job:
        fake_gateway.wait_for(lambda got: got)
        job.update(done=1)
    assert not job.wait()
    assert 1 <= len(fake_gateway.received) - len(fake_gateway.ends("job")) <= 2
    assert [r.message.partition(" [")[0] for r in caplog.records] == [
        "job job: the gateway rejects its updates: 401 a token is needed",
        "job job: the gateway rejects its final state (succeeded): 401 a token is needed",
    ]


def test_the_token_comes_from_argument_or_environment(
    fake_gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROGRESS_GATEWAY_TOKEN", "from-env")
    with Job("a"):
        pass
    with Job("b", token="given"):  # noqa: S106 - of this test alone
        pass
    assert [fake_gateway.requests_of(n)[0].headers["Authorization"] for n in "ab"] == [
        "Bearer from-env",
        "Bearer given",
    ]


def test_the_default_url_is_the_local_gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROGRESS_GATEWAY_URL", "")
    assert Job("job").url == "http://127.0.0.1:8000"
    monkeypatch.delenv("PROGRESS_GATEWAY_URL")
    assert Job("job").url == "http://127.0.0.1:8000"


def test_a_log_handler_can_report_to_the_same_job(fake_gateway: FakeGateway) -> None:
    """A handler that sets `message` takes the job's lock inside the log's: no deadlock."""
    log = logging.getLogger("gateway.worker")
    with Job("job") as job:

        class Handler(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                job.update(message=record.getMessage())

        handler = Handler()
        log.addHandler(handler)
        try:
            job.phase("a", share=1)
            job.phase("b", share=1)
            fake_gateway.wait_for(
                lambda got: got and "no share" in got[-1].fields.get("message", "")
            )
        finally:
            log.removeHandler(handler)


def test_a_released_job_is_continued_by_another(
    fake: FakePublisher, caplog: pytest.LogCaptureFixture
) -> None:
    with Job("job", url=fake.url) as job:
        until(job, lambda: job.attempt)
        job.release()
        job.update(done=1)
    assert not job.wait()
    assert [got["status"] for got in fake.updates] == ["running"]
    assert not caplog.records


def test_updates_before_a_release_are_sent(fake: FakePublisher) -> None:
    fake.requests_allowed.clear()  # also if nothing was sent yet
    job = Job("job", url=fake.url)
    job.update(done=50)
    job.release()
    job.update(done=51)
    fake.requests_allowed.set()
    until(job, lambda: job._report.closed)
    assert {update["done"] for update in fake.updates} == {50}
    assert {update["status"] for update in fake.updates} == {"running"}


def test_a_process_sends_a_released_state_before_it_exits(fake_gateway: FakeGateway) -> None:
    result = python(
        "from gateway.worker import Job\n"
        "with Job('job') as job:\n"
        "    job.update(done=50)\n"
        "    job.release()\n",
        PROGRESS_GATEWAY_URL=fake_gateway.url,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert fake_gateway.requests_of("job")[-1].fields["done"] == 50
    assert not fake_gateway.ends("job")


def test_release_after_the_end_is_ignored(fake: FakePublisher) -> None:
    job = Job("job", url=fake.url)
    job.fail("x")
    job.release()
    assert job.wait()


def test_pickling_a_job_raises(fake: FakePublisher) -> None:
    job = Job("job", url=fake.url)
    for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match=r"its name and its run; there Job\(name, run=run\)"):
            attempt(job)
