"""Reads the feed of a Redis, for as long as a node lives. One thread, one connection.

redis-py knows no Trio, so the reading is done in a worker thread, and in batches: a thread
hop costs as much as decoding a hundred events. Why a polled stream: what arrives while the
connection is away is still there afterwards, and there is nothing to subscribe.

    where it is     an explicit id, never `$`: the last one that was handed over
    what is missed  each event carries its number in the feed; one that does not follow the
                    one before, a feed that is behind our place or has been cut off before
                    it, another server (`run_id`, `master_replid`), a new connection: each
                    yields `LOST`, after the place to go on from has been settled, so that
                    what a reader then reads and what comes next leave no hole
    waiting         XREAD BLOCK while it is quiet, a tick between reads while it is not
    the end         its socket is shut down under it, which wakes it from any read

redis-py's own retries are off: they would hide a reconnection, and with it a loss.
"""

from __future__ import annotations

import logging
import random
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from time import monotonic
from typing import Any

import msgspec
import trio
from attrs import field, frozen
from redis import RedisError, ResponseError

from ..broker import LOST
from ..job import Event, Position, State

__all__ = ["BATCH", "FeedStatistics", "Poller", "decode"]

log = logging.getLogger("gateway.brokers.redis")

BATCH = 1_000
"""Events a read takes at most: some 3 ms of decoding, so that nobody waits long for the GIL."""
BLOCK = 1.0
"""Seconds one read waits for the first event: well below the connection's time-out."""
TICK = 0.01
"""Seconds between two reads when there is something each time: what an eye does not see."""
CHECK_EVERY = 2.0
"""Seconds between two looks at whether the feed is still the one we know."""
BACKOFF = 0.05, 2.0
"""First and longest pause before another attempt to connect, each shortened at random."""
WAITING_BATCHES = 2
"""Batches that are read and not taken; past it the thread waits, and Redis keeps the rest."""


class _Stored(msgspec.Struct, array_like=True, gc=False):
    """An event as `record.lua` writes it."""

    number: int
    job: str
    epoch: int
    seq: int
    # By name, and not as a State: that would make floats of whole numbers.
    state: dict[str, int | float | str]
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_decoder: msgspec.json.Decoder[_Stored] = msgspec.json.Decoder(_Stored)


def decode(text: bytes) -> tuple[int, Event]:
    """An event and its number in the feed, from what the scripts wrote.

    Raises ValueError (msgspec's errors are some) or TypeError if it is none.
    """
    stored = _decoder.decode(text)
    state: Any = stored.state
    if stored.data is not msgspec.UNSET:
        state["data"] = stored.data
    event = Event(stored.job, Position(stored.epoch, stored.seq), State(**state))
    return stored.number, event


@frozen
class FeedStatistics:
    """How a poller fares, at one moment."""

    connected: bool
    cursor: str
    """The id of the last entry it has handed over."""
    number: int
    """That entry's number in the feed."""
    losses: int
    """How often it had to say that something may be missing."""
    error: str | None = field(default=None)
    """Why it is not connected."""


@frozen
class _Feed:
    """A feed as the server describes it."""

    server: tuple[bytes, bytes]
    """Its `run_id` and `master_replid`: another pair, another history."""
    last: tuple[int, int]
    number: int
    """How many events it has had."""


