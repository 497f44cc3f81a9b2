"""Everyone is opened on time, once, whoever else waits and however late the beat is."""

from __future__ import annotations

import time

import pytest
import trio
from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from gateway.metronome import BEAT, SLOTS, Metronome

TURN = BEAT * SLOTS


@define(eq=False)
class Door:
    opened_at: list[float] = field(factory=list)

    def open(self) -> None:
        self.opened_at.append(trio.current_time())


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 2 * TURN), st.floats(0, 4 * TURN), st.booleans())))
def test_each_opens_on_the_first_beat_after_its_time(plan: list[tuple[float, float, bool]]) -> None:
    """`plan`: when each comes, how long it waits, and whether it is forgotten half-way."""

    async def come(metronome: Metronome, delay: float, wait: float, leaves: bool) -> None:
        await trio.sleep(delay)
        door, until = Door(), trio.current_time() + wait
        beat = metronome.open_at(until, door)
        if leaves:
            await trio.sleep(wait / 2)
            opened = list(door.opened_at)
            metronome.forget(door, beat)
            await trio.sleep(wait + 2 * TURN)
            assert door.opened_at == opened
            assert not opened or opened[0] <= until
        else:
            await trio.sleep(wait + 2 * TURN)
            (opened_at,) = door.opened_at
            assert -1e-9 <= opened_at - until <= BEAT + 1e-9

    async def main() -> None:
        metronome = Metronome()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(metronome.run)
            async with trio.open_nursery() as comers:
                for delay, wait, leaves in plan:
                    comers.start_soon(come, metronome, delay, wait, leaves)
            assert repr(metronome) == "<Metronome, 0 waiting>"
            nursery.cancel_scope.cancel()

    trio.run(main, clock=MockClock(autojump_threshold=0))


async def test_it_rests_when_nobody_waits(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """Else the clock would jump from beat to beat: a day has 8,640,000."""
    metronome = Metronome()
    nursery.start_soon(metronome.run)
    metronome.open_at(1, Door())
    began = time.monotonic()
    await trio.sleep(86_400)
    assert time.monotonic() - began < 5


async def test_a_beat_that_is_late_is_not_another_one(
    mock_clock: MockClock, nursery: trio.Nursery
) -> None:
    """Even if nobody waits for it any more, but others for the next."""
    metronome = Metronome()
    nursery.start_soon(metronome.run)
    beat = metronome.open_at(BEAT / 2, gone := Door())
    await trio.testing.wait_all_tasks_blocked()
    mock_clock.jump(5.4 * BEAT)
    metronome.forget(gone, beat)
    doors = Door(), Door()
    metronome.open_at(5.5 * BEAT, doors[0])
    await trio.testing.wait_all_tasks_blocked()
    metronome.open_at(5.5 * BEAT, doors[1])
    await trio.testing.wait_all_tasks_blocked()
    assert [door.opened_at for door in doors] == [[], []]
    mock_clock.jump(BEAT)
    await trio.testing.wait_all_tasks_blocked()
    assert [len(door.opened_at) for door in doors] == [1, 1]
    assert not gone.opened_at


@pytest.mark.parametrize("late", [3 * BEAT, TURN + 3 * BEAT])
async def test_what_was_missed_is_made_up_for(
    late: float, mock_clock: MockClock, nursery: trio.Nursery
) -> None:
    """A scheduler that was held up for longer than a turn, even."""
    metronome = Metronome()
    nursery.start_soon(metronome.run)
    doors = [Door() for _ in range(SLOTS)]
    for number, door in enumerate(doors):
        metronome.open_at(number * BEAT, door)
    far = Door()
    metronome.open_at(late + BEAT, far)
    await trio.testing.wait_all_tasks_blocked()
    mock_clock.jump(late)
    await trio.testing.wait_all_tasks_blocked()
    open_by_now = [bool(door.opened_at) for door in doors]
    assert open_by_now == [number * BEAT <= late for number in range(SLOTS)]
    assert not far.opened_at
    mock_clock.jump(2 * BEAT)
    await trio.testing.wait_all_tasks_blocked()
    assert far.opened_at
