"""Scans for sets have a limited cost, and repair what the feed has lost."""

from __future__ import annotations

from typing import Any

import trio
from trio.testing import MockClock

from gateway.brokers.base import BROKER_RETRY_PAUSE, FEED_RESET
from gateway.brokers.memory import MemoryBroker
from gateway.model.errors import BrokerUnavailable
from gateway.model.limits import DEFAULT_LIMITS
from gateway.model.state import Update
from gateway.node.set_scanner import TIME_SHARE

from .brokers import LosingFeed, connected


class SlowBroker(MemoryBroker):
    """A broker whose list takes some seconds."""

    readings = 0
    takes = 1.0

    async def recent(self, *args: Any, **options: Any) -> Any:
        self.readings += 1
        await trio.sleep(self.takes)
        return await super().recent(*args, **options)


async def test_scans_for_new_sets_use_at_most_half_of_the_time(
    autojump_clock: MockClock,
) -> None:
    broker = SlowBroker()
    async with connected(broker) as (source, sink):
        await broker.publish("a0:1", Update(percent=5))
        for number in range(20):
            await source.send(type="watch_set", id=1, prefix=f"a{number % 7}:{number}")
            await trio.sleep(0.5)
        assert broker.readings <= 6
        await source.send(type="watch_set", id=2, prefix="a0:")
        await trio.sleep(4)
        assert sink.frames_of("set")[-1]["jobs"] == ["a0:1"]


async def test_regular_scans_use_at_most_their_share_of_the_time(
    autojump_clock: MockClock,
) -> None:
    broker = SlowBroker()
    async with connected(broker) as (source, _):
        await source.send(type="watch_set", prefix="a:")
        await trio.sleep(1)
        source.received_at = None  # from now on its silence means nothing
        await trio.sleep(60)
        broker.takes = 10
        await trio.sleep(60)
        before = broker.readings
        await trio.sleep(10 * (broker.takes + broker.takes / TIME_SHARE))
        assert 9 <= broker.readings - before <= 11
        broker.takes = 0
        await trio.sleep(20 / TIME_SHARE)
        before = broker.readings
        await trio.sleep(10 * DEFAULT_LIMITS.compare_interval)
        assert 8 <= broker.readings - before <= 12


class UnavailableOnce(MemoryBroker):
    """A broker that is unavailable for the first list."""

    readings = 0

    async def recent(self, *args: Any, **options: Any) -> Any:
        self.readings += 1
        if self.readings == 1:
            raise BrokerUnavailable("no answer")
        return await super().recent(*args, **options)


async def test_a_list_that_could_not_be_read_is_read_again_soon(
    autojump_clock: MockClock,
) -> None:
    broker = UnavailableOnce()
    async with connected(broker) as (source, sink):
        await broker.publish("a:1", Update(percent=5))
        await source.send(type="watch_set", prefix="a:")
        await trio.sleep(2 * BROKER_RETRY_PAUSE)
        assert [frame["jobs"] for frame in sink.frames_of("set")] == [["a:1"]]


async def test_after_a_loss_in_the_feed_sets_are_read_again_soon(
    autojump_clock: MockClock,
) -> None:
    broker = LosingFeed()
    async with connected(broker) as (source, sink):
        await source.send(type="watch_set", prefix="a:")
        await trio.sleep(1)
        await broker.publish("a:1", Update(percent=5))  # the feed loses it
        broker.feed_of.send_nowait(FEED_RESET)
        await trio.sleep(1)
        assert [frame["jobs"] for frame in sink.frames_of("set")] == [[], ["a:1"]]


async def test_a_scan_also_delivers_events_to_the_topics_of_jobs(
    autojump_clock: MockClock,
) -> None:
    """The page of the list is newer than what a client of the job has, so the client gets the newer
    state at once."""
    broker = LosingFeed()
    async with connected(broker) as (source, sink):
        await source.send(type="subscribe", jobs=["a:1"])
        await trio.sleep(1)
        await broker.publish("a:1", Update(percent=5))  # the feed loses it
        await source.send(type="watch_set", prefix="a:")
        await trio.sleep(1)
        assert sink.frames_of("progress")[-1]["state"]["percent"] == 5
