"""`async with`: asyncio, Trio, neither; the loop is never blocked, and the end is delivered."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Coroutine
from types import ModuleType
from typing import Any, TypeVar

import pytest
import trio

from gateway.worker import Job, process_state
from gateway.worker.publisher import PublishResult, Unreachable
from gateway.worker.waiting import running_loop, wait_until

from .fake import FakePublisher, until
from .fake_gateway import DEADLINE, FakeGateway
from .forking import python

T = TypeVar("T")


@pytest.mark.parametrize("names", [(), ("current_async_library",)])
def test_a_module_that_is_being_imported_is_not_used(
    names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("sniffio", "trio", "trio.lowlevel", "asyncio", "multiprocessing.process"):
        unfinished = ModuleType(module)
        for name in names:
            setattr(unfinished, name, pytest.fail)
        monkeypatch.setitem(sys.modules, module, unfinished)
    assert running_loop() is None
    process_state.flush_at_child_exit()


async def test_a_trio_block_waits_for_the_end(fake: FakePublisher) -> None:
    async with Job("job", url=fake.url) as job:
        job.update(done=1)
    assert job.wait(0)
    assert fake.updates[-1]["status"] == "succeeded"


async def test_trio_is_not_blocked_and_a_cancellation_does_not_shorten_the_wait(
    fake: FakePublisher,
) -> None:
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def work() -> None:
                async with Job("job", url=fake.url) as job:
                    await trio.to_thread.run_sync(until, job, lambda: job.attempt)
                    fake.requests_allowed.clear()
                    scope.cancel()
                    await trio.sleep_forever()

            # Not cancelled, so it runs while the block waits for the delivery.
            with trio.CancelScope(shield=True), trio.fail_after(DEADLINE):
                await trio.to_thread.run_sync(fake.started_requests.acquire)
                await trio.to_thread.run_sync(fake.started_requests.acquire)
            fake.requests_allowed.set()
    assert scope.cancelled_caught
    assert fake.updates[-1]["status"] == "cancelled"


async def test_trio_raises_the_exception_of_the_block(fake: FakePublisher) -> None:
    error = ValueError("mine")
    with pytest.raises(ValueError, match="mine") as caught:
        async with Job("job", url=fake.url):
            raise error
    assert caught.value is error
    assert fake.updates[-1]["error"] == "ValueError: mine"


async def test_a_nursery_inside_a_block_works(fake: FakePublisher) -> None:
    async def fail() -> None:
        raise OSError("disk")

    with pytest.raises(ExceptionGroup):  # noqa: PT012 - the block is what is tested
        async with Job("job", url=fake.url), trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            nursery.start_soon(fail)
    assert fake.updates[-1]["error"] == "OSError: disk"


def run(main: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(debug=True) as runner:
        return runner.run(main)


@pytest.mark.usefixtures("fake")
def test_an_asyncio_block_waits_for_the_end(fake: FakePublisher) -> None:
    async def main() -> None:
        async with Job("job", url=fake.url) as job:
            job.update(done=1)
        assert job.wait(0)

    run(main())
    assert fake.updates[-1]["status"] == "succeeded"


def test_asyncio_is_not_blocked_and_a_cancellation_does_not_shorten_the_wait(
    fake: FakePublisher,
) -> None:
    async def work(running: asyncio.Event) -> None:
        async with Job("job", url=fake.url) as job:
            await asyncio.to_thread(until, job, lambda: job.attempt)
            fake.requests_allowed.clear()
            running.set()
            await asyncio.Event().wait()

    async def main() -> None:
        running = asyncio.Event()
        task = asyncio.create_task(work(running))
        await running.wait()
        for _ in range(2):
            await asyncio.to_thread(fake.started_requests.acquire)
            task.cancel()  # the first in the block, the second while it waits
        for _ in range(5):
            await asyncio.sleep(0)
        assert not task.done()
        fake.requests_allowed.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())
    assert fake.updates[-1]["status"] == "cancelled"


def hanging_job(fake: FakePublisher) -> Job:
    """Returns a job whose plain block has ended while its gateway did not answer."""
    fake.requests_allowed.clear()
    with Job("job", url=fake.url, timeout=3_600) as job:
        job.update(done=1)
    assert not job.wait(0)
    fake.requests_allowed.set()
    return job


def test_a_plain_block_does_not_block_asyncio(fake: FakePublisher) -> None:
    async def cell() -> Job:  # of a notebook, say, whose kernel runs a loop
        return hanging_job(fake)

    assert run(cell()).wait(DEADLINE)
    assert fake.updates[-1]["status"] == "succeeded"


async def test_a_plain_block_does_not_block_trio(fake: FakePublisher) -> None:
    job = hanging_job(fake)
    assert await trio.to_thread.run_sync(job.wait, DEADLINE)
    assert fake.updates[-1]["status"] == "succeeded"


IN_TRIO_ASYNCIO = """
import asyncio, trio, trio_asyncio
from gateway.worker import Job
from gateway.worker.waiting import running_loop

