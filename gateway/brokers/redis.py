"""The broker for many nodes: states in a Redis, changed by scripts that Redis runs.

`gateway.storage` says how jobs lie there and how to reach a server; `lua/` has every
change. This module only calls and reads. Every call takes one worker thread and one pooled
connection, under limiters of its own, so that a Redis that hangs takes no threads from
others, and lists take none from updates. A call that is cancelled is left to its thread,
which keeps its place among the `CALLS` until it ends, within `TIMEOUT`; so whoever waits for
a place has a deadline too.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from heapq import merge
from math import inf
from typing import Any, TypeVar

import redis
import trio
from trio.abc import ReceiveChannel

from ..auth.patterns import Patterns
from ..broker import Page, Receipt
from ..errors import BrokerUnavailable, InvalidInput, InvalidSettings
from ..job import Event, Position, Status, Update
from ..limits import DEFAULT_LIMITS, Limits
from ..storage.address import parse_address
from ..storage.layout import FEED_LENGTH, Shard
from ..storage.scripts import PUBLISH, REAP, RENEW, RESTORE, Script
from ..storage.servers import CONNECT_TIMEOUT, FAILURES, TIMEOUT, explain, open_servers
from .listing import Listing
from .poller import Poller
from .stored import plain, snapshot, unbroken, witnessed

__all__ = ["RedisBroker"]

T = TypeVar("T")

CALLS = 16
"""Calls of a shard at a time. Redis runs one after the other; more only wait there instead of
here. Each shard has its own, so that one whose primary hangs keeps no other waiting."""
LISTS = 2
"""Lists at a time, beside these: each is many calls, and its client works for them here."""
ANSWER_WITHIN = CONNECT_TIMEOUT + TIMEOUT
"""Seconds for a call in all, its wait for a thread included: one that has a thread at once
hears from Redis itself what is wrong."""
CHANGED_AT_ONCE = 100
"""Jobs per call of a script: some milliseconds in which Redis serves nobody else."""
SCANNED_AT_ONCE = 200
"""Jobs that `recent` looks at in one go."""
HIDDEN_FOR = 60.0
"""Seconds that jobs of nodes' own are remembered: longer than one is of any use."""


