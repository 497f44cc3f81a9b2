"""Follows the feed of one shard while a node is running.

All its I/O uses a `Link`, its clock is Trio's, and its randomness is an argument, so tests run it
unchanged on a virtual clock with an in-process Redis. The feed is a stream that is polled, because
events that arrive while the connection is lost can still be read afterwards.

    position   always an explicit id, never `$`: the id of the last delivered entry
    loss       `cursor.Cursor` detects missing events; every loss and every new connection
               delivers `FEED_RESET`
    server     if another server answers than before, a new generation begins (`failover.py`), and
               is repaired before any of its events is delivered
    waiting    XREAD BLOCK while there are no events; otherwise at least `TICK` from read to read,
               and until the batch is delivered: events that arrive meanwhile are the next batch
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from random import Random

import trio
from attrs import field, frozen
from redis import RedisError

from ...model.state import Event
from ..base import FEED_RESET
from .calls import Calls
from .cursor import Cursor, Entry, FeedState, is_primary, parse_feed_state, server_identity
from .failover import POLL_INTERVAL, Registration, register, restore
from .keys import Shard
from .links import Connector, Link, raise_errors
from .scripts import FUNCTIONS
from .servers import FAILURES, REPLICA, explain

__all__ = ["BATCH", "FeedStatistics", "Poller"]

log = logging.getLogger("gateway.brokers.redis")

BATCH = 4_000
"""Maximum number of events per read: decoding them takes some 15 ms. After each read the task waits
until Trio runs it again, which may take as long under load, so with smaller reads a node would fall
behind."""
BLOCK = 1.0
"""Seconds for which a read waits for the first event: well below the connection's timeout."""
TICK = 0.01
"""Minimum seconds from one read to the next while events arrive: too short to be visible."""
PASSES_PER_BATCH = 2
"""Passes of Trio's scheduler to wait after a batch was delivered: in the first the node fans it
out, in the second all connections write."""
CHECK_INTERVAL = 2.0
"""Seconds between two checks that the feed is still on the same server."""
BACKOFF = 0.05, 0.5
"""First and longest pause (seconds) before another attempt to connect, each shortened at random.
The longest is below `failover.MIN_RESTORE_TIME`, so nodes that lost their connections at
the same time all reconnect early enough to restore the states that they have seen."""
MIN_REQUESTED_CHECK_INTERVAL = 0.2
"""Minimum seconds between two checks that failed calls request: many may fail at once."""


@frozen
class FeedStatistics:
    """The state of a poller at one moment."""

    connected: bool
    cursor: str
    """The id of the last delivered entry."""
    number: int
    """The number of that entry in the feed."""
    lag: int
    """The number of unread entries of the feed at the last check, which is every 2 s."""
    losses: int
    """The number of times that events may have been missed."""
    error: str | None = field(default=None)
    """The reason why the poller is not connected; None if it is."""


