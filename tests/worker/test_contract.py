"""The contract of a job for all targets: a gateway over HTTP, or the Redis behind it.

These tests use only the user's code on one end, and the job's states on the other. Tests of a
single publisher are in test_http and test_redis; tests that do not depend on the publisher (the
sender, the report) use a fake.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import threading
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any
from urllib.request import urlopen

import msgspec
import pytest
import trio

from gateway.brokers.redis.broker import RedisBroker
from gateway.model.state import Request, RequestUpdate, State
from gateway.worker import Cancelled, Job, announce, publisher, report
from gateway.worker.limits import MAX_UPDATES_PER_REQUEST
from gateway.worker.publisher import Outcome, Publisher, publish_one
from gateway.worker.sender import sender_for

from .fake import until
from .fake_gateway import DEADLINE
from .forking import fork, forks, joined, python
from .targets import TARGETS, Target

pytestmark = forks


class Counted:
    """A publisher that records the number of updates in each request."""

    def __init__(self, real: Publisher, sizes: list[int]) -> None:
        self._real, self._sizes = real, sizes

    def publish(self, updates: Sequence[tuple[str, dict[str, Any]]]) -> list[Outcome]:
        self._sizes.append(len(updates))
        return self._real.publish(updates)

    def close(self) -> None:
        self._real.close()


@pytest.fixture(params=sorted(TARGETS))
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    with TARGETS[request.param]() as target:
        yield target


def last_state(target: Target, job: str) -> State:
    return target.states(job)[-1]


def log_messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.message for r in caplog.records if r.name == "gateway.worker"]


def test_a_thousand_jobs_far_away_are_not_stalled(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All jobs are reported and end within a few round trips of 100 ms. `test_send_queue` tests the
    times on a mock clock."""
    sizes: list[int] = []
    connect = publisher.connect
    monkeypatch.setattr(publisher, "connect", lambda *where: Counted(connect(*where), sizes))
    target.proxy.delay = 0.05
    target.proxy.stall()
    jobs = [Job(f"far{i}", url=target.url, timeout=60.0) for i in range(1_000)]
    for job in jobs:
        job.update(done=1)
    target.proxy.resume()
    until(jobs[0], lambda: all(job.attempt for job in jobs))
    assert len(sizes) < 8
    target.proxy.stall()
    for job in jobs:
        job.succeed()
    target.proxy.resume()
    assert all(job.wait(DEADLINE) for job in jobs)
    assert len(sizes) < 16
    assert last_state(target, "far0").status == last_state(target, "far999").status == "succeeded"


