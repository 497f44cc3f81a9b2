"""Paused processes and the clock of the simulation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from .scheduler import JumpingClock, let_processes_pause
from .threads import SimulatedProcess


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def with_pauses() -> None:
        let_processes_pause()
        await main()

    trio.run(with_pauses, clock=JumpingClock())


def test_the_clock_moves_to_the_next_deadline() -> None:
    times: list[float] = []

    async def main() -> None:
        async def sleep(seconds: float) -> None:
            await trio.sleep(seconds)
            times.append(trio.current_time())

        async with trio.open_nursery() as nursery:
            for seconds in (86_400, 0.25, 3):
                nursery.start_soon(sleep, seconds)

    run(main)
    assert times == [0.25, 3, 86_400]


def test_a_paused_process_continues_after_its_last_pause() -> None:
    times: dict[str, float] = {}
    received: list[tuple[float, str]] = []

    async def main() -> None:
        process = SimulatedProcess("paused", "seed")
        send, receive = trio.open_memory_channel[str](9)

        async def work() -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read)
                await trio.sleep(1)
                times["timer"] = trio.current_time()
                await trio.sleep(1)
                nursery.cancel_scope.cancel()

        async def read() -> None:
            text = await receive.receive()
            received.append((trio.current_time(), text))

        async def other() -> None:
            await trio.sleep(1)
            times["other"] = trio.current_time()
            send.send_nowait("x")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(process.run, work)
            nursery.start_soon(other)
            await trio.sleep(0.5)
            process.pause()
            process.pause()
            await trio.sleep(1)
            process.resume()
            await trio.sleep(1)
            process.resume()

    run(main)
    assert times == {"other": 1, "timer": 2.5}
    assert received == [(2.5, "x")]


def test_a_paused_process_can_be_killed() -> None:
    ended: list[float] = []

    async def main() -> None:
        process = SimulatedProcess("paused", "seed")

        async def run_process() -> None:
            await process.run(trio.sleep_forever)
            ended.append(trio.current_time())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run_process)
            await trio.sleep(1)
            process.pause()
            process.kill()

    run(main)
    assert ended == [1]
