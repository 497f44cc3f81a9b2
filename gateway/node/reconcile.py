"""Keeps a hub consistent with its broker, by reads in addition to the feed.

    load     reads the snapshots of jobs that clients have begun to watch
    refill   reads the history of jobs of which clients want every event
    check    compares topics with the broker from time to time, and after each loss
    expire   applies expired leases, and drops topics without subscribers

While the broker is unavailable they keep trying, and an unavailable shard does not delay the
others for long.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from random import Random

import trio

from ..brokers.base import BROKER_RETRY_PAUSE, Broker
from ..delivery.hub import Hub
from ..delivery.repairs import Repairs
from ..delivery.set_registry import SetRegistry
from ..model.errors import BrokerUnavailable
from ..model.limits import Limits
from ..model.state import UNSEEN, Position
from ..observability.counters import Counters

__all__ = ["Reconciler"]

log = logging.getLogger("gateway.node")

LOAD_BATCH = 500
"""Jobs per read from the broker: one short round trip."""
CONCURRENT_REFILLS = 8
"""Histories that are read concurrently: half of the calls that a Redis broker allows."""


class Reconciler:
    """The reconciler of one hub. Works while `run` is running."""

    def __init__(
        self,
        hub: Hub,
        sets: SetRegistry,
        broker: Broker,
        *,
        counters: Counters,
        limits: Callable[[], Limits],
        random: Random,
    ) -> None:
        self._hub = hub
        self._repairs = Repairs(hub)
        self._sets = sets
        self._broker = broker
        self._counters = counters
        self._limits = limits
        self._random = random
        self._compare_all = trio.Event()

    def compare_all_soon(self) -> None:
        """Compares all topics with the broker soon, because the feed may have lost events."""
        self._compare_all.set()

    async def run(self) -> None:
        """Runs until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._load)
            for _ in range(CONCURRENT_REFILLS):
                nursery.start_soon(self._refill)
            nursery.start_soon(self._check)
            nursery.start_soon(self._expire)

    async def _load(self) -> None:
        while True:
            requested = await self._repairs.next_loads(LOAD_BATCH)
            async with trio.open_nursery() as nursery:
                for jobs in self._broker.partition(list(requested)):
                    nursery.start_soon(self._load_partition, {job: requested[job] for job in jobs})

    async def _load_partition(self, requested: dict[str, Position]) -> None:
        try:
            events = await self._broker.read(list(requested))
            self._repairs.apply_loads(requested, events)
            self._sets.deliver(events.values())
        except BrokerUnavailable as error:
            log.debug("cannot read the states of %d jobs, trying again: %s", len(requested), error)
            await trio.sleep(BROKER_RETRY_PAUSE)
            self._repairs.retry_loads(requested)

    async def _refill(self) -> None:
        while True:
            topic = await self._repairs.next_refill()
            try:
                events = await self._broker.history(topic.job, after=UNSEEN)
            except BrokerUnavailable as error:
                log.warning("cannot read the history of job %s: %s", topic.job, error)
                self._repairs.apply_history(topic, None)
            else:
                self._repairs.apply_history(topic, events)

    async def _check(self) -> None:
        """Compares the topics with the broker at random intervals, and soon after a loss."""
        while True:
            pause = self._limits().compare_interval * self._random.uniform(0.8, 1.2)
            with trio.move_on_after(pause):
                await self._compare_all.wait()
            after_loss, self._compare_all = self._compare_all.is_set(), trio.Event()
            jobs = list(self._hub.topics)
            for start in range(0, len(jobs), LOAD_BATCH):
                topics = self._repairs.positions(jobs[start : start + LOAD_BATCH])
                async with trio.open_nursery() as nursery:
                    for partition in self._broker.partition(list(topics)):
                        positions = {job: topics[job] for job in partition}
                        nursery.start_soon(partial(self._compare, positions, after_loss=after_loss))

    async def _compare(self, topics: dict[str, Position], *, after_loss: bool) -> None:
        try:
            self._repairs.apply_comparison(topics, await self._broker.positions(list(topics)))
        except BrokerUnavailable as error:
            log.debug(
                "cannot compare %d jobs with the broker, trying again: %s", len(topics), error
            )
            await trio.sleep(BROKER_RETRY_PAUSE)
            if after_loss:
                self._compare_all.set()

    async def _expire(self) -> None:
        while True:
            await trio.sleep(self._limits().lease_check_interval)
            self._hub.evict_idle()
            self._sets.evict_idle()
            try:
                self._counters.leases_expired += await self._broker.expire_leases()
            except BrokerUnavailable as error:
                log.debug("cannot expire leases: %s", error)