class Poller:
    """Follows the feed `key`, whose events are counted in the hash `counters`.

    `connect` makes a connection (redis-py's, which is untyped) that is not connected yet.
    """

    def __init__(self, connect: Callable[[], Any], *, key: str, counters: str) -> None:
        self._connect = connect
        self._key = key
        self._counters = counters
        self._connection: Any = None
        self._stopped = threading.Event()
        self._feed = _Feed((b"", b""), last=(0, 0), number=0)  # when it was last looked at
        self._check_at = 0.0
        self._cursor = (0, 0)
        self._number = 0
        self._losses = 0
        self._error: str | None = None

    def __repr__(self) -> str:
        return f"<Poller {self._key} at {_text(self._cursor)}, {self._error or 'connected'}>"

    def statistics(self) -> FeedStatistics:
        return FeedStatistics(
            self._connection is not None and self._error is None,
            cursor=_text(self._cursor),
            number=self._number,
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
        except BaseException:
            self._stop()
            raise

    @asynccontextmanager
    async def follow(self) -> AsyncIterator[trio.MemoryReceiveChannel[Sequence[Event]]]:
        """The events since `open`, in batches.

        Cancelled or left, the thread ends within milliseconds; only an attempt to connect
        that is under way is waited for.
        """
        send, receive = trio.open_memory_channel[Sequence[Event]](WAITING_BATCHES)
        async with send, receive, trio.open_nursery() as nursery:
            nursery.start_soon(self._follow, send)
            try:
                yield receive
            finally:
                self._stop()
                nursery.cancel_scope.cancel()

    async def _follow(self, send: trio.MemorySendChannel[Sequence[Event]]) -> None:
        with suppress(trio.BrokenResourceError):  # nobody wants them any more
            await trio.to_thread.run_sync(self._run, send.send, limiter=trio.CapacityLimiter(1))

    # From here on, in the thread.

    def _open(self) -> None:
        try:
            self._go_to(self._look(self._connected()))
        except BaseException:
            self._close()
            raise

    def _run(self, send: Callable[[Sequence[Event]], Any]) -> None:
        failures = 0
        try:
            while not self._stopped.is_set():
                try:
                    connection = self._connection or self._reconnected(send)
                    for batch in self._batches(connection):
                        failures = 0
                        trio.from_thread.run(send, batch)
                except (RedisError, OSError) as error:
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
        while not self._stopped.is_set():
            if monotonic() >= self._check_at:
                yield from self._check(self._look(connection))
            entries = self._read(connection)
            if not entries:
                yield from self._after_silence()
                continue
            events, lost = self._taken(entries)
            yield events
            if lost:
                yield self._lost("events are missing in the feed")
            if len(entries) < BATCH:
                self._stopped.wait(TICK)

    def _read(self, connection: Any) -> list[tuple[bytes, list[bytes]]]:
        block = round(BLOCK * 1000)
        cursor = _text(self._cursor)
        connection.send_command(
            "XREAD", "COUNT", BATCH, "BLOCK", block, "STREAMS", self._key, cursor
        )
        answer = connection.read_response()
        return answer[0][1] if answer else []

    def _taken(self, entries: list[tuple[bytes, list[bytes]]]) -> tuple[list[Event], bool]:
        """The events in `entries`, and whether some before or between them are missing."""
        events = []
        expected = self._number + len(entries)
        for id_, fields in entries:
            try:
                self._number, event = decode(fields[1])
            except (ValueError, TypeError, IndexError) as error:
                # Not from our scripts, or from newer ones. The rest is no worse for it.
                log.error("entry %s of the feed is unreadable: %s", id_.decode(), error)  # noqa: TRY400 - no stack: it is data
                self._number += 1
            else:
                events.append(event)
        self._cursor = _place(entries[-1][0])
        return events, self._number != expected

    def _after_silence(self) -> Iterator[Sequence[Event]]:
        """Nothing after the cursor, yet the server has had something: it was cut off."""
        if self._cursor < self._feed.last:
            self._go_to(self._feed)
            yield self._lost("the feed was cut off before it was read")

    def _check(self, feed: _Feed) -> Iterator[Sequence[Event]]:
        """Compare where we are with where the server is."""
        known, self._feed = self._feed, feed
        if feed.last < self._cursor:
            # It has gone back in time, and a read from an id of the future stalls.
            self._go_to(feed)
            yield self._lost("the feed has gone back in time")
        elif feed.server != known.server:
            yield self._lost("another server answers")

    def _go_to(self, feed: _Feed) -> None:
        """Go on from the end that `feed` had."""
        self._feed, self._cursor, self._number = feed, feed.last, feed.number

    def _lost(self, why: str) -> Sequence[Event]:
        self._losses += 1
        log.warning("%s: %s", self._key, why)
        return LOST

    def _look(self, connection: Any) -> _Feed:
        """The feed now: one transaction, so that id and number belong together."""
        self._check_at = monotonic() + CHECK_EVERY
        commands: list[tuple[str, ...]] = [
            ("INFO", "server"),
            ("INFO", "replication"),
            ("MULTI",),
            ("XINFO", "STREAM", self._key),
            ("HGET", self._counters, "events"),
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
        server, replication, *_, (stream, number) = answers
        last = (0, 0)
        if isinstance(stream, list):  # otherwise an error: there is no such stream yet
            last = _place(dict(zip(stream[::2], stream[1::2], strict=True))[b"last-generated-id"])
        identity = _line(server, b"run_id"), _line(replication, b"master_replid")
        return _Feed(identity, last=last, number=int(number or 0))

    def _connected(self) -> Any:
        connection = self._connection = self._connect()
        connection.connect()
        if self._stopped.is_set():
            raise ConnectionAbortedError
        return connection

    def _reconnected(self, send: Callable[[Sequence[Event]], Any]) -> Any:
        connection = self._connected()
        for _ in self._check(self._look(connection)):
            pass
        # Whatever it has found: after an outage, to make sure costs little.
        trio.from_thread.run(send, LOST)
        log.info("%s: back", self._key)
        self._error = None
        return connection

    def _away(self, error: Exception) -> None:
        """Say so once an outage."""
        if self._error is None:
            log.warning("%s: away: %s", self._key, error)
        self._error = str(error) or type(error).__name__

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()

    # From any thread.

    def _stop(self) -> None:
        """End the thread, whatever it is waiting for."""
        self._stopped.set()
        connection = self._connection
        if connection is not None and connection._sock is not None:
            with suppress(OSError):  # it is not connected any more
                # The plain socket's method: TLS would want to say goodbye.
                socket.socket.shutdown(connection._sock, socket.SHUT_RDWR)


def _place(id_: bytes) -> tuple[int, int]:
    time, _, number = id_.partition(b"-")
    return int(time), int(number)


def _text(place: tuple[int, int]) -> str:
    return f"{place[0]}-{place[1]}"


def _line(info: bytes, name: bytes) -> bytes:
    """A value in the answer to INFO; nothing if it is not told."""
    _, _, rest = info.partition(b"\n" + name + b":")
    return rest.partition(b"\r")[0]
