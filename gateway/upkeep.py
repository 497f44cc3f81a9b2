"""What keeps a hub true to its broker, besides the feed.

    load     snapshots of jobs that somebody began to watch
    refill   the past of jobs of which somebody wants every event
    check    topics are compared with the broker now and then, and after each loss
    reap     leases that ran out, topics nobody watches any more

A broker that is away for a while ends none of them, and a part of it that is away keeps
none of the others waiting for long.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from random import uniform

import trio

from .broker import Broker
from .errors import BrokerUnavailable
from .hub import Hub
from .job import UNSEEN, Position
from .limits import Limits
from .tally import Tally

__all__ = ["Upkeep"]

log = logging.getLogger("gateway.upkeep")

LOAD_BATCH = 500
"""Jobs per read from the broker: one round trip, and a short one."""
REFILLS_AT_ONCE = 8
"""Histories that are read at a time: half of the calls a broker in a Redis takes."""
RETRY_EVERY = 1.0
"""Seconds between attempts to reach a broker that is away."""


class Upkeep:
    """A hub's. Works while `run` is running."""

    def __init__(
        self, hub: Hub, broker: Broker, *, tally: Tally, limits: Callable[[], Limits]
    ) -> None:
        self._hub = hub
        self._broker = broker
        self._tally = tally
        self._limits = limits
        self._lost = trio.Event()

    def lost(self) -> None:
        """The feed says that events may be missing: compare all topics, soon."""
        self._lost.set()

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._load)
            for _ in range(REFILLS_AT_ONCE):
                nursery.start_soon(self._refill)
            nursery.start_soon(self._check)
            nursery.start_soon(self._reap)

    async def _load(self) -> None:
        while True:
            asked = await self._hub.next_loads(LOAD_BATCH)
            async with trio.open_nursery() as nursery:
                for part in self._broker.apart(list(asked)):
                    nursery.start_soon(self._load_part, {job: asked[job] for job in part})

    async def _load_part(self, asked: dict[str, Position]) -> None:
        try:
            self._hub.loaded(asked, await self._broker.read(list(asked)))
        except BrokerUnavailable as error:
            log.debug("no answer about %d jobs yet: %s", len(asked), error)
            await trio.sleep(RETRY_EVERY)
            self._hub.not_loaded(asked)

    async def _refill(self) -> None:
        while True:
            topic = await self._hub.next_refill()
            try:
                events = await self._broker.history(topic.job, after=UNSEEN)
            except BrokerUnavailable as error:
                log.warning("no history of %s: %s", topic.job, error)
                self._hub.refilled(topic, None)
            else:
                self._hub.refilled(topic, events)

    async def _check(self) -> None:
        """Compare the topics with the broker: not all nodes at once, but soon after a loss."""
        while True:
            with trio.move_on_after(self._limits().check_every * uniform(0.8, 1.2)):  # noqa: S311 - jitter
                await self._lost.wait()
            lost, self._lost = self._lost.is_set(), trio.Event()
            jobs = self._hub.jobs
            for start in range(0, len(jobs), LOAD_BATCH):
                topics = self._hub.positions(jobs[start : start + LOAD_BATCH])
                async with trio.open_nursery() as nursery:
                    for part in self._broker.apart(list(topics)):
                        some = {job: topics[job] for job in part}
                        nursery.start_soon(partial(self._compare, some, lost=lost))

    async def _compare(self, topics: dict[str, Position], *, lost: bool) -> None:
        try:
            found = await self._broker.positions(list(topics))
            if lost:
                # Not the broker's word alone counts now: it may have lost what we have seen.
                differing = [job for job in topics if found.get(job, UNSEEN) != topics[job]]
                await self._broker.restore(self._hub.seen(differing))
            self._hub.compared(topics, found)
        except BrokerUnavailable as error:
            log.debug("cannot compare %d jobs yet: %s", len(topics), error)
            await trio.sleep(RETRY_EVERY)
            if lost:
                self._lost.set()

    async def _reap(self) -> None:
        while True:
            await trio.sleep(self._limits().reap_every)
            self._hub.sweep()
            try:
                self._tally.reaped += await self._broker.reap()
            except BrokerUnavailable as error:
                log.debug("cannot look for silent workers: %s", error)
