"""`on_tick` is called once and on time for each entry, whatever other entries there are, and
however late a tick is."""

from __future__ import annotations

import time

import pytest
import trio
from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from gateway.delivery.timer_wheel import SLOTS, TICK, TimerWheel

REVOLUTION = TICK * SLOTS


@define(eq=False)
class RateLimited:
    called_at: list[float] = field(factory=list)

    def on_tick(self) -> None:
        self.called_at.append(trio.current_time())


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 2 * REVOLUTION), st.floats(0, 4 * REVOLUTION), st.booleans()))
)
def test_each_entry_is_called_on_the_first_tick_after_its_time(
    plan: list[tuple[float, float, bool]],
) -> None:
    """`plan`: when each entry is scheduled, how long it waits, and whether it is cancelled
    half-way."""

    async def schedule(timer_wheel: TimerWheel, delay: float, wait: float, cancels: bool) -> None:
        await trio.sleep(delay)
        limited, until = RateLimited(), trio.current_time() + wait
        tick = timer_wheel.call_at(until, limited)
        if cancels:
            await trio.sleep(wait / 2)
            calls = list(limited.called_at)
            timer_wheel.cancel(limited, tick)
            await trio.sleep(wait + 2 * REVOLUTION)
            assert limited.called_at == calls
            assert not calls or calls[0] <= until
        else:
            await trio.sleep(wait + 2 * REVOLUTION)
            (called_at,) = limited.called_at
            assert -1e-9 <= called_at - until <= TICK + 1e-9

    async def main() -> None:
        timer_wheel = TimerWheel()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(timer_wheel.run)
            async with trio.open_nursery() as tasks:
                for delay, wait, cancels in plan:
                    tasks.start_soon(schedule, timer_wheel, delay, wait, cancels)
            assert repr(timer_wheel) == "<TimerWheel, 0 waiting>"
            nursery.cancel_scope.cancel()

    trio.run(main, clock=MockClock(autojump_threshold=0))


async def test_the_wheel_sleeps_while_nothing_is_scheduled(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """A wheel that does not sleep would make the clock jump from tick to tick: a day has 8,640,000
    ticks."""
    timer_wheel = TimerWheel()
    nursery.start_soon(timer_wheel.run)
    timer_wheel.call_at(1, RateLimited())
    began = time.monotonic()
    await trio.sleep(86_400)
    assert time.monotonic() - began < 5


async def test_a_late_tick_is_handled_once(mock_clock: MockClock, nursery: trio.Nursery) -> None:
    """The tick is late, and its entry was cancelled while other entries wait for the next tick."""
    timer_wheel = TimerWheel()
    nursery.start_soon(timer_wheel.run)
    tick = timer_wheel.call_at(TICK / 2, gone := RateLimited())
    await trio.testing.wait_all_tasks_blocked()
    mock_clock.jump(5.4 * TICK)
    timer_wheel.cancel(gone, tick)
    all_limited = RateLimited(), RateLimited()
    timer_wheel.call_at(5.5 * TICK, all_limited[0])
    await trio.testing.wait_all_tasks_blocked()
    timer_wheel.call_at(5.5 * TICK, all_limited[1])
    await trio.testing.wait_all_tasks_blocked()
    assert [limited.called_at for limited in all_limited] == [[], []]
    mock_clock.jump(TICK)
    await trio.testing.wait_all_tasks_blocked()
    assert [len(limited.called_at) for limited in all_limited] == [1, 1]
    assert not gone.called_at


@pytest.mark.parametrize("late", [3 * TICK, REVOLUTION + 3 * TICK])
async def test_missed_ticks_are_handled(
    late: float, mock_clock: MockClock, nursery: trio.Nursery
) -> None:
    """The scheduler may be delayed for longer than a revolution of the wheel."""
    timer_wheel = TimerWheel()
    nursery.start_soon(timer_wheel.run)
    all_limited = [RateLimited() for _ in range(SLOTS)]
    for number, limited in enumerate(all_limited):
        timer_wheel.call_at(number * TICK, limited)
    far = RateLimited()
    timer_wheel.call_at(late + TICK, far)
    await trio.testing.wait_all_tasks_blocked()
    mock_clock.jump(late)
    await trio.testing.wait_all_tasks_blocked()
    open_by_now = [bool(limited.called_at) for limited in all_limited]
    assert open_by_now == [number * TICK <= late for number in range(SLOTS)]
    assert not far.called_at
    mock_clock.jump(2 * TICK)
    await trio.testing.wait_all_tasks_blocked()
    assert far.called_at
