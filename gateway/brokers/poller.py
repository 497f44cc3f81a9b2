"""Reads the feed of a Redis, for as long as a node lives. One thread, one connection.

redis-py knows no Trio, so the reading is done in a worker thread, and in batches: a thread
hop costs as much as decoding a hundred events. Why a polled stream: what arrives while the
connection is away is still there afterwards, and there is nothing to subscribe.

    where it is     an explicit id, never `$`: the last one that was handed over
    what is missed  is found by `cursor.Cursor`, and by a new connection; it yields `LOST`
    who answers     another server than the jobs were on before begins a new era
                    (`lua/takeover.lua`), before any reader hears of it
    waiting         XREAD BLOCK while it is quiet; while it is not, a tick from read to read, and
                    until what was read is delivered: what comes meanwhile is the next batch
    the end         its socket is shut down under it, which wakes it from any read
"""

from __future__ import annotations

import logging
import random
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any

import trio
from attrs import evolve, field, frozen
from redis import RedisError, ResponseError

from ..broker import LOST
from ..job import Event
from ..storage.layout import FEED_LENGTH, HISTORY, RETENTION, Shard
from ..storage.scripts import FUNCTIONS, TAKEOVER
from ..storage.servers import FAILURES, explain
from .cursor import Cursor, Look, parse_look

__all__ = ["BATCH", "FeedStatistics", "Poller"]

log = logging.getLogger("gateway.brokers.redis")

BATCH = 4_000
"""Events a read takes at most: some 15 ms of reading. Each read costs a hop to Trio, which
may be that long under load, so with fewer a node would fall behind."""
BLOCK = 1.0
"""Seconds one read waits for the first event: well below the connection's time-out."""
TICK = 0.01
"""Seconds from one read to the next when there is something each time: what an eye does not see."""
DELIVERY = 2
"""Passes of Trio's scheduler from when a batch is taken: one in which the node fans it out,
and one in which all connections write."""
CHECK_EVERY = 2.0
"""Seconds between two looks at whether the feed is still the one we know."""
BACKOFF = 0.05, 2.0
"""First and longest pause before another attempt to connect, each shortened at random."""

Send = Callable[[Sequence[Event]], Awaitable[None]]


@frozen
class FeedStatistics:
    """How a poller fares, at one moment."""

    connected: bool
    cursor: str
    """The id of the last entry it has handed over."""
    number: int
    """That entry's number in the feed."""
    behind: int
    """How many more the feed had when it was last looked at, which is every 2 s."""
    losses: int
    """How often it had to say that something may be missing."""
    error: str | None = field(default=None)
    """Why it is not connected."""