class RedisBroker:
    """A broker at `url` (`storage.address` has the forms), shared by all who use its prefix.

    It runs no task and connects when it is first used; `close` ends its idle connections.
    Raises `InvalidSettings` if the URL is none.
    """

    def __init__(self, url: str, limits: Limits = DEFAULT_LIMITS) -> None:
        try:
            address = parse_address(url)
        except ValueError as error:
            raise InvalidSettings(str(error), field="redis") from None
        self._layout = address.layout
        shards = self._layout.shards
        self._servers = open_servers(address, calls=len(shards) * CALLS + LISTS)
        self._callers = {shard: trio.CapacityLimiter(CALLS) for shard in shards}
        self._listers = trio.CapacityLimiter(LISTS)
        self._limits = limits
        self._common = (limits.history, FEED_LENGTH, limits.retention)
        self._pollers: Sequence[Poller] = ()
        self._publish, self._reap, self._renew = PUBLISH, REAP, RENEW

    def __repr__(self) -> str:
        # Not the URL: it may hold a password.
        calls = sum(limiter.borrowed_tokens for limiter in self._callers.values())
        return f"<RedisBroker {self._layout!r}, {calls} calls>"

    def close(self) -> None:
        """Close the connections that are idle. The broker may go on being used."""
        self._servers.close()

    @property
    def away(self) -> str | None:
        """What the pollers of its feed say; they notice within the socket's time-out."""
        errors = (poller.statistics().error for poller in self._pollers)
        return next((f"Redis: {error}" for error in errors if error), None)

    @property
    def shared(self) -> bool:
        return True

    @property
    def behind(self) -> int:
        return sum(poller.statistics().behind for poller in self._pollers)

    async def publish(self, job: str, update: Update) -> Receipt:
        common = self._common if job[:1] != "!" else (*self._common[:2], HIDDEN_FOR)
        shard = self._layout.shard(job)
        arguments = [*common, job, *plain(update)]
        answer: Any = await self._call(shard, self._publish, shard.keys(job), arguments)
        epoch, seq, attempt, reason = answer
        return Receipt(Position(epoch, seq), attempt=attempt, reason=reason.decode() or None)

    def apart(self, jobs: Sequence[str]) -> list[list[str]]:
        return list(self._layout.by_shard(jobs).values())

    async def read(self, jobs: Sequence[str]) -> dict[str, Event]:
        return await self._of_each_shard(self._snapshots, jobs)

    async def positions(self, jobs: Sequence[str]) -> dict[str, Position]:
        return await self._of_each_shard(self._positions, jobs)

    async def history(self, job: str, *, after: Position) -> list[Event]:
        # Newest first, because Redis trims the log only roughly: the rest is too old.
        shard = self._layout.shard(job)
        entries: Any = await self._call(
            shard, redis.Redis.xrevrange, shard.log(job), "+", "-", self._limits.history
        )
        return unbroken(entries, after=after)

    async def restore(self, events: Sequence[Event]) -> None:
        seen = {event.job: event for event in events}
        for shard, jobs in self._layout.by_shard(seen).items():
            for start in range(0, len(jobs), CHANGED_AT_ONCE):
                some = jobs[start : start + CHANGED_AT_ONCE]
                arguments = [text for job in some for text in witnessed(seen[job])]
                await self._call(shard, RESTORE, shard.keys(*some), [*self._common, *arguments])

    async def recent(
        self, jobs: Patterns, *, status: Status | None = None, limit: int, after: str | None
    ) -> Page:
        shards = self._layout.shards
        before = _bounds(after, len(shards))

        def page(client: Any) -> Page:
            listing = Listing(limit, self._limits.page_bytes)
            rows = [
                self._listed(client, index, jobs, status, before[index])
                for index in range(len(shards))
            ]
            for event, number, index in merge(*rows, key=_newest_first):
                if event is not None and listing.full:
                    break
                before[index] = number
                if event is None:
                    break
                listing.add(event)
            else:
                return Page(listing.events, None)
            return Page(listing.events, next="-".join(map(str, before)))

        return await self._in_thread(page, self._listers)

    async def reap(self) -> int:
        """All shards at once: one whose primary is away keeps no other waiting."""
        reaped: list[int] = []
        failures: list[BrokerUnavailable] = []

        async def reap(shard: Shard) -> None:
            try:
                reaped.append(await self._reap_shard(shard))
            except BrokerUnavailable as error:
                failures.append(error)

        async with trio.open_nursery() as nursery:
            for shard in self._layout.shards:
                nursery.start_soon(reap, shard)
        if failures:
            raise failures[0]
        return sum(reaped)

    async def _reap_shard(self, shard: Shard) -> int:
        reaped = 0
        while True:
            arguments = [*self._common, CHANGED_AT_ONCE]
            found: list[bytes] = await self._call(shard, self._reap, shard.keys(), arguments)
            if not found:
                return reaped
            due = [job.decode() for job in found]
            reaped += await self._call(shard, self._reap, shard.keys(*due), [*arguments, *due])

    @asynccontextmanager
    async def feed(self) -> AsyncIterator[ReceiveChannel[Sequence[Event]]]:
        """One poller a shard: a cluster refuses to read keys of several slots at once."""
        pollers = [
            Poller(partial(self._servers.connection, shard.feed, name=shard.feed), shard)
            for shard in self._layout.shards
        ]
        try:
            with _translated():
                for poller in pollers:
                    await poller.open()
            send, receive = trio.open_memory_channel[Sequence[Event]](0)
            async with receive, trio.open_nursery() as nursery:
                async with send:
                    for poller in pollers:
                        nursery.start_soon(poller.follow, send.clone())
                self._pollers = (*self._pollers, *pollers)
                try:
                    yield receive
                finally:
                    self._pollers = [poller for poller in self._pollers if poller not in pollers]
                    for poller in pollers:
                        poller.stop()
                    nursery.cancel_scope.cancel()
        finally:
            for poller in pollers:
                poller.stop()

    async def _call(self, shard: Shard, function: Callable[..., T] | Script, *args: Any) -> T:
        """Call `function` with the client in a thread, about a shard."""

        def call(client: Any) -> Any:
            return function(client, *args)

        return await self._in_thread(call, self._callers[shard])

    async def _in_thread(self, call: Callable[[Any], T], limiter: trio.CapacityLimiter) -> T:
        """The one way from here to Redis."""
        with _translated(), trio.fail_after(ANSWER_WITHIN):
            try:
                result = await trio.to_thread.run_sync(
                    lambda: call(self._servers.client), abandon_on_cancel=True, limiter=limiter
                )
            except redis.ConnectionError:
                self._servers.close()  # the idle ones are as dead as the one that was used
                raise
            return result

    async def _of_each_shard(
        self, ask: Callable[[Any, Shard, Sequence[str]], dict[str, T]], jobs: Sequence[str]
    ) -> dict[str, T]:
        """What `ask` finds of the jobs."""
        await trio.lowlevel.checkpoint()
        found: dict[str, T] = {}
        for shard, some in self._layout.by_shard(jobs).items():
            found |= await self._call(shard, ask, shard, some)
        return found

    # What runs in the threads.

    def _snapshots(self, client: Any, shard: Shard, jobs: Sequence[str]) -> dict[str, Event]:
        if not jobs:
            return {}
        era, hashes = _pipelined(client, shard, "HGETALL", jobs)
        found = {job: flat for job, flat in zip(jobs, hashes, strict=True) if flat}
        past = [job for job, flat in found.items() if int(flat[b"epoch"]) < era]
        if past:
            self._renew(client, shard.keys(*past), [*self._common, *past])
            hashes = _pipelined(client, shard, "HGETALL", past)[1]
            found |= {job: flat for job, flat in zip(past, hashes, strict=True) if flat}
        return {job: snapshot(job, flat) for job, flat in found.items()}

    def _positions(self, client: Any, shard: Shard, jobs: Sequence[str]) -> dict[str, Position]:
        era, pairs = _pipelined(client, shard, "HMGET", jobs, "epoch", "seq")
        found: dict[str, Position] = {}
        for job, (epoch, seq) in zip(jobs, pairs, strict=True):
            if epoch is not None:
                # One of an earlier era is nobody's: `read` gives the job a new one.
                found[job] = Position(int(epoch) if int(epoch) >= era else 0, int(seq))
        return found

    def _listed(
        self, client: Any, index: int, jobs: Patterns, status: Status | None, before: int | str
    ) -> Iterator[tuple[Event | None, int, int]]:
        """Some jobs of a shard from `before` on, newest first: event, number, shard. At last,
        if there are more than it may look at, None and the number it has come to."""
        shard = self._layout.shards[index]
        looks = max(1, self._limits.page_looks // len(self._layout.shards))
        while looks:
            count = min(looks, SCANNED_AT_ONCE)
            rows: Any = client.zrevrangebyscore(
                shard.recent, _below(before), "-inf", start=0, num=count, withscores=True
            )
            numbers = {job.decode(): int(number) for job, number in rows}
            wanted = [job for job in numbers if job in jobs]
            for job, event in self._snapshots(client, shard, wanted).items():
                if status in (None, event.state.status):
                    yield event, numbers[job], index
            if len(rows) < count:
                return
            before = last = min(numbers.values())
            looks -= count
        yield None, last, index


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except FAILURES as error:
        raise BrokerUnavailable(f"Redis: {explain(error)}") from error
    except trio.TooSlowError:
        raise BrokerUnavailable("Redis: too many calls have no answer yet") from None


def _pipelined(
    client: Any, shard: Shard, command: str, jobs: Sequence[str], *names: str
) -> tuple[int, list[Any]]:
    """The present era, and the answers to a command about each job's `last`; one round trip."""
    pipeline = client.pipeline(transaction=False)
    pipeline.hget(shard.counters, "era")
    for job in jobs:
        pipeline.execute_command(command, shard.last(job), *names)
    era, *answers = pipeline.execute()
    return int(era or 0), answers


def _newest_first(row: tuple[Event | None, int, int]) -> float:
    event = row[0]
    return -inf if event is None else -event.state.updated_at


def _bounds(after: str | None, shards: int) -> list[int | str]:
    """Where each shard's part of a page begins."""
    if after is None:
        return ["+inf"] * shards
    numbers = after.split("-")
    if len(numbers) == shards and all(
        text == "+inf" or (text.isascii() and text.isdigit() and len(text) < 20) for text in numbers
    ):
        return [text if text == "+inf" else int(text) for text in numbers]
    raise InvalidInput("after is not the next of a page", field="after")


def _below(bound: int | str) -> str:
    return bound if isinstance(bound, str) else f"({bound}"
