"""Termination signals cancel the work."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from gateway.cli.signals import Stop


async def stopped_after(stop: Stop, *requests: tuple[float, bool]) -> float:
    """Seconds until the work is cancelled, if it is requested at those times."""
    began = trio.current_time()

    async def request() -> None:
        for at, at_once in requests:
            await trio.sleep_until(began + at)
            stop.request(at_once=at_once)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(request)
        with stop.scope:
            await trio.sleep_forever()
        nursery.cancel_scope.cancel()
    return trio.current_time() - began


async def test_without_a_delay_the_drain_starts_immediately(autojump_clock: MockClock) -> None:
    calls: list[str] = []
    stop = Stop(on_request=lambda: calls.append("requested"))
    assert await stopped_after(stop, (1, False)) == 1
    assert calls == []


async def test_during_the_delay_work_continues(autojump_clock: MockClock) -> None:
    calls: list[float] = []
    stop = Stop(5, on_request=lambda: calls.append(trio.current_time()))
    assert await stopped_after(stop, (1, False), (2, False), (4, False)) == 6
    assert len(calls) == 1


async def test_a_delay_can_be_cut_short(autojump_clock: MockClock) -> None:
    assert await stopped_after(Stop(5), (1, False), (2, True)) == 2
