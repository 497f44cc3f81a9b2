"""Divides what is due to one client into writes, and passes them to its sink.

`begin` never waits: it writes as much as the sink takes at once, and the fan-out uses it while the
writer is lent. `finish` waits for the client; only the connection's writer task uses it. Messages
are taken when they can be written, so they are as new as possible, and no more than about
`WRITE_SIZE`, or one topic's replay, is held.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from typing import Protocol

import trio

from ..model.limits import Limits
from ..observability.counters import TIMED, Counters
from ..protocol.close_codes import CloseCode
from ..protocol.messages import Message
from .topic import Due

__all__ = ["WRITE_SIZE", "FrameWriter", "Sink"]

WRITE_SIZE = 256 * 1024
"""Bytes per write, approximately. Each write has the deadline, so its size must be possible for a
slow client (10 s: 26 KB/s)."""


class Sink(Protocol):
    """Sends to one client. Used by one task at a time."""

    def send(self, messages: Sequence[Message]) -> bool:
        """Send messages in order, as far as possible without waiting; returns whether that was all.

        If not, `flush` must come next. Raises `TransportClosed` if the client is gone.
        """
        ...

    def ping(self) -> bool:
        """Send the transport's own ping, if it has one. Otherwise like `send`."""
        ...

    async def flush(self) -> None:
        """Send the rest. Raises `TransportClosed` if the client is gone.

        Cancelled, half a frame may be on the wire: only `abort` may follow.
        """
        ...

    async def close(self, close_code: CloseCode) -> None:
        """Close, within the transport's own deadline, and release everything."""
        ...

    def abort(self) -> None:
        """Drop the connection without a close frame. Never blocks."""
        ...


class FrameWriter:
    """Writes to one sink. It does not close it."""

    __slots__ = ("_counters", "_limits", "_ping", "_rest", "_since", "_sink")

    def __init__(self, sink: Sink, *, limits: Limits, counters: Counters) -> None:
        self._sink = sink
        self._limits = limits
        self._counters = counters
        self._since = time.time()
        """When the client connected."""
        self._rest: Iterator[Sequence[Message]] = iter(())
        """The writes after the unfinished one."""
        self._ping = False
        """Whether the transport's own ping comes after these writes."""

    def begin(
        self,
        replies: Sequence[Message],
        due: Collection[Due],
        *,
        since: float,
        ping: bool = False,
    ) -> bool:
        """Write the replies, then what the subscriptions have, then the ping, as far as possible
        without waiting. Returns whether that was everything; if not, `finish` must come next.

        `since` is when the first of what is due could have been written. Raises `TransportClosed`
        if the client is gone.
        """
        counters = self._counters
        if counters.timing and due:
            counters.queue_waits.observe(trio.current_time() - since)
        if len(due) == 1 and not replies:  # by far the most frequent case
            [subscription] = due
            message = subscription.take()
            if message is None:
                return not ping or self._sink.ping()
            one = message.kind != "gap" and not subscription.take_until_none
            if one and message.size <= WRITE_SIZE and not ping:
                return self._send((message,))
            self._rest = _writes((message,), due)
        else:
            self._rest = _writes(replies, due)
        self._ping = ping
        return self._continue()

    async def finish(self) -> None:
        """Wait until everything that `begin` left is written.

        Raises `TransportClosed` if the client is gone, and `trio.TooSlowError` if one write takes
        longer than `limits.write_timeout`. After either, and when cancelled, half a frame may be
        on the wire.
        """
        while True:
            began = trio.current_time()
            with trio.fail_after(self._limits.write_timeout):
                await self._sink.flush()
            self._counters.write_durations.observe(trio.current_time() - began)
            if self._continue():
                return

    def _continue(self) -> bool:
        for messages in self._rest:
            if not self._send(messages):
                return False
        ping, self._ping = self._ping, False
        return not ping or self._sink.ping()

    def _send(self, messages: Sequence[Message]) -> bool:
        done = self._sink.send(messages)
        counters = self._counters
        for message in messages:
            counters.messages_sent[message.kind] += len(message.texts)
            counters.sent_bytes += message.size
            counters.events_conflated += message.skipped
        counters.writes += 1
        if counters.timing:
            self._time(messages[-1])
        elif counters.writes % TIMED == 0:
            counters.timing = True
        return done

    def _time(self, message: Message) -> None:
        """Observe the delay of the message's event, unless it was reported before the client
        connected."""
        self._counters.timing = False
        reported_at = message.event.state.reported_at if message.event else None
        if reported_at is not None and reported_at > self._since:
            self._counters.delivery_delays.observe(max(0.0, time.time() - reported_at))


def _writes(replies: Sequence[Message], due: Collection[Due]) -> Iterator[Sequence[Message]]:
    """The replies, then what is due, in writes of about `WRITE_SIZE`. A message is taken when the
    write before it is finished."""
    messages, size = list(replies), 0
    if messages:
        size = sum([message.size for message in messages])
        if size > WRITE_SIZE:
            for message in messages:
                yield from ([part] for part in _parts(message))
            messages, size = [], 0
    for subscription in due:
        due_message = subscription.take()
        while due_message is not None:
            message = due_message
            if message.size > WRITE_SIZE and len(message.texts) > 1:
                if messages:
                    yield messages
                yield from ([part] for part in message.split(WRITE_SIZE))
                messages, size = [], 0
            else:
                messages.append(message)
                size += message.size
            if size >= WRITE_SIZE:
                yield messages
                messages, size = [], 0
            # What follows a gap is due as well; after other messages the position is the newest.
            again = message.kind == "gap" or subscription.take_until_none
            due_message = subscription.take() if again else None
    if messages:
        yield messages


def _parts(message: Message) -> Iterator[Message]:
    if message.size > WRITE_SIZE and len(message.texts) > 1:
        return message.split(WRITE_SIZE)
    return iter((message,))
