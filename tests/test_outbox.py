"""Marks are bounded and never block; answers wait; the end flushes and then is the end."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from gateway import Limits, endings
from gateway.metronome import Metronome
from gateway.outbox import Outbox
from gateway.protocol import encode
from gateway.topic import Subscription, Topic

PONG = encode("pong")


def subscription(outbox: Outbox) -> Subscription:
    return Subscription(Topic("job", 100, list[Topic]().append), outbox)


@pytest.fixture
async def outbox(nursery: trio.Nursery) -> Outbox:
    metronome = Metronome()
    nursery.start_soon(metronome.run)
    return Outbox(Limits(max_replies=2), metronome)


async def test_a_mark_is_handed_out_once_however_often_it_is_set(outbox: Outbox) -> None:
    first, second = subscription(outbox), subscription(outbox)
    for _ in range(100):
        outbox.mark(first)
        outbox.mark(second)
    assert (await outbox.receive()).due == [first, second]
    outbox.mark(second)
    assert (await outbox.receive()).due == [second]


async def test_an_unmarked_one_is_not_handed_out(outbox: Outbox) -> None:
    mark = subscription(outbox)
    outbox.mark(mark)
    outbox.unmark(mark)
    outbox.announce(PONG)
    assert (await outbox.receive()).due == []


async def test_answers_wait_for_room_and_announcements_do_not(outbox: Outbox) -> None:
    for _ in range(2):
        await outbox.room()
        outbox.reply(PONG)
    for _ in range(5):
        outbox.announce(PONG, ping=True)
    with trio.move_on_after(0) as scope:
        await outbox.room()
    assert scope.cancelled_caught

    batch = await outbox.receive()
    assert (len(batch.replies), batch.ping) == (7, True)
    assert outbox.pinged_at is not None
    await outbox.room()
    outbox.reply(PONG)
    assert not (await outbox.receive()).ping


async def test_the_end_delivers_what_is_queued_and_takes_nothing_more(outbox: Outbox) -> None:
    mark = subscription(outbox)
    outbox.pace(0.001)
    for _ in range(2):
        outbox.mark(mark)
        await outbox.room()
        outbox.reply(PONG)
        if not outbox.ending:
            outbox.end(endings.SILENT)
            outbox.end(endings.TOO_BIG)
        outbox.announce(PONG)
    batch = await outbox.receive()
    assert (batch.due, len(batch.replies)) == ([mark], 1)
    with pytest.raises(trio.EndOfChannel):
        await outbox.receive()
    assert outbox.ending is endings.SILENT
    assert "heartbeat" in repr(outbox)


async def test_a_paced_outbox_collects_and_answers_do_not_wait(
    outbox: Outbox, autojump_clock: MockClock
) -> None:
    outbox.pace(2)
    first, second = subscription(outbox), subscription(outbox)
    outbox.mark(first)
    assert (await outbox.receive()).due == [first]
    start = trio.current_time()
    outbox.mark(first)
    await outbox.room()
    outbox.reply(PONG)
    assert (await outbox.receive()).due == []
    assert trio.current_time() == start
    outbox.mark(second)
    assert (await outbox.receive()).due == [first, second]
    assert trio.current_time() - start == 0.5


async def test_another_pace_counts_from_now_on(outbox: Outbox, autojump_clock: MockClock) -> None:
    mark = subscription(outbox)
    start = trio.current_time()
    for max_hz, opens_after in (0.001, 0), (2, 0.5), (0.1, 10.5), (100, 10.51):
        outbox.pace(max_hz)
        outbox.mark(mark)
        await outbox.receive()
        assert trio.current_time() - start == pytest.approx(opens_after)


async def test_it_says_since_when_something_was_due(
    outbox: Outbox, autojump_clock: MockClock
) -> None:
    first, second = subscription(outbox), subscription(outbox)
    start = trio.current_time()
    outbox.mark(first)
    await trio.sleep(3)
    outbox.mark(second)
    assert (await outbox.receive()).since == start
    outbox.pace(0.1)  # what waits for that is not late
    outbox.mark(first)
    taken_at = trio.current_time()
    await outbox.receive()
    outbox.mark(second)
    assert (await outbox.receive()).since == taken_at + 10


async def test_a_cancelled_receive_has_taken_nothing(outbox: Outbox) -> None:
    mark = subscription(outbox)

    async def receive(scope: trio.CancelScope, got: list[Any]) -> None:
        with scope:
            got.append(await outbox.receive())

    scope, got = trio.CancelScope(), list[Any]()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive, scope, got)
        await trio.testing.wait_all_tasks_blocked()
        outbox.mark(mark)
        scope.cancel()
    if not got:
        got.append(await outbox.receive())
    assert got[0].due == [mark]
