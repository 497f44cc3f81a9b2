"""The probe returns while the feed works; otherwise clients and load balancers are informed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from attrs import define, field
from trio.testing import MockClock

from gateway import MemoryBroker, Node
from gateway.brokers.base import PublishResult
from gateway.model.errors import BrokerUnavailable
from gateway.model.patterns import EVERY_JOB
from gateway.model.state import Event, Update

from ..fakes import FakeSource, Sink


class FaultyBroker(MemoryBroker):
    """A broker whose parts can fail separately, without an error."""

    drops_events = False
    """Whether the feed of the broker drops all events."""
    refuses = False
    hangs = False

    async def publish(self, job: str, update: Update, **options: Any) -> PublishResult:
        if self.refuses:
            raise BrokerUnavailable("refused")
        if self.hangs:
            await trio.sleep_forever()
        return await super().publish(job, update, **options)

    @asynccontextmanager
    async def feed(self, **options: Any) -> AsyncIterator[trio.abc.ReceiveChannel[Sequence[Event]]]:
        async with super().feed(**options) as feed:
            yield _LossyFeed(self, feed)


@define
class _LossyFeed(trio.abc.ReceiveChannel[Sequence[Event]]):
    broker: FaultyBroker
    feed: trio.abc.ReceiveChannel[Sequence[Event]] = field()

    async def receive(self) -> Sequence[Event]:
        while True:
            events = await self.feed.receive()
            if not self.broker.drops_events:
                return events

    async def aclose(self) -> None:
        await self.feed.aclose()


@pytest.fixture
def broker() -> FaultyBroker:
    return FaultyBroker(clock=trio.current_time, monotonic=trio.current_time)


async def test_a_successful_probe_means_ready(
    broker: FaultyBroker, autojump_clock: MockClock
) -> None:
    node = Node(broker, name="n")
    assert "in time" in repr(node.probe)
    async with trio.open_nursery() as nursery:
        await nursery.start(node.run)
        await trio.sleep(1000)
        assert "ready" in repr(node)
        assert (node.probe.round_trip, node.probe.pending_for) == (0, 0)
        assert (await broker.recent(EVERY_JOB, limit=9, after=None)).events == []
        nursery.cancel_scope.cancel()


class LostBroker(MemoryBroker):
    """A broker that may be unavailable, and reports that."""

    reason: str | None = None

    @property
    def unavailable_reason(self) -> str | None:  # type: ignore[override]  # a property
        return self.reason


async def test_a_client_that_connects_after_a_loss_gets_stale_in_the_welcome(
    autojump_clock: MockClock,
) -> None:
    broker = LostBroker(clock=trio.current_time, monotonic=trio.current_time)
    node = Node(broker, name="n")
    first_sink, comes = Sink(), Sink()
    async with trio.open_nursery() as nursery:
        await nursery.start(node.run)
        nursery.start_soon(node.serve, FakeSource(), first_sink)
        await trio.sleep(0.5)
        broker.reason = "connection lost"
        nursery.start_soon(node.serve, FakeSource(), comes)
        await trio.testing.wait_all_tasks_blocked()
        broker.reason = None
        await trio.sleep(2)
        nursery.cancel_scope.cancel()
    assert comes.frames_of("welcome")[0]["stale"] is True
    assert [frame["stale"] for frame in comes.frames_of("feed")] == [False]
    assert [frame["stale"] for frame in first_sink.frames_of("feed")] == [True, False]


@pytest.mark.parametrize("fault", ["drops_events", "refuses", "hangs"])
async def test_a_fault_that_the_broker_does_not_report_is_detected_once(
    fault: str, broker: FaultyBroker, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "gateway.node")
    node = Node(broker, name="n")
    source, sink = FakeSource(), Sink()
    # The transport reports no pongs, so a missing message does not end the connection.
    source.received_at = None
    async with trio.open_nursery() as nursery:
        await nursery.start(node.run)
        nursery.start_soon(node.serve, source, sink)
        await trio.sleep(17)
        setattr(broker, fault, True)
        before = trio.current_time()
        await trio.sleep(node.limits.probe_interval + node.limits.probe_timeout + 2)
        assert node.not_ready_reason == "its feed delivers events too late"
        assert node.probe.pending_for > node.limits.probe_timeout
        await trio.sleep(100)
        late, late_sink = FakeSource(), Sink()
        nursery.start_soon(node.serve, late, late_sink)
        setattr(broker, fault, False)
        await trio.sleep(node.limits.probe_interval + node.limits.probe_timeout + 2)
        assert "ready" in repr(node)
        nursery.cancel_scope.cancel()
    assert [frame["stale"] for frame in sink.frames_of("feed")] == [True, False]
    assert sink.times[sink.frames.index(sink.frames_of("feed")[0])] <= before + 12
    assert sink.close_code is None
    # A client that connects meanwhile gets it in the welcome.
    assert "stale" not in sink.frames_of("welcome")[0]
    assert late_sink.frames_of("welcome")[0]["stale"] is True
    assert [frame["stale"] for frame in late_sink.frames_of("feed")] == [False]
    logged = [record.getMessage() for record in caplog.records]
    assert [text for text in logged if text != "connection closed"] == [
        "data may be stale: its feed delivers events too late",
        "data are up to date again; they may have been stale: its feed delivers events too late",
    ]


async def test_the_probe_is_sent_as_soon_as_the_feed_recovers(
    broker: FaultyBroker, autojump_clock: MockClock
) -> None:
    """The node becomes ready when the feed recovers, and a probe that was lost before does not make
    it unready again."""
    node = Node(broker, name="n")
    async with trio.open_nursery() as nursery:
        await nursery.start(node.run)
        await trio.sleep(16)
        broker.drops_events = True
        await trio.sleep(11)
        assert node.not_ready_reason == "its feed delivers events too late"
        broker.drops_events = False
        node.probe.reset_after_outage()
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(30):
            assert "ready" in repr(node)
            await trio.sleep(1)
        nursery.cancel_scope.cancel()


async def test_a_refused_probe_is_repeated_soon(
    broker: FaultyBroker, autojump_clock: MockClock
) -> None:
    node = Node(broker, name="n")
    async with trio.open_nursery() as nursery:
        await nursery.start(node.run)
        broker.refuses = True
        await trio.sleep(20)
        assert node.not_ready_reason == "its feed delivers events too late"
        broker.refuses = False
        await trio.sleep(0.6)
        assert "ready" in repr(node)
        nursery.cancel_scope.cancel()
