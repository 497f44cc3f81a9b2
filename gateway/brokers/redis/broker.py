"""The broker for many nodes: states in a Redis, changed by Lua scripts that run in Redis.

`keys` defines how jobs are stored, `url` and `servers` how a server is reached, and the scripts in
`lua/` make every change. This module calls the scripts and reads the keys. All its I/O uses the
interfaces of `links`. Each shard has its own connections, so a primary that hangs does not delay
the calls to others; lists have separate connections too. A cancelled call closes its connection.
"""

from __future__ import annotations

import logging
from collections.abc import (
    AsyncIterator,
    Callable,
    Iterable,
    Iterator,
    Sequence,
)
from contextlib import asynccontextmanager, contextmanager
from random import Random
from typing import Any, TypeVar
from uuid import uuid4

import trio
from redis.exceptions import ResponseError
from trio.abc import ReceiveChannel

from ...model.errors import BrokerUnavailable, GatewayError, InvalidSettings, RecordUnreadable
from ...model.ids import is_job_id
from ...model.limits import DEFAULT_LIMITS, Limits
from ...model.state import Event, Position, Status, Update
from ..base import JobFilter, Page, PublishResult
from .calls import Calls, WrongServer
from .codec import (
    as_arguments,
    newest_without_gap,
    parse_position,
    parse_request,
    single_event,
)
from .failover import GRACE, Registration
from .keys import Shard
from .links import Command, Connector, RedisConnector, raise_errors
from .merged_lists import Lists
from .observed import Observed
from .poller import Poller
from .records import Records
from .refusals import Refusals
from .scripts import EXPIRE_LEASES, PUBLISH
from .servers import CONNECT_TIMEOUT, FAILURES, TIMEOUT, explain, open_servers, refusal_in
from .url import Address, parse_address

__all__ = ["RedisBroker"]

log = logging.getLogger("gateway.brokers.redis")

T = TypeVar("T")

MAX_CALLS = 16
"""Concurrent calls of a shard. Redis runs one command at a time, so further calls would only wait
in Redis instead of here."""
MAX_LIST_CALLS = 2
"""Additional concurrent calls of a shard, for lists. A list needs many calls, and decoding their
answers takes time in this process."""
CALL_TIMEOUT = CONNECT_TIMEOUT + TIMEOUT
"""Seconds for a whole call, including the wait for a thread. It is the sum of the socket's
timeouts, so that a call which does not have to wait fails with the error of its socket."""
SCRIPT_BATCH = 100
"""Jobs per call of a script: Redis serves no other client for some milliseconds."""