async def in_asyncio():
    async with Job("asyncio"):
        print(running_loop())
        await asyncio.sleep(0)
    await trio_asyncio.trio_as_aio(in_trio)("trio:again")

async def in_trio(name):
    async with Job(name):
        print(running_loop())
        await trio.sleep(0)

async def main():
    async with trio_asyncio.open_loop():
        await in_trio("trio")
        await trio_asyncio.aio_as_trio(in_asyncio)()

trio.run(main)
"""


def test_trio_asyncio_uses_the_loop_of_the_caller(fake_gateway: FakeGateway) -> None:
    result = python(IN_TRIO_ASYNCIO, PROGRESS_GATEWAY_URL=fake_gateway.url)
    assert (result.returncode, result.stdout) == (0, "trio\nasyncio\ntrio\n"), result.stderr
    for job in ("trio", "asyncio", "trio:again"):
        assert [got.fields["status"] for got in fake_gateway.ends(job)] == ["succeeded"]


@pytest.mark.parametrize("error", [None, ValueError("mine")])
def test_asyncio_raises_a_cancellation_after_the_wait(
    fake: FakePublisher, error: Exception | None
) -> None:
    """The cancellation is raised after the wait, unless the block has its own exception."""

    async def work() -> None:
        async with Job("job", url=fake.url):
            fake.requests_allowed.clear()
            if error is not None:
                raise error

    async def main() -> None:
        task = asyncio.create_task(work())
        await asyncio.to_thread(fake.started_requests.acquire)
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
        fake.requests_allowed.set()
        with pytest.raises((asyncio.CancelledError, ValueError)) as caught:
            await task
        assert caught.type is (asyncio.CancelledError if error is None else ValueError)

    run(main())
    assert fake.updates[-1]["status"] == ("succeeded" if error is None else "failed")


def test_asyncio_does_not_wait_in_a_long_outage(fake: FakePublisher) -> None:
    fake.default_result = Unreachable("refused")

    async def main() -> None:
        async with Job("job", url=fake.url) as job:
            await asyncio.to_thread(until, job, lambda: job._sender._queue.outage.failures)
            job._sender._queue.outage.began_at = time.monotonic() - 10.1
            start = time.monotonic()
        assert time.monotonic() - start < 1.0
        assert not job._report.closed
        fake.default_result = PublishResult(1, True)
        assert job.wait()

    run(main())


def refuse(*_: object, **__: object) -> None:
    raise RuntimeError("can't start new thread")


async def test_trio_uses_no_thread_to_wait(
    fake: FakePublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Job("job", url=fake.url)
    async with job:
        await trio.to_thread.run_sync(until, job, lambda: job.attempt)
        monkeypatch.setattr(trio.to_thread, "run_sync", refuse)
    assert job.wait(0)


def test_asyncio_uses_no_thread_to_wait(
    fake: FakePublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        with monkeypatch.context() as patch:
            async with Job("job", url=fake.url) as job:
                await asyncio.to_thread(until, job, lambda: job.attempt)
                patch.setattr(threading.Thread, "start", refuse)
            assert job.wait(0)

    run(main())


def test_without_a_thread_there_is_no_wait(
    fake: FakePublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            start = time.monotonic()
            async with Job("job", url=fake.url) as job:
                pass
            assert time.monotonic() - start < 1.0
        assert job.wait()

    run(main())


async def test_a_jump_of_the_loops_clock_does_not_end_the_wait(
    fake: FakePublisher, autojump_clock: trio.testing.MockClock
) -> None:
    """The gateway needs real time, also if a test controls the loop's clock."""
    async with Job("job", url=fake.url) as job:
        job.update(done=1)
    assert job.wait(0)


@pytest.mark.parametrize("missing", ["asyncio", "trio"])
def test_without_a_loop_the_wait_blocks(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, missing)
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    coroutine = wait_until(lambda: len(slept) == 9, DEADLINE, keep_cancellation=True)
    with pytest.raises(StopIteration):
        coroutine.send(None)
    assert slept == [0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.1, 0.1]


async def test_the_condition_is_polled_until_the_timeout() -> None:
    start = time.monotonic()
    await wait_until(lambda: False, 0.01, keep_cancellation=True)
    assert 0.01 <= time.monotonic() - start < DEADLINE
