"""Reads the newest events of named jobs from their records (`merged_lists` finds the names).

Each record is decoded separately, so one that cannot be read does not affect others. A record of an
earlier generation, whose position is void, gets a new position before it is returned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...model.state import Event
from .calls import Calls
from .codec import Unreadable, snapshot
from .keys import Shard
from .observed import Observed
from .scripts import REISSUE
from .unreadable import UnreadableRecords

__all__ = ["Records"]


class Records:
    """The records of a Redis. What was read is recorded in `observed`."""

    def __init__(self, observed: Observed) -> None:
        self._observed = observed
        self._unreadable = UnreadableRecords()
        self._reissue = REISSUE

    @property
    def unreadable(self) -> int:
        """The number of records that could not be read."""
        return self._unreadable.count

    async def read(self, calls: Calls, shard: Shard, jobs: Sequence[str]) -> Mapping[str, Event]:
        """Returns the newest events of some jobs of a shard, without those that cannot be read."""
        if not jobs:
            return {}
        generation, events = await self._read(calls, shard, jobs)
        outdated = [job for job, event in events.items() if event.position.epoch < generation]
        if outdated:
            await calls.run(self._reissue, outdated, *outdated)
            _, reissued = await self._read(calls, shard, outdated)
            current = {job: event for job, event in events.items() if job not in outdated}
            # A record whose log is foreign data keeps its old position, so it is not shown.
            events = current | {
                job: event for job, event in reissued.items() if event.position.epoch >= generation
            }
        self._observed.record(events.values())
        return events

    async def _read(
        self, calls: Calls, shard: Shard, jobs: Sequence[str]
    ) -> tuple[int, dict[str, Event]]:
        """Returns the current generation, and the newest events of these jobs."""

        def parse(answers: list[Any]) -> list[Event | Unreadable | None]:
            parsed: list[Event | Unreadable | None] = []
            for job, answer in zip(jobs, answers, strict=True):
                try:
                    parsed.append(snapshot(job, answer))
                except Unreadable as error:
                    parsed.append(error)
            return parsed

        commands = [("HGETALL", shard.last(job)) for job in jobs]
        generation, answers = await calls.read(commands, parse)
        events: dict[str, Event] = {}
        for job, event in zip(jobs, answers, strict=True):
            if isinstance(event, Unreadable):
                self._unreadable.record(shard.last(job), event)
            elif event is not None:
                events[job] = event
        return generation, events
