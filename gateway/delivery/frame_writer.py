"""Divides the messages for one client into writes, and passes them to its sink.

`begin` never waits: it writes as much as the sink accepts at once. The fan-out calls it while the
connection's writer task waits. `finish` waits for the client; only the writer task calls it.
Messages are made when they can be written, so they are as new as possible, and at most about
`WRITE_SIZE`, or one topic's replay, is in memory.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence

import trio

from ..model.limits import Limits
from ..observability.counters import SAMPLE_EVERY, Counters
from ..protocol.messages import Message
from .topic import AnySubscription
from .transport import Sink

__all__ = ["WRITE_SIZE", "FrameWriter"]

WRITE_SIZE = 256 * 1024
"""Bytes per write, approximately. Each write must finish within `write_timeout` (10 s): at this
size a client needs 26 KB/s."""


class FrameWriter:
    """Writes to one sink. `write_frames` in `connection.py` closes it; if a write misses its
    deadline (`trio.TooSlowError`), `write_frames` aborts the connection."""

    __slots__ = ("_connected_at", "_counters", "_limits", "_ping", "_remaining_writes", "_sink")

    def __init__(self, sink: Sink, *, limits: Limits, counters: Counters) -> None:
        self._sink = sink
        self._limits = limits
        self._counters = counters
        self._connected_at = time.time()
        """The time when the client connected."""
        self._remaining_writes: Iterator[Sequence[Message]] = iter(())
        """The writes after the unfinished one."""
        self._ping = False
        """Whether the transport's own ping comes after these writes."""

    def begin(
        self,
        replies: Sequence[Message],
        pending: Collection[AnySubscription],
        *,
        pending_since: float,
        ping: bool = False,
    ) -> bool:
        """Writes the replies, then the messages of the `pending` subscriptions, then the ping, as
        far as possible without waiting. Returns whether everything was written; if not, `finish`
        must be called next.

        `pending_since` is the time, on Trio's clock, from which the first message could have been
        written. Raises `TransportClosed` if the client is gone.
        """
        counters = self._counters
        if counters.sample_next_write and pending:
            counters.queue_waits.observe(trio.current_time() - pending_since)
        if len(pending) == 1 and not replies:  # by far the most frequent case
            [subscription] = pending
            message = subscription.next_message()
            if message is None:
                return not ping or self._sink.ping()
            is_last = message.kind != "gap" and not subscription.has_several_messages
            if is_last and message.size <= WRITE_SIZE and not ping:
                return self._send((message,))
            self._remaining_writes = _writes((message,), pending)
        else:
            self._remaining_writes = _writes(replies, pending)
        self._ping = ping
        return self._continue()

    async def finish(self) -> None:
        """Writes the rest of what `begin` was given.

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
        for messages in self._remaining_writes:
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
        if counters.sample_next_write:
            self._time(messages[-1])
        elif counters.writes % SAMPLE_EVERY == 0:
            counters.sample_next_write = True
        return done

    def _time(self, message: Message) -> None:
        """Observes the delay of the message's event, unless it was reported before the client
        connected."""
        self._counters.sample_next_write = False
        reported_at = message.event.state.reported_at if message.event else None
        if reported_at is not None and reported_at > self._connected_at:
            self._counters.delivery_delays.observe(max(0.0, time.time() - reported_at))


def _writes(
    replies: Sequence[Message], pending: Collection[AnySubscription]
) -> Iterator[Sequence[Message]]:
    """Yields the replies, then the messages of the `pending` subscriptions, in writes of about
    `WRITE_SIZE`. A message is made when the write before it is finished."""
    messages, size = list(replies), 0
    if messages:
        size = sum([message.size for message in messages])
        if size > WRITE_SIZE:
            for message in messages:
                yield from ([piece] for piece in _pieces(message))
            messages, size = [], 0
    for subscription in pending:
        next_message = subscription.next_message()
        while next_message is not None:
            message = next_message
            if message.size > WRITE_SIZE and len(message.texts) > 1:
                if messages:
                    yield messages
                yield from ([piece] for piece in message.split(WRITE_SIZE))
                messages, size = [], 0
            else:
                messages.append(message)
                size += message.size
            if size >= WRITE_SIZE:
                yield messages
                messages, size = [], 0
            # A gap is followed by another message; any other message ends at the newest position.
            again = message.kind == "gap" or subscription.has_several_messages
            next_message = subscription.next_message() if again else None
    if messages:
        yield messages


def _pieces(message: Message) -> Iterator[Message]:
    if message.size > WRITE_SIZE and len(message.texts) > 1:
        return message.split(WRITE_SIZE)
    return iter((message,))
