"""Pages of all jobs in the order of their last update, merged from the lists of all shards."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import trio
from attrs import define, field

from ...model.errors import InvalidInput
from ...model.limits import Limits
from ...model.state import Event, Status
from ..base import JobFilter, Page
from ..listing import Listing
from .calls import Calls
from .keys import Shard
from .links import raise_errors

__all__ = ["Lists"]

SCAN_BATCH = 100
"""Jobs that are read in one step: one or two milliseconds of decoding."""

Snapshots = Callable[[Calls, Shard, Sequence[str]], Awaitable[Mapping[str, Event]]]


class Lists:
    """Makes pages of the list. It has separate `calls`, one for each of the `shards`, so that lists
    do not delay updates."""

    def __init__(
        self, calls: Sequence[Calls], shards: Sequence[Shard], limits: Limits, snapshots: Snapshots
    ) -> None:
        self.calls = calls
        self._shards = shards
        self._limits = limits
        self._snapshots = snapshots
        self._list_limiter = trio.CapacityLimiter(2)

    async def page(
        self, jobs: JobFilter, *, status: Status | None, limit: int, after: str | None
    ) -> Page:
        """See `Broker.recent`."""
        bounds = _bounds(after, len(self._shards))
        scan_budget = max(1, self._limits.list_scan // len(self._shards))
        async with self._list_limiter:
            rows = [
                _Rows(calls, shard, bound, scan_budget)
                for calls, shard, bound in zip(self.calls, self._shards, bounds, strict=True)
            ]
            listing = Listing(limit, self._limits.list_bytes)
            while True:
                for row in rows:
                    await row.fill(self._snapshots, jobs, status)
                heads = [row for row in rows if row.found]
                # A shard whose scan was cut off may contain the next job, so the page must end.
                if not heads or listing.full or any(row.next_is_unread for row in rows):
                    break
                newest = max(heads, key=lambda row: row.found[0][0].state.updated_at)
                event, newest.bound = newest.found.popleft()
                listing.add(event)
            if not any(row.found or row.budget_used_up for row in rows):
                return Page(listing.events, None)
            return Page(listing.events, next_cursor="-".join(str(row.next) for row in rows))


@define
class _Rows:
    """The jobs of one shard, newest first, read step by step."""

    calls: Calls
    shard: Shard
    bound: int | str
    """The feed number of the last job on the page. The next page begins below it."""
    scan_budget: int
    """The number of further jobs that may be read."""
    found: deque[tuple[Event, int]] = field(factory=deque)
    """Jobs that were read and are not on the page yet: the event, and its number in the feed."""
    done: bool = False
    """Whether all jobs were read."""
    budget_used_up: bool = False
    """Whether the budget is used up although there may be more jobs."""
    _below: int | str = field(init=False)
    """The feed number of the last job that was read."""

    def __attrs_post_init__(self) -> None:
        self._below = self.bound

    @property
    def next_is_unread(self) -> bool:
        """Whether there may be a next job that must not be read for this page."""
        return self.budget_used_up and not self.found

    @property
    def next(self) -> int | str:
        """The feed number below which the next page begins."""
        return self._below if self.next_is_unread else self.bound

    async def fill(self, snapshots: Snapshots, jobs: JobFilter, status: Status | None) -> None:
        """Reads until there is a job in `found`, or no more may be read."""
        while not (self.found or self.done or self.budget_used_up):
            count = min(self.scan_budget, SCAN_BATCH)
            numbers = await self._numbers(count)
            wanted = [job for job in numbers if job in jobs]
            events = await snapshots(self.calls, self.shard, wanted)
            self.found.extend(
                (events[job], numbers[job])
                for job in wanted
                if job in events and status in (None, events[job].state.status)
            )
            self.scan_budget -= count
            self._below = min(numbers.values(), default=self._below)
            self.done = len(numbers) < count
            self.budget_used_up = self.scan_budget <= 0 and not self.done

    async def _numbers(self, count: int) -> dict[str, int]:
        """Returns the next jobs, each with the feed number of its last event."""
        below = self._below if isinstance(self._below, str) else f"({self._below}"
        command = ("ZREVRANGEBYSCORE", self.shard.recent, below, "-inf",
                   "WITHSCORES", "LIMIT", 0, count)  # fmt: skip

        def parse(answers: list[Any]) -> dict[str, int]:
            (flat,) = raise_errors(answers)
            pairs = zip(flat[::2], flat[1::2], strict=True)
            return {job.decode(): int(float(number)) for job, number in pairs}

        return (await self.calls.read([command], parse))[1]


def _bounds(after: str | None, shards: int) -> list[int | str]:
    """Returns the feed number below which the page begins, for each shard."""
    if after is None:
        return ["+inf"] * shards
    numbers = after.split("-")
    if len(numbers) == shards and all(
        text == "+inf" or (text.isascii() and text.isdigit() and len(text) < 20) for text in numbers
    ):
        return [text if text == "+inf" else int(text) for text in numbers]
    raise InvalidInput("after is not the value of next from a page", field="after")
