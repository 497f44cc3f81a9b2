"""What is due to one connection, and the end of it.

An outbox holds no progress, only marks: *which* subscriptions have something new, each
at most once, so it is bounded by the number of subscriptions, and a mark never blocks
and never fails. Answers to commands have a lane of their own, `limits.max_replies` long,
which the reader waits for, so that a client that floods commands is slowed by TCP.

The writer draws from it through a memory channel that carries no data, only the news
that there is some: what has come before the writer runs is one batch. (A channel of the
marks themselves would have to hold those of subscriptions already cancelled, and would
wake the writer once a mark.) Its sending end is the connection's life: `end` closes it,
what is queued is still delivered, and what comes later has nowhere to go.
"""

from __future__ import annotations

from math import inf
from typing import NamedTuple

import trio

from .endings import Ending
from .limits import Limits
from .metronome import BEAT, Metronome
from .protocol import Message
from .topic import Subscription

__all__ = ["Batch", "Outbox"]

_now = trio.current_time


class Batch(NamedTuple):
    """What the writer is to send next: the answers, then what the subscriptions have."""

    replies: list[Message]
    due: list[Subscription]
    ping: bool = False
    """Whether the transport's own ping should go out as well."""
    since: float = 0.0
    """When the first of what is due might have been sent, on Trio's clock."""


class Outbox:
    """One connection's. Everything but `room` and `receive` is synchronous."""

    def __init__(self, limits: Limits, metronome: Metronome) -> None:
        self._announcements: list[Message] = []
        self._replies: list[Message] = []
        self._due: dict[Subscription, None] = {}  # an ordered set
        self._ping = False
        self._room = trio.Semaphore(limits.max_replies)
        self._news, self._bell = trio.open_memory_channel[None](1)
        self._rung = False
        """Whether the news is on its way already."""
        self._metronome = metronome
        self._interval = 0.0
        self._opens_at = -inf
        self._opens_on: int | None = None
        """The beat that it waits for; None while it hands out marks."""
        self._due_since = -inf
        self.pinged_at: float | None = None
        """When the writer took a ping that is not answered yet, on Trio's clock."""
        self.ending: Ending | None = None
        """Why the connection ends, once that is known."""

    def __repr__(self) -> str:
        state = f"ended: {self.ending.reason}" if self.ending else "open"
        return f"<Outbox {state}, {len(self._replies)} replies, {len(self._due)} due>"

    def mark(self, subscription: Subscription) -> None:
        """Something is new for `subscription`."""
        if self.ending is None and subscription not in self._due:
            if not self._due:
                self._due_since = _now()
            self._due[subscription] = None
            if self._opens_on is None:
                self._ring()

    def unmark(self, subscription: Subscription) -> None:
        """The client is no longer interested in it."""
        self._due.pop(subscription, None)

    async def room(self) -> None:
        """Return when there is room for one more answer. For the one task that replies."""
        async with self._room:
            pass

    def reply(self, message: Message) -> None:
        """Queue the answer to a command; there must be room.

        Waiting for it is a call of its own, before the command is carried out: what the
        command makes due would else overtake its answer.
        """
        if self.ending is None:
            self._room.acquire_nowait()
            self._replies.append(message)
            self._ring()

    def announce(self, message: Message, *, ping: bool = False) -> None:
        """Queue a message of the gateway's own (`welcome`, `ping`, `goaway`).

        They do not wait for room: there are only a handful in a connection's life.
        """
        if self.ending is None:
            self._announcements.append(message)
            self._ping = self._ping or ping
            self._ring()

    def pace(self, max_hz: float) -> None:
        """From now on hand out marks at most `max_hz` times a second, on the metronome's beat;
        answers do not wait."""
        interval = 1 / max_hz
        if self._opens_on is not None:
            self._metronome.forget(self, self._opens_on)
            self._opens_at += interval - self._interval
            self._opens_on = self._metronome.open_at(self._opens_at, self)
        self._interval = interval

    def open(self) -> None:
        """Hand out marks again. For the metronome."""
        self._opens_on = None
        if self._due:
            self._due_since = max(self._due_since, self._opens_at)  # before, it was not to be sent
            self._ring()

    def end(self, ending: Ending) -> Ending:
        """Wish for the end; what is queued is still delivered. Returns why: the first wins."""
        if self.ending is None:
            self.ending = ending
            if self._opens_on is not None:
                self._metronome.forget(self, self._opens_on)
                self._opens_on = None
            self._news.close()
        return self.ending

    async def receive(self) -> Batch:
        """The next batch, never empty. Raises `trio.EndOfChannel` after the last.

        Cancelled, it has taken nothing. For one task alone.
        """
        while True:
            try:
                await self._bell.receive()
                self._rung = False
            except trio.EndOfChannel:
                if not self._ready:
                    raise
            if self._ready:
                return self._take()

    def _ring(self) -> None:
        if not self._rung:
            self._rung = True
            self._news.send_nowait(None)

    def __aiter__(self) -> Outbox:
        return self

    async def __anext__(self) -> Batch:
        try:
            return await self.receive()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None

    @property
    def _ready(self) -> bool:
        due = self._due and self._opens_on is None
        return bool(due or self._replies or self._announcements)

    def _take(self) -> Batch:
        due: list[Subscription] = []
        since = self._due_since
        if self._due and self._opens_on is None:
            due, self._due = list(self._due), {}
            if self._interval and self.ending is None:
                self._close()
        if not (self._replies or self._announcements):
            return Batch([], due, since=since)
        batch = Batch(self._announcements + self._replies, due, ping=self._ping, since=since)
        if self._ping:
            self.pinged_at = _now()
        for _ in self._replies:
            self._room.release()
        self._announcements, self._replies, self._ping = [], [], False
        return batch

    def _close(self) -> None:
        """Hand out no marks for the interval. It begins when it should have: a writer that
        comes a little after the beat does not come later each time."""
        now = _now()
        on_time = now - self._opens_at < BEAT
        self._opens_at = (self._opens_at if on_time else now) + self._interval
        self._opens_on = self._metronome.open_at(self._opens_at, self)
