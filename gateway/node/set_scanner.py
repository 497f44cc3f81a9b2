"""Reads the broker's list of jobs for the sets that clients watch.

It reads the list when a set is new, when the feed may have lost events, and at random intervals.
So a set drops the jobs that the broker has dropped, and contains jobs whose events the feed has
lost. One scan serves all sets that need it. The regular scans use a bounded share of the time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from random import Random

import trio

from ..brokers.base import BROKER_RETRY_PAUSE, Broker
from ..delivery.hub import Hub
from ..delivery.set_registry import SetRegistry, SetScan
from ..model.errors import BrokerUnavailable
from ..model.limits import Limits

__all__ = ["SetScanner"]

log = logging.getLogger("gateway.node")

PAGE_SIZE = 1_000
"""Jobs per page of the list, at most."""
TIME_SHARE = 0.05
"""The share of the time that the regular scans of all sets may use."""


class SetScanner:
    """The set scanner of one node. Works while `run` is running."""

    def __init__(
        self,
        sets: SetRegistry,
        hub: Hub,
        broker: Broker,
        *,
        limits: Callable[[], Limits],
        random: Random,
    ) -> None:
        self._sets = sets
        self._hub = hub
        self._broker = broker
        self._limits = limits
        self._random = random

    async def run(self) -> None:
        """Scans until cancelled."""
        next_time = self._next_regular_scan(took=0.0)
        while True:
            with trio.move_on_at(next_time):
                await self._sets.scan_needed()
            everything = trio.current_time() >= next_time
            scan = self._sets.begin_scan(everything=everything)
            began = trio.current_time()
            shortest_pause = 0.0
            try:
                await self._read(scan)
            except BrokerUnavailable as error:
                log.debug(
                    "cannot list the jobs of %d sets, trying again: %s", len(scan.sets), error
                )
                self._sets.retry_scan(scan)
                shortest_pause = BROKER_RETRY_PAUSE
            took = trio.current_time() - began
            if everything:
                next_time = self._next_regular_scan(took=took)
            # Scans for new sets use at most half of the time.
            await trio.sleep(max(took, shortest_pause))

    async def _read(self, scan: SetScan) -> None:
        after: str | None = None
        while scan:
            page = await self._broker.recent(scan, limit=PAGE_SIZE, after=after)
            self._hub.deliver(page.events)
            scan.add(page.events)
            after = page.next_cursor
            if after is None:
                break
            await trio.lowlevel.checkpoint()
        scan.end()

    def _next_regular_scan(self, *, took: float) -> float:
        """Returns the time of the next scan of all sets, if the last one took `took` seconds."""
        pause = self._limits().compare_interval * self._random.uniform(0.8, 1.2)
        return trio.current_time() + max(pause, took / TIME_SHARE)
