"""What one connection still has to be sent, and its close code.

An outbox contains no progress. It knows *which* subscriptions have something new, each at most
once, so it is bounded by the number of subscriptions, and `notify` never blocks and never fails.
Replies to commands have a queue of their own, `limits.max_replies` long. The reader waits for room
in it, so that TCP slows down a client that floods commands.

While the connection's writer has nothing to do it waits on a memory channel, and lends its
`FrameWriter` for exactly that time (`lend`), so that the fan-out can write what becomes due. The
channel carries no data. It wakes the writer when the socket was full and a write must be finished,
and it is closed when the connection is to end. After that the writer is not lent, so nothing can be
written.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from math import inf
from typing import Protocol

import trio

from ..model.limits import Limits
from ..protocol.close_codes import CloseCode
from ..protocol.messages import Message
from .fan_out import FanOut
from .timer_wheel import TICK, TimerWheel
from .topic import Due

__all__ = ["Outbox", "Writer"]

_now = trio.current_time


class Writer(Protocol):
    """What an outbox uses to write."""

    def begin(
        self,
        replies: Sequence[Message],
        due: Collection[Due],
        *,
        since: float,
        ping: bool = False,
    ) -> bool:
        """Write the replies, then what the subscriptions have, as far as possible without waiting.

        Returns whether that was everything; otherwise it must be finished before the next call.
        `ping`: whether to send the transport's own ping as well. `since`: when the first of what
        is due could have been written, on Trio's clock.
        """
        ...


class Outbox:
    """The outbox of one connection. Everything but `reply_slot` and `lend` is synchronous."""

    def __init__(self, limits: Limits, *, fan_out: FanOut, timer_wheel: TimerWheel) -> None:
        self._announcements: list[Message] = []
        self._replies: list[Message] = []
        self._due: dict[Due, None] = {}  # an ordered set
        self._ping = False
        self._reply_slots = trio.Semaphore(limits.max_replies)
        self._wake, self._woken = trio.open_memory_channel[None](1)
        self._fan_out = fan_out
        self._queued = False
        """Whether it is in the queue of the fan-out."""
        self._lent: Writer | None = None
        self._unfinished = False
        """Whether the fan-out has begun a write that the writer must finish."""
        self._failure: Exception | None = None
        """The exception of the fan-out's write, which the writer raises."""
        self._timer_wheel = timer_wheel
        self._interval = 0.0
        self._opens_at = -inf
        self._opens_on: int | None = None
        """The tick on which progress may be written again; None if it may be now."""
        self._due_since = -inf
        self.close_code: CloseCode | None = None
        self.close_detail = ""
        """Why the connection ends, if that is known."""

    def __repr__(self) -> str:
        state = f"ended: {self.close_code.reason}" if self.close_code else "open"
        return f"<Outbox {state}, {len(self._replies)} replies, {len(self._due)} due>"

    def notify(self, subscription: Due) -> None:
        """`subscription` has something new."""
        due = self._due
        if subscription in due or self.close_code is not None:
            return
        if not self._queued and self._opens_on is None:
            self._queued = True
            self._fan_out.add(self)
        if not due:
            self._due_since = self._fan_out.queued_since  # one reading of the clock for a batch
        due[subscription] = None

    def cancel(self, subscription: Due) -> None:
        """The client has unsubscribed."""
        self._due.pop(subscription, None)

    async def reply_slot(self) -> None:
        """Wait until there is room for one more reply. Only the task that replies calls it."""
        async with self._reply_slots:
            pass

    def reply(self, message: Message) -> None:
        """Queue the reply to a command; there must be room.

        Waiting for room is a separate call, made before the command is carried out, because
        what the command makes due would otherwise overtake its reply.
        """
        if self.close_code is None:
            self._reply_slots.acquire_nowait()
            self._replies.append(message)
            self._enqueue()

    def announce(self, message: Message) -> None:
        """Queue a message that is not a reply (`welcome`, `ping`, `goaway`).

        These do not wait for room: a connection gets only a handful of them.
        """
        if self.close_code is None:
            self._announcements.append(message)
            self._enqueue()

    def ping(self) -> None:
        """Queue the transport's own ping."""
        if self.close_code is None:
            self._ping = True
            self._enqueue()

    def limit_rate(self, max_hz: float) -> None:
        """Write progress at most `max_hz` times a second, on the timer wheel's ticks. Replies do
        not wait."""
        interval = 1 / max_hz
        if self._opens_on is not None:
            self._timer_wheel.cancel(self, self._opens_on)
            self._opens_at += interval - self._interval
            self._opens_on = self._timer_wheel.call_at(self._opens_at, self)
        self._interval = interval

    def open(self) -> None:
        """Progress may be written again. Called by the timer wheel."""
        self._opens_on = None
        if self._due:
            self._due_since = max(self._due_since, self._opens_at)  # it could not be written before
            self._enqueue()

    def end(self, close_code: CloseCode, *, detail: str = "") -> CloseCode:
        """Request that the connection close. Queued messages are still sent, later ones are
        dropped. `detail` is a sentence for the client. Returns the close code; the first
        request wins."""
        if self.close_code is None:
            self.close_code = close_code
            self.close_detail = detail
            if self._opens_on is not None:
                self._timer_wheel.cancel(self, self._opens_on)
                self._opens_on = None
            self._wake.close()
        return self.close_code

    async def lend(self, writer: Writer) -> bool:
        """Let the fan-out write with `writer` until a write must be finished.

        Returns True if the caller must finish a write of `writer`, and False when the outbox has
        ended and everything is written. Raises what `writer` raised. Cancelled, `writer` is no
        longer used; a write that it has begun may be unfinished.
        """
        if self._ready and not self._begin(writer):
            return True
        self._lent = writer
        try:
            await self._woken.receive()
        except trio.EndOfChannel:
            pass
        finally:
            self._lent = None
        if self._failure is not None:
            failure, self._failure = self._failure, None
            try:
                raise failure
            finally:
                del failure  # it refers to this frame: only the garbage collector would free both
        if self._unfinished:
            self._unfinished = False
            return True
        return not self._begin(writer)

    def write(self) -> int:
        """Write what is due, if the writer is lent. Called by the fan-out."""
        self._queued = False
        writer = self._lent
        if writer is None:
            return 0
        messages = len(self._due) + len(self._replies) + 1
        try:
            if self._begin(writer):
                return messages
            self._unfinished = True
        except Exception as error:  # noqa: BLE001 - of this connection alone: its writer raises it
            self._failure = error
        self._lent = None
        if self.close_code is None:  # otherwise the writer is awake
            self._wake.send_nowait(None)
        return messages

    def _enqueue(self) -> None:
        if not self._queued:
            self._queued = True
            self._fan_out.add(self)

    @property
    def _ready(self) -> bool:
        due = self._due and self._opens_on is None
        return bool(due or self._replies or self._announcements or self._ping)

    def _begin(self, writer: Writer) -> bool:
        """Take what is due, and begin to write it; returns whether that was everything."""
        due: Collection[Due] = ()
        if self._due and self._opens_on is None:
            due, self._due = self._due, {}
            if self._interval and self.close_code is None:
                self._close()
        if not (self._replies or self._announcements or self._ping):
            return not due or writer.begin((), due, since=self._due_since)
        replies, ping = self._announcements + self._replies, self._ping
        for _ in self._replies:
            self._reply_slots.release()
        self._announcements, self._replies, self._ping = [], [], False
        return writer.begin(replies, due, since=self._due_since, ping=ping)

    def _close(self) -> None:
        """Write no progress for the interval. It starts at the time for which this write was
        scheduled, so a write that comes a little late does not delay the next one."""
        now = _now()
        on_time = now - self._opens_at < TICK
        self._opens_at = (self._opens_at if on_time else now) + self._interval
        self._opens_on = self._timer_wheel.call_at(self._opens_at, self)