class RedisBroker:
    """A broker in the Redis at `url`, shared by all processes that use the same key prefix.

    It runs no task, and connects when it is first used; `close` ends its idle connections.

    Args:
        url: The URL of the Redis (`redis.url` describes its forms), or the parsed address.
        limits: Limits of what is kept of a job, and of the size of a page of a list.
        connector: Makes the connections; by default they are those of redis-py.
        random: For the jitter of pauses.

    Raises:
        InvalidSettings: The URL is not the URL of a Redis.
    """

    def __init__(
        self,
        url: str | Address,
        limits: Limits = DEFAULT_LIMITS,
        *,
        connector: Connector | None = None,
        random: Random | None = None,
    ) -> None:
        try:
            address = parse_address(url) if isinstance(url, str) else url
        except ValueError as error:
            raise InvalidSettings(str(error), field="redis") from None
        self._layout = address.layout
        self._connector = connector or RedisConnector(open_servers(address, calls=MAX_CALLS))
        self._random = random or Random()  # noqa: S311 - jitter
        self._limits = limits
        self._open_error: str | None = None
        """Why the feed could not be opened; None if it was."""
        self._observed = Observed()
        self._records = Records(self._observed)
        self._calls = {shard: self._new_calls(shard, MAX_CALLS) for shard in self._layout.shards}
        self._lists = Lists(
            [self._new_calls(shard, MAX_LIST_CALLS) for shard in self._layout.shards],
            self._layout.shards,
            limits,
            self._records.read,
        )
        self._pollers: Sequence[Poller] = ()
        self._refusals = Refusals()
        self._publish, self._expire = PUBLISH, EXPIRE_LEASES

    def __repr__(self) -> str:
        # Not the URL: it may hold a password.
        calls = sum(calls.limiter.borrowed_tokens for calls in self._calls.values())
        return f"<RedisBroker {self._layout!r}, {calls} calls>"

    def close(self) -> None:
        """Closes the idle connections. The broker can still be used."""
        for calls in self._all_calls():
            calls.close()
        self._connector.close_idle_connections()

    @property
    def unavailable_reason(self) -> str | None:
        """The reason why the feed cannot be read (noticed within the socket's timeout), or why the
        server refuses updates."""
        errors = (poller.statistics().error for poller in self._pollers)
        reason = next(filter(None, errors), None) or self._open_error or self._refusals.reason
        return f"Redis: {reason}" if reason else None

    @property
    def ready(self) -> bool:
        return all(calls.ready for calls in self._all_calls())

    @property
    def shared(self) -> bool:
        return True

    @property
    def lag(self) -> int:
        return sum(poller.statistics().lag for poller in self._pollers)

    @property
    def unreadable(self) -> int:
        return self._records.unreadable

    async def publish(self, job: str, update: Update, *, publisher: str = "") -> PublishResult:
        shard = self._layout.shard(job)
        with self._broker_call(update=True):
            answer = await self._calls[shard].run(self._publish, [job], job, *as_arguments(update))
        self._refusals.update_accepted()
        return _result(answer)

    async def publish_many(
        self, updates: Sequence[tuple[str, Update]], *, publisher: str = ""
    ) -> list[PublishResult | GatewayError]:
        """Sends the updates of each shard in one call. A shard that is unavailable fails only its
        own updates."""
        results: list[PublishResult | GatewayError] = [
            BrokerUnavailable("Redis: not called") for _ in updates
        ]

        async def publish_to(shard: Shard, indexes: Sequence[int]) -> None:
            calls = [
                (updates[i][0], (updates[i][0], *as_arguments(updates[i][1]))) for i in indexes
            ]
            try:
                with self._broker_call(update=True):
                    answers = await self._calls[shard].run_many(self._publish, calls)
            except GatewayError as error:
                answers = [error] * len(indexes)
            for index, answer in zip(indexes, answers, strict=True):
                try:
                    with self._broker_call(update=True):
                        if isinstance(answer, Exception):
                            raise answer
                        results[index] = _result(answer)
                except GatewayError as error:
                    results[index] = error

        indexes_by_shard: dict[Shard, list[int]] = {}
        for index, (job, _) in enumerate(updates):
            indexes_by_shard.setdefault(self._layout.shard(job), []).append(index)
        async with trio.open_nursery() as nursery:
            for shard, shard_indexes in indexes_by_shard.items():
                nursery.start_soon(publish_to, shard, shard_indexes)
        return results

    def partition(self, jobs: Sequence[str]) -> list[list[str]]:
        return list(self._layout.by_shard(jobs).values())

    async def read(self, jobs: Sequence[str]) -> dict[str, Event]:
        await trio.lowlevel.checkpoint()
        events: dict[str, Event] = {}
        for shard, shard_jobs in self._layout.by_shard(jobs).items():
            with self._broker_call():
                events |= await self._records.read(self._calls[shard], shard, shard_jobs)
        return events

    async def positions(self, jobs: Sequence[str]) -> dict[str, Position]:
        await trio.lowlevel.checkpoint()
        positions: dict[str, Position] = {}
        for shard, shard_jobs in self._layout.by_shard(jobs).items():
            commands = [("HMGET", shard.last(job), "epoch", "seq") for job in shard_jobs]
            with self._broker_call():
                generation, answers = await self._calls[shard].read(commands, list)
            for job, answer in zip(shard_jobs, answers, strict=True):
                position = parse_position(answer)
                if position is not None:
                    # A position of an earlier generation is void: `read` replaces it.
                    epoch = position.epoch if position.epoch >= generation else 0
                    positions[job] = Position(epoch, position.seq)
        return positions

    async def history(self, job: str, *, after: Position) -> list[Event]:
        # Read the newest entries only: Redis trims the log roughly, so it may hold older ones. The
        # record is read too, because a job with one event has no log.
        shard = self._layout.shard(job)
        commands: list[Command] = [
            ("HGETALL", shard.last(job)),
            ("XREVRANGE", shard.log(job), "+", "-", "COUNT", self._limits.history),
        ]

        def parse(answers: list[Any]) -> list[Event]:
            record, entries = answers
            if not isinstance(entries, list):
                return []
            return (
                newest_without_gap(entries, after=after)
                if entries
                else single_event(job, record, after)
            )

        with self._broker_call():
            generation, events = await self._calls[shard].read(commands, parse)
        # A position of an earlier generation may have been used for another state.
        events = [event for event in events if event.position.epoch >= generation]
        self._observed.record(events[-1:])
        return events

    async def recent(
        self, jobs: JobFilter, *, status: Status | None = None, limit: int, after: str | None
    ) -> Page:
        with self._broker_call():
            return await self._lists.page(jobs, status=status, limit=limit, after=after)

    async def running_children(self, group: str) -> list[str]:
        shard = self._layout.shard(group)

        def parse(answers: list[Any]) -> list[str]:
            (answer,) = raise_errors(answers)
            # Redis's protocol 2 answers with a list of names and values.
            pairs = zip(*[iter(answer)] * 2, strict=True)
            rows = answer if isinstance(answer, dict) else dict(pairs)
            names = (
                name.decode("utf-8", "replace")
                for name, text in rows.items()
                if text.split()[3:4] == [b"running"]
            )
            return [job for name in names if is_job_id(job := f"{group}/{name}")]

        with self._broker_call():
            _, children = await self._calls[shard].read([("HGETALL", shard.children(group))], parse)
        return children

    async def expire_leases(self) -> int:
        """Handles all shards concurrently, so a primary that is unavailable does not delay the
        others."""
        expired: list[int] = []
        failures: list[BrokerUnavailable] = []

        async def expire_leases(shard: Shard) -> None:
            try:
                with self._broker_call():
                    expired.append(await self._expire_leases_of(shard))
            except BrokerUnavailable as error:
                failures.append(error)

        async with trio.open_nursery() as nursery:
            for shard in self._layout.shards:
                nursery.start_soon(expire_leases, shard)
        if failures:
            raise failures[0]
        return sum(expired)

    async def _expire_leases_of(self, shard: Shard) -> int:
        calls, expired = self._calls[shard], 0
        while True:
            names: list[bytes] = await calls.run(self._expire, [], SCRIPT_BATCH)
            if not names:
                return expired
            jobs = [job.decode() for job in names]
            expired += await calls.run(self._expire, jobs, SCRIPT_BATCH, *jobs)

    @asynccontextmanager
    async def feed(
        self, *, observed: Callable[[], Iterable[Event]] = tuple
    ) -> AsyncIterator[ReceiveChannel[Sequence[Event]]]:
        """Starts one poller per shard: a cluster refuses to read keys of several slots at once.

        If the feed cannot be opened, all calls are refused until another feed is: a server that
        came back may have lost states that other nodes have shown.
        """
        registration = Registration(uuid4().hex, self._limits.history, self._limits.retention)
        pollers = {shard: self._new_poller(shard, registration) for shard in self._layout.shards}
        self._observed.sources.append(observed)
        if not self._pollers:
            for calls in self._all_calls():
                calls.refuse_all()
        was_opened = False
        try:
            await self._open(pollers.values())
            was_opened, self._open_error = True, None
            send, receive = trio.open_memory_channel[Sequence[Event]](0)
            async with receive, trio.open_nursery() as nursery:
                async with send:
                    for poller in pollers.values():
                        nursery.start_soon(poller.follow, send.clone())
                self._pollers = (*self._pollers, *pollers.values())
                yield receive
                nursery.cancel_scope.cancel()
        finally:
            self._observed.sources.remove(observed)
            self._pollers = [other for other in self._pollers if other not in pollers.values()]
            for poller in pollers.values():
                poller.close()
            if was_opened and not self._pollers:
                for calls in self._all_calls():
                    calls.allow_any_server()

    async def _open(self, pollers: Iterable[Poller]) -> None:
        """Opens all pollers concurrently, because each may wait for other nodes."""
        failures: list[BrokerUnavailable] = []

        async def open_one(poller: Poller, scope: trio.CancelScope) -> None:
            try:
                with self._broker_call(timeout=CALL_TIMEOUT + GRACE):
                    await poller.open()
            except BrokerUnavailable as error:
                failures.append(error)
                if not self._pollers:  # otherwise another feed is open
                    self._open_error = str(error).removeprefix("Redis: ")
                scope.cancel()

        async with trio.open_nursery() as nursery:
            for poller in pollers:
                nursery.start_soon(open_one, poller, nursery.cancel_scope)
        if failures:
            raise failures[0]

    def _new_calls(self, shard: Shard, maximum: int) -> Calls:
        return Calls(
            self._connector,
            shard,
            trio.CapacityLimiter(maximum),
            on_wrong_server=self._check_server_soon,
        )

    def _new_poller(self, shard: Shard, registration: Registration) -> Poller:
        return Poller(
            self._connector,
            shard,
            calls=[calls for calls in self._all_calls() if calls.shard == shard],
            registration=registration,
            observed=lambda: self._observed_of(shard),
            record_observed=self._observed.record,
            random=self._random,
        )

    def _observed_of(self, shard: Shard) -> Iterator[Event]:
        return (event for event in self._observed.all() if self._layout.shard(event.job) == shard)

    def _all_calls(self) -> Iterator[Calls]:
        yield from self._calls.values()
        yield from self._lists.calls

    def _check_server_soon(self, shard: Shard) -> None:
        for poller in self._pollers:
            if poller.shard == shard:
                poller.check_server_soon()

    @contextmanager
    def _broker_call(self, *, timeout: float | None = None, update: bool = False) -> Iterator[None]:
        """Applies the deadline of a call, and raises the gateway's errors instead of redis-py's."""
        try:
            with trio.fail_after(CALL_TIMEOUT if timeout is None else timeout):
                yield
        except ResponseError as error:
            text = str(error)
            if text.startswith(UNREADABLE):
                raise RecordUnreadable(text.removeprefix(UNREADABLE), field="job") from None
            self._refusals.record(error, update=update)
            raise self._unavailable(error) from error
        except FAILURES as error:
            raise self._unavailable(error) from error
        except trio.TooSlowError:
            raise BrokerUnavailable("Redis: too many calls wait for an answer") from None

    def _unavailable(self, error: Exception) -> BrokerUnavailable:
        """Returns the error for callers. No calls are made while the feed cannot be read, so the
        feed's error may be the reason."""
        text = explain(error)
        if isinstance(error, WrongServer) and self._open_error is not None:
            text = self._open_error
        feed_errors = (poller.statistics().error for poller in self._pollers)
        texts = [text, *filter(None, feed_errors)]
        refusal = next(filter(None, map(refusal_in, texts)), None)
        return BrokerUnavailable(f"Redis: {text}", refusal=refusal)


UNREADABLE = "UNREADABLE "
"""The first word of the error that a script returns if a key holds foreign data."""


def _result(answer: Any) -> PublishResult:
    epoch, seq, attempt, reason, request = answer
    return PublishResult(
        Position(epoch, seq),
        attempt=attempt,
        reason=reason.decode() or None,
        request=parse_request(request) if request else None,
    )