class Poller:
    """Follows the feed of one shard.

    `connect` makes a connection (redis-py's, which is untyped) that is not connected yet;
    it is called in the thread, so it may ask somebody where to connect to.
    """

    def __init__(self, connect: Callable[[], Any], shard: Shard) -> None:
        self._connect = connect
        self._shard = shard
        self._connection: Any = None
        self._stopped = threading.Event()
        self._cursor = Cursor()
        self._check_at = 0.0
        self._losses = 0
        self._error: str | None = None

    def __repr__(self) -> str:
        return f"<Poller {self._shard.feed} at {self._cursor.id}, {self._error or 'connected'}>"

    def statistics(self) -> FeedStatistics:
        return FeedStatistics(
            self._connection is not None and self._error is None,
            cursor=self._cursor.id,
            number=self._cursor.number,
            behind=self._cursor.behind,
            losses=self._losses,
            error=self._error,
        )

    async def open(self) -> None:
        """Connect, and stand at the feed's end: all events from now on will be followed.

        Raises redis-py's errors or OSError if there is no server to talk to now.
        """
        try:
            await trio.to_thread.run_sync(
                self._open, abandon_on_cancel=True, limiter=trio.CapacityLimiter(1)
            )
        except BaseException:  # cancelled, too: the thread is left behind, and must end
            self.stop()
            raise

    async def follow(self, send: trio.MemorySendChannel[Sequence[Event]]) -> None:
        """Hand over the events since `open`, in batches, until `stop`. Closes `send`.

        A cancellation is noticed only after `stop`: the thread cannot be left behind.
        """

        async def hand_over(batch: Sequence[Event]) -> None:
            await send.send(batch)
            # Until it is delivered, and written: reading ahead of that would make no batch
            # arrive earlier, and the next one older (measured: a third of the age under load).
            for _ in range(DELIVERY):
                await trio.lowlevel.checkpoint()

        async with send:
            with suppress(trio.BrokenResourceError):  # nobody wants them any more
                await trio.to_thread.run_sync(self._run, hand_over, limiter=trio.CapacityLimiter(1))

    def stop(self) -> None:
        """End the thread, whatever it is waiting for: within milliseconds, unless it is
        just connecting. To be called from any thread."""
        self._stopped.set()
        connection = self._connection
        if connection is not None and connection._sock is not None:
            with suppress(OSError):  # it is not connected any more
                # The plain socket's method: TLS would want to say goodbye.
                socket.socket.shutdown(connection._sock, socket.SHUT_RDWR)

    # From here on, in the thread.

    def _open(self) -> None:
        try:
            self._cursor.go_to_end(self._look(self._connected()))
        except BaseException:  # nobody would close it later
            self._close()
            raise

    def _run(self, send: Send) -> None:
        failures = 0
        try:
            while not self._stopped.is_set():
                try:
                    connection = self._connection or self._reconnected(send)
                    for batch in self._batches(connection):
                        failures = 0
                        trio.from_thread.run(send, batch)
                except FAILURES as error:
                    self._close()
                    if not self._stopped.is_set():
                        self._away(error)
                        self._pause(failures)
                        failures += 1
        finally:
            self._close()

    def _pause(self, failures: int) -> None:
        longest = min(BACKOFF[0] * 2 ** min(failures, 16), BACKOFF[1])
        self._stopped.wait(longest * random.uniform(0.5, 1))  # noqa: S311 - jitter

    def _batches(self, connection: Any) -> Iterator[Sequence[Event]]:
        """What comes, until the connection breaks or this is stopped."""
        cursor = self._cursor
        while not self._stopped.is_set():
            if monotonic() >= self._check_at:
                yield from self._lost(cursor.looked(self._look(connection)))
            began = monotonic()
            entries = self._read(connection)
            if not entries:
                yield from self._lost(cursor.silent())
                continue
            events, wrong = cursor.take(entries)
            if events:
                yield events
            yield from self._lost(*wrong)
            if len(entries) < BATCH:
                self._stopped.wait(began + TICK - monotonic())

    def _read(self, connection: Any) -> list[tuple[bytes, list[bytes]]]:
        block = round(BLOCK * 1000)
        connection.send_command(
            "XREAD", "COUNT", BATCH, "BLOCK", block, "STREAMS", self._shard.feed, self._cursor.id
        )
        answer = connection.read_response()
        return answer[0][1] if answer else []

    def _lost(self, *reasons: str | None) -> Iterator[Sequence[Event]]:
        """`LOST`, if there is any reason for it."""
        found = [reason for reason in reasons if reason is not None]
        for reason in found:
            log.warning("%s: %s", self._shard.feed, reason)
        if found:
            self._losses += 1
            yield LOST

    def _look(self, connection: Any) -> Look:
        """The feed now. One transaction, so that id and number belong together."""
        self._check_at = monotonic() + CHECK_EVERY
        commands: list[tuple[str, ...]] = [
            ("INFO", "server"),
            ("INFO", "replication"),
            ("MULTI",),
            ("XINFO", "STREAM", self._shard.feed),
            ("HMGET", self._shard.counters, "events", "server", "era"),
            ("EXEC",),
        ]
        connection.send_packed_command(connection.pack_commands(commands))
        answers: list[Any] = []
        for _ in commands:
            try:
                answers.append(connection.read_response())
            except ResponseError as error:  # read all answers, or the next is not ours
                answers.append(error)
        for answer in answers:
            if isinstance(answer, ResponseError):
                raise answer
        server, replication, *_, (stream, counters) = answers
        look = parse_look(server, replication, stream, counters)
        if not look.primary:
            raise RedisError("it is a replica, which takes no updates")
        return look if look.known_server == look.server else self._taken_over(connection, look)

    def _taken_over(self, connection: Any, look: Look) -> Look:
        """The same after the jobs were told which server they are on."""
        keys = self._shard.keys()
        common = (HISTORY, FEED_LENGTH, RETENTION)
        connection.send_command(
            "EVAL", TAKEOVER.text, len(keys), *keys, *common, look.server, self._cursor.epoch
        )
        return evolve(look, known_server=look.server, era=connection.read_response())

    def _connected(self) -> Any:
        connection = self._connection = self._connect()
        connection.connect()
        if self._stopped.is_set():
            raise ConnectionAbortedError
        self._offer_functions(connection)
        return connection

    def _offer_functions(self, connection: Any) -> None:
        """Let others publish by FCALL. A server that is too old, or forbids it, goes without."""
        connection.send_command("FUNCTION", "LOAD", "REPLACE", FUNCTIONS)
        try:
            connection.read_response()
        except ResponseError as error:
            log.debug("%s: no functions: %s", self._shard.feed, error)

    def _reconnected(self, send: Send) -> Any:
        connection = self._connected()
        self._cursor.looked(self._look(connection))
        self._error = None
        log.info("%s: back", self._shard.feed)
        # Whatever that has found: after an outage, to make sure costs little.
        trio.from_thread.run(send, LOST)
        return connection

    def _away(self, error: Exception) -> None:
        """Say so once an outage."""
        if self._error is None:
            log.warning("%s: away: %s", self._shard.feed, explain(error))
        self._error = explain(error)

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()
