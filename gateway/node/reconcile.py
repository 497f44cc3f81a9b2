"""Keeps a hub consistent with its broker, beyond what the feed brings.

    load     reads the snapshots of jobs that clients have begun to watch
    refill   reads the history of jobs of which clients want every event
    check    compares topics with the broker from time to time, and after each loss
    expire   applies expired leases, and drops topics without subscribers

While the broker is unavailable they keep trying, and an unavailable part of it does not delay the
others for long.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from random import Random

import trio

from ..brokers.base import Broker
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
REFILLS_AT_ONCE = 8
"""Histories that are read at the same time: half of the calls that a Redis broker allows."""
RETRY_EVERY = 1.0
"""Seconds between attempts while the broker is unavailable."""


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
        self._lost = trio.Event()

    def lost(self) -> None:
        """The feed reports that events may be missing: compare all topics soon."""
        self._lost.set()

    async def run(self) -> None:
        """Run until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._load)
            for _ in range(REFILLS_AT_ONCE):
                nursery.start_soon(self._refill)
            nursery.start_soon(self._check)
            nursery.start_soon(self._expire)

    async def _load(self) -> None:
        while True:
            requested = await self._repairs.next_loads(LOAD_BATCH)
            async with trio.open_nursery() as nursery:
                for part in self._broker.partition(list(requested)):
                    nursery.start_soon(self._load_part, {job: requested[job] for job in part})

    async def _load_part(self, requested: dict[str, Position]) -> None:
        try:
            found = await self._broker.read(list(requested))
            self._repairs.apply_loads(requested, found)
            self._sets.deliver(found.values())
        except BrokerUnavailable as error:
            log.debug("cannot read the states of %d jobs, trying again: %s", len(requested), error)
            await trio.sleep(RETRY_EVERY)
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
        """Compare the topics with the broker: at a random time, but soon after a loss."""
        while True:
            pause = self._limits().compare_interval * self._random.uniform(0.8, 1.2)
            with trio.move_on_after(pause):
                await self._lost.wait()
            lost, self._lost = self._lost.is_set(), trio.Event()
            jobs = list(self._hub.topics)
            for start in range(0, len(jobs), LOAD_BATCH):
                topics = self._repairs.positions(jobs[start : start + LOAD_BATCH])
                async with trio.open_nursery() as nursery:
                    for part in self._broker.partition(list(topics)):
                        some = {job: topics[job] for job in part}
                        nursery.start_soon(partial(self._compare, some, lost=lost))

    async def _compare(self, topics: dict[str, Position], *, lost: bool) -> None:
        try:
            self._repairs.apply_comparison(topics, await self._broker.positions(list(topics)))
        except BrokerUnavailable as error:
            log.debug(
                "cannot compare %d jobs with the broker, trying again: %s", len(topics), error
            )
            await trio.sleep(RETRY_EVERY)
            if lost:
                self._lost.set()

    async def _expire(self) -> None:
        while True:
            await trio.sleep(self._limits().lease_check_interval)
            self._hub.evict_idle()
            self._sets.evict_idle()
            try:
                self._counters.leases_expired += await self._broker.expire_leases()
            except BrokerUnavailable as error:
                log.debug("cannot expire leases: %s", error)
