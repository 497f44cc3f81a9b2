"""The messages that one connection must still be sent, and its close code.

An outbox contains no progress. It knows *which* subscriptions have something new, each at most
once, so it is bounded by the number of subscriptions, and `notify` never blocks and never fails.
Replies to commands have a queue of their own, `limits.max_replies` long. The reader waits for a
slot in it, so that TCP slows down a client that floods commands.

While the connection's writer task has nothing to do it waits on a memory channel
(`write_until_blocked`). For exactly that time the fan-out may use the task's `FrameWriter`
(`write`), so a message is written without waking the task. The channel carries no data. It wakes
the task when the socket was full and a write must be finished, and it is closed when the connection
is to end. After that the fan-out has no writer, so it cannot write.
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
from .topic import AnySubscription

__all__ = ["Outbox", "Writer"]

_now = trio.current_time


class Writer(Protocol):
    """Writes the messages of an outbox."""

    def begin(
        self,
        replies: Sequence[Message],
        pending: Collection[AnySubscription],
        *,
        pending_since: float,
        ping: bool = False,
    ) -> bool:
        """Writes the replies, then the messages of the `pending` subscriptions, as far as possible
        without waiting.

        Returns whether everything was written; if not, the write must be finished before the next
        call. `ping`: whether to send the transport's own ping as well. `pending_since`: the time,
        on Trio's clock, from which the first message could have been written.
        """
        ...


class Outbox:
    """The outbox of one connection. Only `wait_for_reply_slot` and `write_until_blocked` wait."""

    def __init__(self, limits: Limits, *, fan_out: FanOut, timer_wheel: TimerWheel) -> None:
        self._announcements: list[Message] = []
        self._replies: list[Message] = []
        self._pending: dict[AnySubscription, None] = {}  # an ordered set
        self._ping = False
        self._reply_slots = trio.Semaphore(limits.max_replies)
        self._wake, self._woken = trio.open_memory_channel[None](1)
        self._fan_out = fan_out
        self._queued = False
        """Whether it is in the queue of the fan-out."""
        self._direct_writer: Writer | None = None
        """The writer that the fan-out may use; None while the writer task does not wait."""
        self._unfinished = False
        """Whether the fan-out has begun a write that the writer must finish."""
        self._failure: Exception | None = None
        """The exception of the fan-out's write, which the writer raises."""
        self._timer_wheel = timer_wheel
        self._interval = 0.0
        """Minimum seconds between two writes of progress."""
        self._resumes_at = -inf
        """The time from which progress may be written."""
        self._resume_tick: int | None = None
        """The tick on which progress may be written again; None if it may be written now."""
        self._pending_since = -inf
        """The time from which the first of the pending subscriptions could have been written."""
        self.close_code: CloseCode | None = None
        self.close_detail = ""
        """A sentence with the reason why the connection ends; "" if there is none."""

    def __repr__(self) -> str:
        state = f"ended: {self.close_code.reason}" if self.close_code else "open"
        return f"<Outbox {state}, {len(self._replies)} replies, {len(self._pending)} pending>"

    def notify(self, subscription: AnySubscription) -> None:
        """Writes what `subscription` has, in the next pass of the fan-out in which progress may be
        written."""
        pending = self._pending
        if subscription in pending or self.close_code is not None:
            return
        if not self._queued and self._resume_tick is None:
            self._queued = True
            self._fan_out.add(self)
        if not pending:
            self._pending_since = self._fan_out.queued_since  # one reading of the clock for a batch
        pending[subscription] = None

    def cancel(self, subscription: AnySubscription) -> None:
        """Writes nothing of `subscription`, because the client has unsubscribed."""
        self._pending.pop(subscription, None)

    async def wait_for_reply_slot(self) -> None:
        """Waits until one more reply can be queued. Only the task that replies calls it."""
        async with self._reply_slots:
            pass

    def reply(self, message: Message) -> None:
        """Queues the reply to a command; `wait_for_reply_slot` must have returned.

        Waiting is a separate call, made before the command is executed, because frames that the
        command causes could otherwise be sent before its reply.
        """
        if self.close_code is None:
            self._reply_slots.acquire_nowait()
            self._replies.append(message)
            self._enqueue()

    def announce(self, message: Message) -> None:
        """Queues a message that is not a reply (`welcome`, `ping`, `goaway`).

        They do not wait for a slot: a connection gets only a handful of them.
        """
        if self.close_code is None:
            self._announcements.append(message)
            self._enqueue()

    def ping(self) -> None:
        """Queues the transport's own ping."""
        if self.close_code is None:
            self._ping = True
            self._enqueue()

    def limit_rate(self, max_hz: float) -> None:
        """Writes progress at most `max_hz` times a second, on the timer wheel's ticks. Replies do
        not wait."""
        interval = 1 / max_hz
        if self._resume_tick is not None:
            self._timer_wheel.cancel(self, self._resume_tick)
            self._resumes_at += interval - self._interval
            self._resume_tick = self._timer_wheel.call_at(self._resumes_at, self)
        self._interval = interval

    def on_tick(self) -> None:
        """Resumes writing progress, because the interval is over. Called by the timer wheel."""
        self._resume_tick = None
        if self._pending:
            self._pending_since = max(self._pending_since, self._resumes_at)
            self._enqueue()

    def end(self, close_code: CloseCode, *, detail: str = "") -> CloseCode:
        """Requests that the connection close. Queued messages are still sent, later ones are
        dropped. `detail` is a sentence for the client. Returns the close code; the first
        request wins."""
        if self.close_code is None:
            self.close_code = close_code
            self.close_detail = detail
            if self._resume_tick is not None:
                self._timer_wheel.cancel(self, self._resume_tick)
                self._resume_tick = None
            self._wake.close()
        return self.close_code

    async def write_until_blocked(self, writer: Writer) -> bool:
        """Lets the fan-out use `writer` until the socket is full or the outbox has ended.

        Returns True if the caller must finish a write of `writer`, and False when the outbox has
        ended and everything is written. Raises what `writer` raised.

        Cancellation: `writer` is no longer used; a write that it has begun may be unfinished.
        """
        if self._ready and not self._begin(writer):
            return True
        self._direct_writer = writer
        try:
            await self._woken.receive()
        except trio.EndOfChannel:
            pass
        finally:
            self._direct_writer = None
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
        """Writes everything that may be written now, if the writer task waits in
        `write_until_blocked`. Returns the number of messages. Called by the fan-out."""
        self._queued = False
        writer = self._direct_writer
        if writer is None:
            return 0
        messages = len(self._pending) + len(self._replies) + 1
        try:
            if self._begin(writer):
                return messages
            self._unfinished = True
        except Exception as error:  # noqa: BLE001 - this connection's writer task raises it
            self._failure = error
        self._direct_writer = None
        if self.close_code is None:  # otherwise `end` has woken the writer task
            self._wake.send_nowait(None)
        return messages

    def _enqueue(self) -> None:
        if not self._queued:
            self._queued = True
            self._fan_out.add(self)

    @property
    def _ready(self) -> bool:
        progress = self._pending and self._resume_tick is None
        return bool(progress or self._replies or self._announcements or self._ping)

    def _begin(self, writer: Writer) -> bool:
        """Begins to write everything that may be written now; returns whether all of it was
        written."""
        pending: Collection[AnySubscription] = ()
        if self._pending and self._resume_tick is None:
            pending, self._pending = self._pending, {}
            if self._interval and self.close_code is None:
                self._pause_progress()
        if not (self._replies or self._announcements or self._ping):
            return not pending or writer.begin((), pending, pending_since=self._pending_since)
        replies, ping = self._announcements + self._replies, self._ping
        for _ in self._replies:
            self._reply_slots.release()
        self._announcements, self._replies, self._ping = [], [], False
        return writer.begin(replies, pending, pending_since=self._pending_since, ping=ping)

    def _pause_progress(self) -> None:
        """Writes no progress for `_interval` seconds. They start at the time for which this write
        was scheduled, so a write that is a little late does not delay the next one."""
        now = _now()
        on_time = now - self._resumes_at < TICK
        self._resumes_at = (self._resumes_at if on_time else now) + self._interval
        self._resume_tick = self._timer_wheel.call_at(self._resumes_at, self)
