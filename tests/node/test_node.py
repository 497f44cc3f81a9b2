"""A node with an unavailable broker: it recovers, reports that it is not ready, and drains."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from gateway import Limits, MemoryBroker, Node
from gateway.brokers.base import FEED_RESET
from gateway.model.errors import BrokerUnavailable
from gateway.model.state import Event, Position, State, Update
from gateway.node.connections import RECONNECT_WITHIN
from gateway.protocol import close_codes
from gateway.protocol.commands import WatchSet

from ..fakes import FakeSource, Sink


class AwayBroker(MemoryBroker):
    """A broker that does not answer for a while."""

    answers = False

    async def read(self, jobs: Sequence[str]) -> dict[str, Event]:
        await self._answer()
        return await super().read(jobs)

    async def expire_leases(self) -> int:
        await self._answer()
        return await super().expire_leases()

    async def history(self, job: str, **where: Any) -> list[Event]:
        await self._answer()
        return await super().history(job, **where)

    async def _answer(self) -> None:
        await trio.lowlevel.checkpoint()
        if not self.answers:
            raise BrokerUnavailable("away")


async def test_an_unavailable_broker_delays_events_and_loses_none(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    limits = Limits(job_replay_bytes=300)
    broker = AwayBroker(limits, clock=trio.current_time, monotonic=trio.current_time)
    node = Node(broker, limits=limits, name="n1")
    source, sink = FakeSource(), Sink()
    async with trio.open_nursery() as nursery:
        await nursery.start(node.run)
        nursery.start_soon(node.serve, source, sink)
        await broker.publish("a", Update(percent=1))
        await source.send(type="subscribe", jobs=["a"], mode="every")
        await trio.sleep(10)
        assert sink.frames_of("progress") == []
        broker.answers = True
        await trio.sleep(2)
        assert [frame["seq"] for frame in sink.frames_of("progress")] == [1]

        # Mode `every` needs the history, which is unavailable: the node's check brings it later.
        for percent in range(2, 10):
            await broker.publish("a", Update(percent=percent))
        await trio.sleep(1)
        broker.answers = False
        await broker.publish("a", Update(percent=10))  # the topic has dropped the events before
        late, late_sink = FakeSource(), Sink()
        nursery.start_soon(node.serve, late, late_sink)
        epoch = sink.frames_of("progress")[0]["epoch"]
        await late.send(type="hello", positions={"a": [epoch, 1]})
        await late.send(type="subscribe", jobs=["a"], mode="every")
        await trio.sleep(1)
        assert late_sink.frames_of("progress") == []
        broker.answers = True
        await trio.sleep(limits.compare_interval * 1.2 + 2)
        assert [frame["seq"] for frame in late_sink.frames_of("progress")] == list(range(2, 11))
        nursery.cancel_scope.cancel()
    assert "away" in caplog.text


@pytest.mark.parametrize("resumed", [False, True])
@pytest.mark.parametrize("by_name", [False, True])
@pytest.mark.parametrize("websocket", [False, True])
async def test_a_client_that_may_have_newer_states_waits_until_the_broker_was_read(
    websocket: bool, by_name: bool, resumed: bool, autojump_clock: MockClock
) -> None:
    """A client comes from another node without a position of this job. This node has a state, but
    cannot know whether the client had a newer one. A new client is sent it at once."""
    broker = AwayBroker(clock=trio.current_time, monotonic=trio.current_time)
    broker.answers = True
    node = Node(broker)
    await broker.publish("a:1", Update(percent=1))
    source, sink = FakeSource(), Sink()
    sets = () if by_name else (WatchSet(prefix="a:"),)
    jobs = {"a:1": None} if by_name else {}
    async with trio.open_nursery() as nursery:
        await nursery.start(node.run)
        nursery.start_soon(partial(node.serve, FakeSource(), Sink(), positions={"a:1": None}))
        await trio.sleep(1)
        broker.answers = False
        if websocket:
            nursery.start_soon(node.serve, source, sink)
            if resumed:
                await source.send(type="hello", positions={"other": [1, 1]})
            for command in sets:
                await source.send(type="watch_set", prefix=command.prefix)
            await source.send(type="subscribe", jobs=list(jobs))
        else:
            serve = partial(node.serve, source, sink, positions=jobs, sets=sets, resumed=resumed)
            nursery.start_soon(serve)
        await trio.sleep(1)
        assert len(sink.frames_of("progress")) == (not resumed)
        broker.answers = True
        await trio.sleep(3)
        assert [frame["snapshot"] for frame in sink.frames_of("progress")] == [True]
        await broker.publish("a:1", Update(percent=2))
        await trio.sleep(1)
        assert sink.frames_of("progress")[-1]["prev"] == 1
        nursery.cancel_scope.cancel()


async def test_readiness_depends_on_the_probe_and_the_broker(autojump_clock: MockClock) -> None:
    node = Node(MemoryBroker())
    assert node.not_ready_reason == "not running"
    async with trio.open_nursery() as nursery:
        await nursery.start(node.run)
        assert "ready" in repr(node)
        await node.drain()
        assert node.not_ready_reason == "draining"
        nursery.cancel_scope.cancel()
    assert "draining" in repr(node)


async def test_a_node_that_has_stopped_is_not_ready(autojump_clock: MockClock) -> None:
    node = Node(MemoryBroker())
    async with trio.open_nursery() as nursery:
        await nursery.start(node.run)
        await trio.sleep(1)
        assert node.not_ready_reason is None
        nursery.cancel_scope.cancel()
    assert node.not_ready_reason == "not running"


class DeafFeed(MemoryBroker):
    """A broker whose feed delivers nothing except `FEED_RESET` at times."""

    @asynccontextmanager
    async def feed(self, **options: Any) -> AsyncIterator[trio.abc.ReceiveChannel[Sequence[Event]]]:
        self.send, receive_channel = trio.open_memory_channel[Sequence[Event]](1)
        yield receive_channel


@pytest.mark.parametrize("reset", [True, False])
async def test_an_end_that_the_feed_has_lost_arrives(
    reset: bool, autojump_clock: MockClock
) -> None:
    broker = DeafFeed(clock=trio.current_time, monotonic=trio.current_time)
    node = Node(broker)
    source, sink = FakeSource(), Sink()
    async with trio.open_nursery() as nursery:
        await nursery.start(node.run)
        nursery.start_soon(node.serve, source, sink)
        await broker.publish("a", Update(percent=1))
        await source.send(type="subscribe", jobs=["a"])
        await trio.testing.wait_all_tasks_blocked()
        await broker.publish("a", Update(status="succeeded"))
        if reset:
            broker.send.send_nowait(FEED_RESET)
        else:
            assert len(sink.frames_of("progress")) == 1
            await trio.sleep(node.limits.compare_interval * 1.2)
        await trio.testing.wait_all_tasks_blocked()
        assert sink.frames_of("progress")[-1]["state"]["status"] == "succeeded"
        nursery.cancel_scope.cancel()


class SharedBroker(MemoryBroker):
    """A broker that other nodes may use too."""

    shared = True


class TestDrainWithOtherNodes:
    """A node that drains while others serve the same jobs."""

    async def test_a_client_is_served_until_it_has_reconnected_elsewhere(
        self, autojump_clock: MockClock
    ) -> None:
        broker = SharedBroker(clock=trio.current_time, monotonic=trio.current_time)
        node = Node(broker)
        source, sink = FakeSource(), Sink()
        async with trio.open_nursery() as nursery:
            await nursery.start(node.run)
            nursery.start_soon(node.serve, source, sink)
            await source.send(type="subscribe", jobs=["a"])
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(node.drain)
            await trio.sleep(1)
            (goaway,) = sink.frames_of("goaway")
            low, high = goaway["retry"]
            assert (
                0 == low < high < 1
            )  # it is the only client, so another node can accept it at once
            await broker.publish("a", Update(status="succeeded"))
            await trio.testing.wait_all_tasks_blocked()
            assert sink.frames_of("progress")[-1]["state"]["status"] == "succeeded"
            source.hang_up()
            await trio.testing.wait_all_tasks_blocked()
            assert sink.close_code is close_codes.NORMAL
            nursery.cancel_scope.cancel()

    @pytest.mark.slow
    @pytest.mark.parametrize("clients", [1, 100, 2_000])
    async def test_remaining_clients_are_disconnected_at_the_end_of_the_drain(
        self, clients: int, autojump_clock: MockClock
    ) -> None:
        node = Node(SharedBroker(clock=trio.current_time, monotonic=trio.current_time))
        sinks = [Sink() for _ in range(clients)]
        async with trio.open_nursery() as nursery:
            await nursery.start(node.run)
            for sink in sinks:
                nursery.start_soon(node.serve, FakeSource(), sink)
            await trio.testing.wait_all_tasks_blocked()
            began = trio.current_time()
            await node.drain()
            took = trio.current_time() - began
            nursery.cancel_scope.cancel()
        assert all(sink.close_code is close_codes.GOING_AWAY for sink in sinks)
        window = sinks[0].frames_of("goaway")[0]["retry"][1]
        assert took == pytest.approx(window + RECONNECT_WITHIN, abs=0.01)
        # As fast as another node accepts them, or, if there are very many, within half of the time.
        assert window == pytest.approx(clients / 400, abs=0.001)

    async def test_a_short_drain_waits_a_quarter_of_its_time_for_reconnects(
        self, autojump_clock: MockClock
    ) -> None:
        limits = Limits(shutdown_timeout=4.0)
        node = Node(
            SharedBroker(clock=trio.current_time, monotonic=trio.current_time), limits=limits
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(node.run)
            nursery.start_soon(node.serve, FakeSource(), Sink())
            await trio.testing.wait_all_tasks_blocked()
            began = trio.current_time()
            await node.drain()
            assert trio.current_time() - began == pytest.approx(1, abs=0.01)
            nursery.cancel_scope.cancel()


class HalfAwayBroker(DeafFeed):
    """A broker of two servers, each with half of the jobs, of which one does not answer."""

    answers = False

    def partition(self, jobs: Sequence[str]) -> list[list[str]]:
        away = [job for job in jobs if job.startswith("away")]
        return [part for part in (away, [job for job in jobs if job not in away]) if part]

    async def read(self, jobs: Sequence[str]) -> dict[str, Event]:
        await self._answer(jobs)
        return await super().read(jobs)

    async def positions(self, jobs: Sequence[str]) -> dict[str, Position]:
        await self._answer(jobs)
        return await super().positions(jobs)

    async def _answer(self, jobs: Sequence[str]) -> None:
        await trio.lowlevel.checkpoint()
        if not self.answers and any(job.startswith("away") for job in jobs):
            raise BrokerUnavailable("half of it is away")


async def test_an_unavailable_shard_does_not_affect_jobs_of_others(
    autojump_clock: MockClock,
) -> None:
    broker = HalfAwayBroker(clock=trio.current_time, monotonic=trio.current_time)
    node = Node(broker)
    source, sink = FakeSource(), Sink()
    async with trio.open_nursery() as nursery:
        await nursery.start(node.run)
        nursery.start_soon(node.serve, source, sink)
        await source.send(type="subscribe", jobs=["away", "here"])
        await trio.testing.wait_all_tasks_blocked()
        await source.send(type="subscribe", jobs=["away:2", "here:2"])
        await trio.sleep(2)
        assert [frame["job"] for frame in sink.frames_of("progress")] == ["here", "here:2"]

        await broker.publish("here", Update(percent=1))  # for which the feed delivers nothing
        await trio.sleep(node.limits.compare_interval * 1.2 + 2)
        assert [frame["job"] for frame in sink.frames_of("progress")][2:] == ["here"]
        broker.answers = True
        await trio.sleep(2)
        assert {frame["job"] for frame in sink.frames_of("progress")[3:]} == {"away", "away:2"}
        nursery.cancel_scope.cancel()


async def test_the_age_of_each_event_of_a_batch_is_observed(autojump_clock: MockClock) -> None:
    """An old event before a new one in a batch is counted, because an alert depends on it."""
    broker = DeafFeed()
    node = Node(broker)
    now = time.time()
    batch = [
        Event(
            "a", Position(1, seq), State(status="running", attempt=1, created_at=at, updated_at=at)
        )
        for seq, at in enumerate((now - 60, now - 60, now), start=1)
    ]
    async with trio.open_nursery() as nursery:
        await nursery.start(node.run)
        await broker.send.send(batch)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    age = node.counters.event_ages
    assert (sum(age.counts), age.counts[-1]) == (3, 2)
    assert 119 < age.total < 200
