"""The canary comes back while all is well; when it does not, clients and balancers know."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
import trio
from attrs import define, field
from trio.testing import MockClock

from gateway import MemoryBroker, Node
from gateway.auth.patterns import EVERY_JOB
from gateway.broker import Receipt
from gateway.errors import BrokerUnavailable
from gateway.job import Event, Update

from .fakes import FakeSource, Sink


class FaultyBroker(MemoryBroker):
    """A broker whose parts can fail, each in its way, without a word."""

    deaf = False
    """Its feed brings nothing."""
    refuses = False
    hangs = False

    async def publish(self, job: str, update: Update) -> Receipt:
        if self.refuses:
            raise BrokerUnavailable("refused")
        if self.hangs:
            await trio.sleep_forever()
        return await super().publish(job, update)

    @asynccontextmanager
    async def feed(self) -> AsyncIterator[trio.abc.ReceiveChannel[Sequence[Event]]]:
        async with super().feed() as feed:
            yield _Muffled(self, feed)


@define
class _Muffled(trio.abc.ReceiveChannel[Sequence[Event]]):
    broker: FaultyBroker
    feed: trio.abc.ReceiveChannel[Sequence[Event]] = field()

    async def receive(self) -> Sequence[Event]:
        while True:
            events = await self.feed.receive()
            if not self.broker.deaf:
                return events

    async def aclose(self) -> None:
        await self.feed.aclose()


@pytest.fixture
def broker() -> FaultyBroker:
    return FaultyBroker(clock=trio.current_time, monotonic=trio.current_time)


async def test_all_is_well(broker: FaultyBroker, autojump_clock: MockClock) -> None:
    node = Node(broker, name="n")
    assert "in time" in repr(node.canary)
    async with trio.open_nursery() as nursery:
        await nursery.start(node.run)
        await trio.sleep(1000)
        assert "ready" in repr(node)
        assert (node.canary.round_trip, node.canary.out_for) == (0, 0)
        assert (await broker.recent(EVERY_JOB, limit=9, after=None)).events == []
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("fault", ["deaf", "refuses", "hangs"])
async def test_a_fault_that_nobody_reports_is_noticed_and_told_once(
    fault: str, broker: FaultyBroker, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "gateway.node")
    node = Node(broker, name="n")
    source, sink = FakeSource(), Sink()
    source.heard_at = None  # it cannot be heard, so its silence means nothing
    async with trio.open_nursery() as nursery:
        await nursery.start(node.run)
        nursery.start_soon(node.serve, source, sink)
        await trio.sleep(17)
        setattr(broker, fault, True)
        before = trio.current_time()
        await trio.sleep(node.limits.canary_every + node.limits.canary_late + 2)
        assert node.not_ready == "behind its feed"
        assert node.canary.out_for > node.limits.canary_late
        await trio.sleep(100)
        late, told = FakeSource(), Sink()
        nursery.start_soon(node.serve, late, told)
        setattr(broker, fault, False)
        await trio.sleep(node.limits.canary_every + node.limits.canary_late + 2)
        assert "ready" in repr(node)
        nursery.cancel_scope.cancel()
    assert [frame["stale"] for frame in sink.of("feed")] == [True, False]
    assert sink.times[sink.frames.index(sink.of("feed")[0])] <= before + 12
    assert sink.ending is None
    # Whoever comes meanwhile is told in the welcome.
    assert "stale" not in sink.of("welcome")[0]
    assert told.of("welcome")[0]["stale"] is True
    assert [frame["stale"] for frame in told.of("feed")] == [False]
    told_log = [record.getMessage() for record in caplog.records]
    assert [text for text in told_log if text != "ended"] == [
        "what clients see may be stale: this node is behind its feed",
        "fresh again",
    ]
