"""One task for all clients, and still each has its own deadlines. (What a client hears of
it is in `test_connection.py`.)"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
from attrs import define
from trio.testing import MockClock

from gateway import Limits, endings
from gateway.heartbeat import Heartbeat
from gateway.outbox import Outbox

LIMITS = Limits(ping_after=2, pong_within=10)


@define
class Client:
    heard_at: float | None


@pytest.fixture
async def heartbeat(autojump_clock: MockClock) -> AsyncIterator[Heartbeat]:
    heartbeat = Heartbeat(LIMITS)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(heartbeat.run)
        yield heartbeat
        nursery.cancel_scope.cancel()


async def test_who_comes_later_may_be_due_sooner(
    autojump_clock: MockClock, heartbeat: Heartbeat
) -> None:
    start = trio.current_time()
    first, second = Outbox(LIMITS), Outbox(LIMITS)
    heartbeat.add(Client(start), first)
    assert (await first.receive()).ping  # from now on it is waited for, for ten seconds
    assert trio.current_time() - start == 2
    heartbeat.add(Client(trio.current_time()), second)
    assert (await second.receive()).ping
    assert trio.current_time() - start == 4
    with pytest.raises(trio.EndOfChannel):
        await first.receive()
    assert (trio.current_time() - start, first.ending) == (12, endings.SILENT)


async def test_who_has_gone_is_not_kept(autojump_clock: MockClock, heartbeat: Heartbeat) -> None:
    outbox = Outbox(LIMITS)
    number = heartbeat.add(Client(trio.current_time()), outbox)
    heartbeat.remove(number)
    heartbeat.remove(number)
    assert repr(heartbeat) == "<Heartbeat of 0>"
    await trio.sleep(60)
    assert outbox.ending is None
