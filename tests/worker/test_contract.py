"""What a job does, whatever it reports to: a gateway over HTTP, or the Redis behind it.

Here is what is seen from outside: the user's code on one end, the job's states on the
other. What is each carrier's own is in test_http and test_redis; what does not depend on
one at all (the sender, the report) is tested on a fake.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import threading
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import msgspec
import pytest
import trio

from gateway.job import State
from gateway.worker import Job, announce, publisher, report
from gateway.worker.sender import sender_for

from .fake import until
from .forking import fork, forks, joined, python
from .peer import DEADLINE
from .sides import SIDES, Side

pytestmark = forks


@pytest.fixture(params=sorted(SIDES))
def side(request: pytest.FixtureRequest) -> Iterator[Side]:
    with SIDES[request.param]() as side:
        yield side


def last(side: Side, job: str) -> State:
    return side.states(job)[-1]


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.message for r in caplog.records if r.name == "gateway.worker"]


def test_a_whole_life(side: Side) -> None:
    with Job("video:42", url=side.url, total=3, unit="frames", parent="batch:1") as job:
        until(job, lambda: job.attempt)
        with job.phase("encode", share=0.5, total=3):
            for _ in job.track("abc"):
                job.update(message="µ\n", data={"ü": [1.5, None, True]})
            until(job, lambda: last(side, "video:42").percent == 50)
        job.update(message=None, data=None)
    states = side.states("video:42")
    middle = next(state for state in states if state.percent == 50)
    end = states[-1]
    assert (states[0].status, states[0].attempt, states[0].total) == ("running", 1, 3)
    assert (middle.phase, middle.message, middle.parent) == ("encode", "µ\n", "batch:1")
    assert msgspec.json.encode(middle.data) == '{"ü":[1.5,null,true]}'.encode()
    assert (end.status, end.percent, end.parent) == ("succeeded", 100, "batch:1")
    assert (end.message, end.data, end.error) == (None, msgspec.UNSET, None)
    assert all((a.percent or 0) <= (b.percent or 0) for a, b in pairwise(states))


def test_an_exception_goes_on(side: Side) -> None:
    error = ValueError("bad\udcff frame")
    with pytest.raises(ValueError, match="bad") as caught, Job("job", url=side.url):
        raise error
    assert caught.value is error
    assert last(side, "job").status == "failed"
    assert last(side, "job").error == "ValueError: bad? frame"


def test_another_process_takes_over(side: Side, caplog: pytest.LogCaptureFixture) -> None:
    with Job("job", url=side.url) as old:
        until(old, lambda: old.attempt)
        with Job("job", url=side.other_url) as new:
            until(new, lambda: new.attempt)
            old.update(message="a zombie")
            until(old, lambda: old.superseded)
    assert (old.attempt, new.attempt) == (1, 2)
    assert (last(side, "job").status, last(side, "job").message) == ("succeeded", None)
    assert "superseded by attempt 2" in caplog.text


def test_somebody_else_ends_it(side: Side, caplog: pytest.LogCaptureFixture) -> None:
    with Job("job", url=side.url, run="r") as job:
        until(job, lambda: job.attempt)
        with Job("job", url=side.other_url, run="r") as other:
            other.cancel("not needed")
    assert job.attempt == other.attempt == 1
    assert last(side, "job").message == "not needed"
    assert "somebody else has ended it" in caplog.text


def test_announced(side: Side) -> None:
    for run in ("1st", "2nd"):
        announce("job", run=run, url=side.url)
        sender_for(side.url, None).flush()
        assert last(side, "job").status == "queued"
        with Job("job", url=side.other_url, run=run):
            pass
        announce("job", run=run, url=side.url)  # the same, late
    announce("job", url=side.url)  # changes nothing: it has ended
    announce("other", status="cancelled", error="no more", url=side.url)
    sender_for(side.url, None).flush()
    course = [(state.attempt, state.status) for state in side.states("job")]
    assert course[0] == (1, "queued")
    assert course.count((1, "queued")) == course.count((2, "queued")) == 1
    assert course[-1] == (2, "succeeded")
    assert (last(side, "other").status, last(side, "other").error) == ("cancelled", "no more")


def test_away_and_back(side: Side, caplog: pytest.LogCaptureFixture) -> None:
    with Job("job", url=side.url, total=5) as job, Job("other", url=side.url):
        until(job, lambda: job.attempt)
        side.door.shut()
        job.advance(2)
        until(job, lambda: job._sender._outage.failures >= 3)
        job.advance()  # never raises, never blocks
        side.door.open()
        until(job, lambda: last(side, "job").done == 3)
    assert (last(side, "job").status, last(side, "job").attempt) == ("succeeded", 1)
    assert last(side, "other").status == "succeeded"
    away, back = logged(caplog)
    assert away.startswith(f"the gateway at {side.url} is away (")
    assert back.startswith(f"the gateway at {side.url} is back after ")


def test_an_end_while_it_is_away(
    side: Side, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "EXIT", 0.0)
    job = Job("job", url=side.url, timeout=0.2)
    with pytest.raises(ValueError, match="mine"), job:  # noqa: PT012 - the block is what is tested
        until(job, lambda: job.attempt)
        side.door.shut()
        raise ValueError("mine")
    assert not job.wait(0)
    assert "its end could not be delivered in time" in logged(caplog)[-1]
    side.door.open()
    until(job, lambda: job._report.delivered)
    assert last(side, "job").error == "ValueError: mine"


def test_it_hangs(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side.hasty, 0.05)
    with Job("job", url=side.url) as job:
        until(job, lambda: job.attempt)
        side.door.hold()
        job.update(done=1)
        until(job, lambda: job._sender._outage.failures >= 2)
        side.door.let_go()
    assert (last(side, "job").status, last(side, "job").done) == ("succeeded", 1)


def test_a_dead_connection_is_replaced_without_a_word(
    side: Side, caplog: pytest.LogCaptureFixture
) -> None:
    carrier = publisher.connect(side.url, None)
    for done in range(3):
        assert carrier.publish("job", {"done": done}).applied
    assert side.door.accepted == 1
    side.door.throw_out()
    assert carrier.publish("job", {"done": 3}).applied
    assert side.door.accepted == 2
    carrier.close()
    carrier.close()
    assert carrier.publish("job", {"done": 4}).applied
    carrier.close()


@pytest.mark.parametrize("method", ["os", "multiprocessing"])
def test_parent_and_child_go_on_as_one_attempt(side: Side, method: str) -> None:
    with Job("job", url=side.url, message="from the parent") as job:
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
        assert last(side, "job").message == "from the child"
        assert side.door.accepted == 2
        job.update(message="from the parent again")
    assert last(side, "job").message == "from the parent again"
    assert {state.attempt for state in side.states("job")} == {1}
    assert side.door.accepted == 2  # the parent's own was left alone


def test_forks_amid_heavy_use(side: Side) -> None:
    """Many forks while threads report as fast as they can and the sender sends."""
    stop = threading.Event()
    with Job("job", url=side.url) as job:

        def work() -> None:
            while not stop.is_set():
                job.advance()

        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()

        def child(i: int) -> None:
            with Job(f"child{i}", url=side.url) as mine:
                mine.update(done=i)
            job.advance()

        pids = [fork(lambda i=i: child(i)) for i in range(10)]  # type: ignore[misc]
        codes = [joined(pid) for pid in pids]
        stop.set()
        for thread in threads:
            thread.join(DEADLINE)
    assert codes == [0] * 10
    assert [last(side, f"child{i}").status for i in range(10)] == ["succeeded"] * 10
    assert last(side, "job").status == "succeeded"


def test_at_exit_what_is_due_is_sent(side: Side) -> None:
    code = (
        "from gateway import Job, announce\n"
        "a = Job('a'); a.update(done=1); a.update(message='last words')\n"
        "b = Job('b'); b.fail('gone')\n"
        "announce('c')\n"
    )
    result = python(code, GATEWAY_URL=side.url)
    assert (result.returncode, result.stderr) == (0, "")
    assert last(side, "a").message == "last words"
    assert last(side, "b").error == "gone"
    assert last(side, "c").status == "queued"


def test_in_asyncio(side: Side) -> None:
    """The loop goes on while the other side hangs; the end is waited for all the same."""
    ticks = 0

    async def main() -> None:
        nonlocal ticks
        async with asyncio.TaskGroup() as group:
            running = group.create_task(work())
            while not running.done():
                await asyncio.sleep(0)
                ticks += 1
                if ticks == 1_000:
                    side.door.let_go()

    async def work() -> None:
        async with Job("job", url=side.url) as job:
            side.door.hold()
            job.update(done=1)

    with asyncio.Runner(debug=True) as runner:
        runner.run(main())
    assert ticks >= 1_000
    assert (last(side, "job").status, last(side, "job").done) == ("succeeded", 1)


async def test_in_trio(side: Side) -> None:
    ticks = 0

    async def tick(work_is_done: trio.Event) -> None:
        nonlocal ticks
        while not work_is_done.is_set():
            await trio.lowlevel.checkpoint()
            ticks += 1
            if ticks == 1_000:
                side.door.let_go()

    with trio.fail_after(DEADLINE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tick, done := trio.Event())
            async with Job("job", url=side.url) as job:
                side.door.hold()
                job.update(done=1)
            done.set()
    assert ticks >= 1_000
    assert (last(side, "job").status, last(side, "job").done) == ("succeeded", 1)