class Poller:
    """Follows the feed of one shard, and decides which server the shard's calls may use.

    Args:
        connector: Makes its connection.
        shard: The shard whose feed it follows.
        calls: The calls to the shard, which fail during a failover.
        registration: The node's name, and the settings that it shares with other nodes.
        observed: Returns the newest event of each of the shard's jobs that clients of this node may
            have seen.
        record_observed: Called with the events before they are delivered.
        random: For the jitter of its pauses.
    """

    def __init__(
        self,
        connector: Connector,
        shard: Shard,
        *,
        calls: Sequence[Calls],
        registration: Registration,
        observed: Callable[[], Iterable[Event]],
        record_observed: Callable[[Iterable[Event]], None],
        random: Random,
    ) -> None:
        self._connector = connector
        self.shard = shard
        self._calls = calls
        self._registration = registration
        self._observed = observed
        self._record_observed = record_observed
        self._random = random
        self._limiter = trio.CapacityLimiter(2)  # the thread of a closed link may still be running
        self._link: Link | None = None
        self._cursor = Cursor()
        self._repaired: int | None = None
        """The repair in which this node has restored the lost states."""
        self._observed_epoch = 0
        """The newest epoch of `observed` at the last repair. A read can be ahead of the feed."""
        self._check_at = 0.0
        self._check_requested_at = -MIN_REQUESTED_CHECK_INTERVAL
        self._checking = True
        """Whether a check of the server is running."""
        self._losses = 0
        self._error: str | None = None

    def __repr__(self) -> str:
        return f"<Poller {self.shard.feed} at {self._cursor.id}, {self._error or 'connected'}>"

    def statistics(self) -> FeedStatistics:
        return FeedStatistics(
            self._link is not None and self._error is None,
            cursor=self._cursor.id,
            number=self._cursor.number,
            lag=self._cursor.lag,
            losses=self._losses,
            error=self._error,
        )

    def check_server_soon(self) -> None:
        """Checks soon which server answers, because another server has answered a call."""
        now = trio.current_time()
        if self._link is None or self._checking:
            return  # a check is running or about to start
        if now - self._check_requested_at >= MIN_REQUESTED_CHECK_INTERVAL:
            self._check_requested_at = now
            self._link.close()

    async def open(self) -> None:
        """Connects, and starts at the end of the feed: `follow` delivers all events after it.

        Raises:
            RedisError, OSError: No server can be reached.

        Cancellation leaves no connection.
        """
        try:
            link = await self._connect()
            self._cursor.skip_to_end(await self._check_feed(link))
        except BaseException:  # cancelled, too: `open` leaves no connection
            self.close()
            raise

    async def follow(self, send: trio.MemorySendChannel[Sequence[Event]]) -> None:
        """Delivers the events since `open`, in batches, and reconnects as often as necessary.

        Returns only when the receiver was closed. Closes `send`. Cancellation leaves no connection.
        """
        failures = 0
        try:
            async with send:
                while True:
                    try:
                        link = self._link or await self._reconnect(send)
                        failures = 0
                        await self._follow(link, send)
                    except FAILURES as error:
                        self.close()
                        for calls in self._calls:
                            calls.close()  # their idle connections are probably lost too
                        self._report_unavailable(error)
                        longest = min(BACKOFF[0] * 2 ** min(failures, 16), BACKOFF[1])
                        failures += 1
                        await trio.sleep(longest * self._random.uniform(0.5, 1))
        except trio.BrokenResourceError:
            pass  # the receiver was closed
        finally:
            self.close()

    def close(self) -> None:
        """Closes its connection."""
        self._checking = True
        link, self._link = self._link, None
        if link is not None:
            link.close()

    async def _follow(self, link: Link, send: trio.MemorySendChannel[Sequence[Event]]) -> None:
        """Delivers events until the connection breaks."""
        cursor = self._cursor
        while True:
            if trio.current_time() >= self._check_at:
                if not await link.is_current():
                    raise RedisError("the Sentinels name another primary")
                await self._reset(send, cursor.check_feed(await self._check_feed(link)))
            began = trio.current_time()
            entries = await self._read(link)
            if not entries:
                await self._reset(send, cursor.check_no_entries())
                continue
            events, problems = cursor.advance(entries)
            if events:
                self._record_observed(events)
                await self._deliver(send, events)
            await self._reset(send, *problems)
            if len(entries) < BATCH:
                await trio.sleep_until(began + TICK)

    async def _deliver(
        self, send: trio.MemorySendChannel[Sequence[Event]], batch: Sequence[Event]
    ) -> None:
        await send.send(batch)
        # Wait until the batch is written to the clients. Reading earlier would not deliver the next
        # batch earlier, and its events would be older (measured: by a third under load).
        for _ in range(PASSES_PER_BATCH):
            await trio.lowlevel.checkpoint()

    async def _reset(
        self, send: trio.MemorySendChannel[Sequence[Event]], *reasons: str | None
    ) -> None:
        """Delivers `FEED_RESET` if any of the reasons is not None."""
        losses = [reason for reason in reasons if reason is not None]
        for reason in losses:
            log.warning("%s: all jobs are read again: %s", self.shard.feed, reason)
        if losses:
            self._losses += 1
            await self._deliver(send, FEED_RESET)

    async def _read(self, link: Link) -> list[Entry]:
        block = round(BLOCK * 1000)
        (answer,) = raise_errors(
            await link.execute(
                [("XREAD", "COUNT", BATCH, "BLOCK", block, "STREAMS", self.shard.feed,
                  self._cursor.id)]
            )
        )  # fmt: skip
        return answer[0][1] if answer else []

    async def _check_feed(self, link: Link) -> FeedState:
        """Registers this node at the server, and repairs the shard if the generation is new.
        Returns the state of the feed, which is read after that.

        Until then the calls to this shard fail, and no event of the new generation is read: this
        node restores the states that clients have seen, and waits until the other nodes have done
        so.
        """
        self._checking = True
        self._check_at = trio.current_time() + CHECK_INTERVAL
        observed: list[Event] | None = None
        while True:
            server = await self._server(link)
            repair, generation, is_open = await self._register(link, server)
            if self._repaired != repair:
                if observed is None:
                    for calls in self._calls:
                        calls.refuse_all(unless=(server, generation))
                    observed = list(self._observed())
                    self._observed_epoch = max(
                        (event.position.epoch for event in observed), default=0
                    )
                await restore(link, self.shard, observed)
                self._repaired = repair
            elif is_open:
                state = await self._end_of_feed(link, server, generation)
                for calls in self._calls:
                    calls.allow(server, generation)
                self._checking = False
                return state
            else:
                await trio.sleep(POLL_INTERVAL)

    async def _server(self, link: Link) -> bytes:
        """Returns the identity of the server. It can change within a connection, when a replica is
        promoted.

        Raises `RedisError` if the server is a replica.
        """
        server, replication = raise_errors(
            await link.execute([("INFO", "server"), ("INFO", "replication")])
        )
        if not is_primary(replication):
            raise RedisError(REPLICA)
        return server_identity(server, replication)

    async def _register(self, link: Link, server: bytes) -> tuple[int, int, bool]:
        cursor = self._cursor
        newest = max(
            cursor.epoch, cursor.feed.generation, self._observed_epoch, self._repaired or 0
        )
        return await register(
            link,
            self.shard,
            self._registration,
            server=server,
            followed=cursor.feed.server,
            newest_epoch=newest,
            repaired=self._repaired,
        )

    async def _end_of_feed(self, link: Link, server: bytes, generation: int) -> FeedState:
        """Returns the state of the feed, read in one transaction, so that id and number are
        consistent."""
        answers = await link.execute(
            [
                ("MULTI",),
                ("XINFO", "STREAM", self.shard.feed),
                ("HGET", self.shard.counters, "events"),
                ("EXEC",),
            ]
        )
        stream, number = raise_errors(answers)[-1]
        return parse_feed_state(server, generation, stream, number)

    async def _connect(self) -> Link:
        self._link = link = await self._connector.connect(
            self.shard.feed, name=self.shard.feed, limiter=self._limiter
        )
        # For clients that publish with FCALL. A server may be too old for it, or forbid it.
        (answer,) = await link.execute([("FUNCTION", "LOAD", "REPLACE", FUNCTIONS)])
        if isinstance(answer, Exception):
            log.debug("%s: cannot load the Redis functions: %s", self.shard.feed, answer)
        return link

    async def _reconnect(self, send: trio.MemorySendChannel[Sequence[Event]]) -> Link:
        link = await self._connect()
        self._cursor.check_feed(await self._check_feed(link))
        self._error = None
        log.info("%s: reconnected", self.shard.feed)
        # Even if the check has detected no loss: comparing all jobs after an outage costs little.
        await self._deliver(send, FEED_RESET)
        return link

    def _report_unavailable(self, error: Exception) -> None:
        """Logs the first error of an outage."""
        if self._error is None:
            log.warning("%s: unavailable: %s", self.shard.feed, explain(error))
        self._error = explain(error)
