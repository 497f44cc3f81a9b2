"""The states that the reconciler reads reach all topics and sets that lack them, also after a
failed read."""

from __future__ import annotations

from collections.abc import Sequence

import trio
from trio.testing import MockClock

from gateway.brokers.base import BROKER_RETRY_PAUSE, FEED_RESET
from gateway.model.errors import BrokerUnavailable
from gateway.model.state import Position, Update

from .brokers import LosingFeed, connected


async def test_the_state_of_a_loaded_job_also_updates_the_sets(autojump_clock: MockClock) -> None:
    broker = LosingFeed()
    async with connected(broker) as (source, sink):
        await source.send(type="watch_set", prefix="a:")
        await trio.sleep(1)
        await broker.publish("a:1", Update(percent=5))  # the feed loses it
        await source.send(type="subscribe", jobs=["a:1"])
        await trio.sleep(1)
        assert [frame["jobs"] for frame in sink.frames_of("set")] == [[], ["a:1"]]


class UncomparedOnce(LosingFeed):
    """A broker that is unavailable for the first comparison of positions."""

    comparisons = 0

    async def positions(self, jobs: Sequence[str]) -> dict[str, Position]:
        self.comparisons += 1
        if self.comparisons == 1:
            raise BrokerUnavailable("no answer")
        return await super().positions(jobs)


async def test_a_failed_comparison_after_a_loss_is_repeated_soon(autojump_clock: MockClock) -> None:
    broker = UncomparedOnce()
    async with connected(broker) as (source, sink):
        await broker.publish("a", Update(percent=1))
        await source.send(type="subscribe", jobs=["a"])
        await trio.sleep(1)
        await broker.publish("a", Update(percent=2))  # the feed loses it
        broker.feed_of.send_nowait(FEED_RESET)
        await trio.sleep(BROKER_RETRY_PAUSE + 1)
        assert [frame["seq"] for frame in sink.frames_of("progress")] == [1, 2]