def test_ten_thousand_ends(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of requests follows from the number of jobs; no time is measured."""
    sizes: list[int] = []
    connect = publisher.connect
    monkeypatch.setattr(publisher, "connect", lambda *where: Counted(connect(*where), sizes))
    target.proxy.stall()
    jobs = [Job(f"end{i}", url=target.url, timeout=60.0) for i in range(10_000)]
    for job in jobs:
        job.succeed()
    target.proxy.resume()
    assert all(job.wait(DEADLINE) for job in jobs)
    assert (
        len(sizes) <= 10_000 // MAX_UPDATES_PER_REQUEST + 1
    )  # the first requests were sent before there were so many
    assert last_state(target, "end0").status == last_state(target, "end9999").status == "succeeded"


def test_a_job_is_reported_from_start_to_end(target: Target) -> None:
    with Job("video:42", url=target.url, total=3, unit="frames", weight=2.5) as job:
        until(job, lambda: job.attempt)
        with job.phase("encode", share=0.5, total=3):
            for _ in job.track("abc"):
                job.update(message="µ\n", data={"ü": [1.5, None, True]})
            until(job, lambda: last_state(target, "video:42").percent == 50)
        job.update(message=None, data=None)
    states = target.states("video:42")
    middle = next(state for state in states if state.percent == 50)
    end = states[-1]
    assert (states[0].status, states[0].attempt, states[0].total) == ("running", 1, 3)
    assert (middle.phase, middle.message, middle.weight) == ("encode", "µ\n", 2.5)
    assert msgspec.json.encode(middle.data) == '{"ü":[1.5,null,true]}'.encode()
    assert (end.status, end.percent, end.weight) == ("succeeded", 100, 2.5)
    assert (end.message, end.data, end.error) == (None, msgspec.UNSET, None)
    assert all((a.percent or 0) <= (b.percent or 0) for a, b in pairwise(states))


def test_accepts_is_sent_to_the_gateway(target: Target) -> None:
    with Job("job", url=target.url, accepts=["cancel", "x-ray"]) as job:
        until(job, lambda: job.attempt)
    end = last_state(target, "job")
    assert (end.status, end.accepts) == ("succeeded", ("cancel", "x-ray"))


def send_cancel(target: Target, job: str) -> None:
    """Requests, as a client, to cancel the job."""
    if target.url.startswith("http"):
        with urlopen(f"{target.url}/api/jobs/{job}/requests", b'{"verb":"cancel"}') as answer:  # noqa: S310 - http
            assert answer.status == 202
        return
    broker = RedisBroker(target.url)
    update = RequestUpdate(request=Request(id="r", verb="cancel"))
    assert trio.run(broker.publish, job, update).applied
    broker.close()


def test_a_child_that_begins_after_its_group_was_cancelled_gets_the_request(target: Target) -> None:
    group = Job("batch", url=target.url, children=3, accepts=["cancel"])
    group.update()
    until(group, lambda: group.attempt)
    send_cancel(target, "batch")
    with pytest.raises(Cancelled), group.child("late", accepts=["cancel"], interrupt=True) as job:
        for _ in job.track(iter(lambda: wait_a_little(), 0)):
            pass

    async def in_a_loop() -> None:
        with trio.fail_after(DEADLINE):
            async with Job("batch/later", url=target.url, accepts=["cancel"]):
                await trio.sleep_forever()

    trio.run(in_a_loop)
    with group.child("deaf"):
        pass
    ends = [last_state(target, f"batch/{name}") for name in ("late", "later", "deaf")]
    assert [end.status for end in ends] == ["cancelled", "cancelled", "succeeded"]
    assert all(end.request and end.request.seen_at for end in ends[:2])
    assert last_state(target, "batch").status == "cancelled"


def wait_a_little() -> int:
    """Does a step of the work."""
    return threading.Event().wait(0.005) + 1


def test_an_exception_of_the_block_is_raised_unchanged(target: Target) -> None:
    error = ValueError("bad\udcff frame")
    with pytest.raises(ValueError, match="bad") as caught, Job("job", url=target.url):
        raise error
    assert caught.value is error
    assert last_state(target, "job").status == "failed"
    assert last_state(target, "job").error == "ValueError: bad? frame"


def test_a_newer_attempt_supersedes_the_job(
    target: Target, caplog: pytest.LogCaptureFixture
) -> None:
    with Job("job", url=target.url) as old:
        until(old, lambda: old.attempt)
        with Job("job", url=target.other_url) as new:
            until(new, lambda: new.attempt)
            old.update(message="a zombie")
            until(old, lambda: old.superseded)
    assert (old.attempt, new.attempt) == (1, 2)
    assert (last_state(target, "job").status, last_state(target, "job").message) == (
        "succeeded",
        None,
    )
    assert "superseded by attempt 2" in caplog.text


def test_an_end_by_another_process_is_logged(
    target: Target, caplog: pytest.LogCaptureFixture
) -> None:
    with Job("job", url=target.url, run="r") as job:
        until(job, lambda: job.attempt)
        with Job("job", url=target.other_url, run="r") as other_job:
            other_job.cancel("not needed")
    assert job.attempt == other_job.attempt == 1
    assert last_state(target, "job").message == "not needed"
    assert "the job was ended by another process" in caplog.text


def test_an_announced_job_is_queued(target: Target) -> None:
    for run in ("1st", "2nd"):
        announce("job", run=run, url=target.url)
        sender_for(target.url, None).flush()
        assert last_state(target, "job").status == "queued"
        with Job("job", url=target.other_url, run=run):
            pass
        announce("job", run=run, url=target.url)  # the same, late
    announce("job", url=target.url)  # changes nothing: it has ended
    announce("other", status="cancelled", error="no more", url=target.url)
    sender_for(target.url, None).flush()
    course = [(state.attempt, state.status) for state in target.states("job")]
    assert course[0] == (1, "queued")
    assert course.count((1, "queued")) == course.count((2, "queued")) == 1
    assert course[-1] == (2, "succeeded")
    assert (last_state(target, "other").status, last_state(target, "other").error) == (
        "cancelled",
        "no more",
    )


def test_an_outage_and_its_end_are_logged(target: Target, caplog: pytest.LogCaptureFixture) -> None:
    with Job("job", url=target.url, total=5) as job, Job("other", url=target.url):
        until(job, lambda: job.attempt)
        target.proxy.refuse()
        job.advance(2)
        until(job, lambda: job._sender._queue.outage.failures >= 3)
        job.advance()  # never raises, never blocks
        target.proxy.open()
        until(job, lambda: last_state(target, "job").done == 3)
    assert (last_state(target, "job").status, last_state(target, "job").attempt) == ("succeeded", 1)
    assert last_state(target, "other").status == "succeeded"
    away, back = log_messages(caplog)
    assert away.startswith(f"the gateway at {target.url} is unavailable (")
    assert back.startswith(f"the gateway at {target.url} is available again after ")


def test_an_end_during_an_outage_is_delivered_later(
    target: Target, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "EXIT_TIMEOUT", 0.0)
    job = Job("job", url=target.url, timeout=0.2)
    with pytest.raises(ValueError, match="mine"), job:  # noqa: PT012 - the block is what is tested
        until(job, lambda: job.attempt)
        target.proxy.refuse()
        raise ValueError("mine")
    assert not job.wait(0)
    assert "its final state could not be delivered in time" in log_messages(caplog)[-1]
    target.proxy.open()
    until(job, lambda: job._report.delivered)
    assert last_state(target, "job").error == "ValueError: mine"


def test_a_hanging_gateway_does_not_block_the_job(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(target.hasty, 0.05)
    with Job("job", url=target.url) as job:
        until(job, lambda: job.attempt)
        target.proxy.stall()
        job.update(done=1)
        until(job, lambda: job._sender._queue.outage.failures >= 2)
        target.proxy.resume()
    assert (last_state(target, "job").status, last_state(target, "job").done) == ("succeeded", 1)


def test_a_lost_idle_connection_is_replaced_without_a_log_line(
    target: Target, caplog: pytest.LogCaptureFixture
) -> None:
    carrier = publisher.connect(target.url, None)
    for done in range(3):
        assert publish_one(carrier, "job", {"done": done}).applied
    assert target.proxy.accepted == 1
    target.proxy.drop_connections()
    assert publish_one(carrier, "job", {"done": 3}).applied
    assert target.proxy.accepted == 2
    carrier.close()
    carrier.close()
    assert publish_one(carrier, "job", {"done": 4}).applied
    carrier.close()


@pytest.mark.parametrize("method", ["os", "multiprocessing"])
def test_parent_and_child_report_the_same_attempt(target: Target, method: str) -> None:
    with Job("job", url=target.url, message="from the parent") as job:
        until(job, lambda: job.attempt)

        def child() -> None:
            job.update(message="from the child")
            if method == "os":
                job._sender.flush()

        if method == "os":
            assert joined(fork(child)) == 0
        else:
            context: Any = multiprocessing.get_context("fork")
            process = context.Process(target=child)
            process.start()
            process.join(DEADLINE)
            assert process.exitcode == 0
        assert last_state(target, "job").message == "from the child"
        assert target.proxy.accepted == 2
        job.update(message="from the parent again")
    assert last_state(target, "job").message == "from the parent again"
    assert {state.attempt for state in target.states("job")} == {1}
    assert target.proxy.accepted == 2  # the parent's own connection was not affected


def test_forks_during_heavy_use_lose_nothing(target: Target) -> None:
    """The process forks often, while threads report as fast as they can and the sender sends."""
    stop = threading.Event()
    with Job("job", url=target.url) as job:

        def work() -> None:
            while not stop.is_set():
                job.advance()

        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()

        def child(i: int) -> None:
            with Job(f"child{i}", url=target.url) as mine:
                mine.update(done=i)
            job.advance()

        pids = [fork(lambda i=i: child(i)) for i in range(10)]  # type: ignore[misc]  # mypy cannot infer it
        codes = [joined(pid) for pid in pids]
        stop.set()
        for thread in threads:
            thread.join(DEADLINE)
    assert codes == [0] * 10
    assert [last_state(target, f"child{i}").status for i in range(10)] == ["succeeded"] * 10
    assert last_state(target, "job").status == "succeeded"


def test_due_updates_are_sent_at_exit(target: Target) -> None:
    code = (
        "from gateway import Job, announce\n"
        "a = Job('a'); a.update(done=1); a.update(message='last words')\n"
        "b = Job('b'); b.fail('gone')\n"
        "announce('c')\n"
    )
    result = python(code, PROGRESS_GATEWAY_URL=target.url)
    assert (result.returncode, result.stderr) == (0, "")
    assert last_state(target, "a").message == "last words"
    assert last_state(target, "b").error == "gone"
    assert last_state(target, "c").status == "queued"


def test_an_asyncio_block_reports_its_end(target: Target) -> None:
    """The loop continues while the target hangs; the block still waits for the end."""
    ticks = 0

    async def main() -> None:
        nonlocal ticks
        async with asyncio.TaskGroup() as group:
            running = group.create_task(work())
            while not running.done():
                await asyncio.sleep(0)
                ticks += 1
                if ticks == 1_000:
                    target.proxy.resume()

    async def work() -> None:
        async with Job("job", url=target.url) as job:
            target.proxy.stall()
            job.update(done=1)

    with asyncio.Runner(debug=True) as runner:
        runner.run(main())
    assert ticks >= 1_000
    assert (last_state(target, "job").status, last_state(target, "job").done) == ("succeeded", 1)


async def test_a_trio_block_reports_its_end(target: Target) -> None:
    ticks = 0

    async def tick(work_is_done: trio.Event) -> None:
        nonlocal ticks
        while not work_is_done.is_set():
            await trio.lowlevel.checkpoint()
            ticks += 1
            if ticks == 1_000:
                target.proxy.resume()

    with trio.fail_after(DEADLINE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tick, done := trio.Event())
            async with Job("job", url=target.url) as job:
                target.proxy.stall()
                job.update(done=1)
            done.set()
    assert ticks >= 1_000
    assert (last_state(target, "job").status, last_state(target, "job").done) == ("succeeded", 1)
