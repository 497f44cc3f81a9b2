"""The messages from a server process to the supervisor, and the detection of silence.

The clock jumps; the sockets are real, and `systemd.py` sends the messages, as in a server process.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from math import inf

import pytest
import trio
from trio.testing import MockClock

from gateway.cli.serve.supervisor_pipe import CHECKS_PER_TIMEOUT, START_FACTOR, SupervisorPipe
from gateway.cli.serve.systemd import keep_watchdog, notify

SILENCE = 10.0
LOOK = SILENCE / CHECKS_PER_TIMEOUT


class Received:
    """A supervisor pipe whose messages are received, and the server process's end of it."""

    def __init__(self) -> None:
        self.pipe = SupervisorPipe()
        self.end = os.dup(self.pipe.descriptor)
        self.environ = {
            "NOTIFY_SOCKET": f"fd://{self.end}",
            "WATCHDOG_USEC": str(int(2 * LOOK * 1_000_000)),
        }
        self.silent_at = inf
        """When the process had been silent for too long."""

    def send(self, word: str) -> None:
        notify(word, environ=self.environ)

    async def listen(self) -> None:
        async for _ in self.pipe.lines():
            pass

    async def wait(self) -> None:
        await self.pipe.wait_for_silence(SILENCE)
        self.silent_at = trio.current_time()


@asynccontextmanager
async def receive_messages() -> AsyncIterator[Received]:
    received = Received()
    with closing(received.pipe):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(received.listen)
            nursery.start_soon(received.wait)
            yield received
            nursery.cancel_scope.cancel()
        os.close(received.end)


async def test_a_process_that_sends_signs_of_life_is_kept_and_a_silent_one_is_not(
    autojump_clock: MockClock,
) -> None:
    async with receive_messages() as worker:
        with trio.move_on_after(1_000):
            await keep_watchdog(worker.environ)
        assert worker.silent_at == inf
        stopped_at = trio.current_time()
        await trio.sleep(SILENCE + LOOK)
        assert SILENCE - LOOK <= worker.silent_at - stopped_at <= SILENCE


async def test_a_loop_blocked_for_seconds_is_not_hanging(autojump_clock: MockClock) -> None:
    async with receive_messages() as worker:
        for _ in range(20):
            worker.send("WATCHDOG=1")
            await trio.sleep(SILENCE - 1.5 * LOOK)
        assert worker.silent_at == inf


@pytest.mark.parametrize("speaks", [True, False])
async def test_a_starting_process_may_be_silent_longer(
    autojump_clock: MockClock, speaks: bool
) -> None:
    async with receive_messages() as worker:
        began = trio.current_time()
        await trio.sleep(START_FACTOR * SILENCE - LOOK / 2)
        assert worker.silent_at == inf
        if speaks:
            worker.send("READY=1")
        await trio.sleep(LOOK)
        if speaks:
            assert worker.silent_at == inf
            await trio.sleep(SILENCE)
            assert worker.silent_at < inf
        else:
            assert worker.silent_at == pytest.approx(began + START_FACTOR * SILENCE)


async def test_a_draining_process_may_be_silent_longer(autojump_clock: MockClock) -> None:
    async with receive_messages() as worker:
        worker.send("READY=1")
        await trio.sleep(LOOK)
        worker.send("STOPPING=1")
        await trio.sleep(1_000)
        assert worker.silent_at == inf


async def test_a_suspended_supervisor_counts_as_one_check(
    autojump_clock: MockClock,
) -> None:
    async with receive_messages() as worker:
        worker.send("READY=1")
        await trio.sleep(SILENCE / 2)
        autojump_clock.jump(3_600)
        await trio.sleep(
            SILENCE / 4
        )  # processes that were suspended too may take that long to send a message
        assert worker.silent_at == inf
        worker.send("WATCHDOG=1")
        await trio.sleep(SILENCE - 1.5 * LOOK)
        assert worker.silent_at == inf
        await trio.sleep(2 * LOOK)
        assert worker.silent_at < inf


async def test_messages_of_the_process_arrive_one_by_one(autojump_clock: MockClock) -> None:
    worker = Received()
    words: list[str] = []

    async def receive() -> None:
        words.extend([word async for word in worker.pipe.lines()])

    with closing(worker.pipe):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            await trio.testing.wait_all_tasks_blocked()
            os.write(worker.end, b"RELOADING=1\nMONO")
            await trio.testing.wait_all_tasks_blocked()
            os.write(worker.end, b"TONIC_USEC=5\nREADY=1\n")
            os.close(worker.end)
    assert words == ["RELOADING=1", "MONOTONIC_USEC=5", "READY=1"]
