"""A shared log and cursors: what is delivered of one job, and how far each watcher is.

A `Topic` keeps a job's recent events once, already encoded. A `Subscription` is a cursor
into it. Nothing is queued per watcher, so a slow one costs the others nothing; what it
gets is computed when it can take it, and shared by all who stand at the same place.

A topic begins `loading`: events of the feed gather in it while the broker's snapshot is
read. Both are folded in by position, so it does not matter which comes first.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

import msgspec
from attrs import define, field, frozen

from .job import UNSEEN, Event, Position
from .protocol import Message, Mode, progress, unseen

__all__ = ["Marks", "Missing", "Subscription", "Topic"]


class Marks(Protocol):
    """Where a subscription says that it has something new: an outbox."""

    def mark(self, subscription: Subscription) -> None:
        """Remember it. Never blocks, never fails; called again, it changes nothing."""


@frozen
class Missing:
    """Events that a cursor needs and the ring no longer has: those after `after`."""

    after: Position


@define(eq=False)
class Subscription:
    """One connection's interest in one topic: a cursor."""

    topic: Topic
    outbox: Marks
    mode: Mode = "latest"
    cursor: Position | None = None
    """The position of the last frame the client was given; None: nothing yet."""

    @property
    def job(self) -> str:
        return self.topic.job

    @property
    def due(self) -> bool:
        """Whether the topic has something that the cursor has not passed."""
        topic = self.topic
        # First whether they are one object: they are, whenever it has taken the newest.
        return (
            self.cursor is not topic.position
            and not topic.loading
            and self.cursor != topic.position
        )

    def take(self) -> Message | Missing | None:
        """All that is due, moving the cursor past it; None if nothing is.

        `Missing` leaves the cursor where it is: the caller fetches those events
        and calls `replay`, or `skip`.
        """
        if not self.due:
            return None
        message = self.topic.read(self.cursor, self.mode)
        if isinstance(message, Message):
            self.cursor = self.topic.position
        return message

    def replay(self, events: list[Event], *, after: Position) -> Message | None:
        """What was missing, moving the cursor past it; None if it does not follow `after`."""
        message = self.topic.replay(events, after=after)
        if message is not None:
            self.cursor = message.position
        return message

    def skip(self) -> None:
        """Give up what is missing: the next frame is a snapshot."""
        self.cursor = None


@define(eq=False)
class _Entry:
    event: Event
    text: bytes
    """The state as JSON: encoded here, once."""
    _step: bytes | None = field(default=None, init=False)

    @property
    def step(self) -> bytes:
        """The object that brings a client here from the event before; made once."""
        if self._step is None:
            prev = self.event.position.seq - 1
            # The first event of an epoch is always a snapshot.
            [self._step] = progress(self.event, self.text, prev=prev or None).texts
        return self._step


@define(eq=False)
class Topic:
    """A job that someone here is watching."""

    job: str
    ring_bytes: int
    """How much of recent events to keep. The newest stays, whatever its size."""
    loading: bool = True
    idle_since: float | None = None
    """When the last subscription went, on the clock of its hub; None while there is one."""
    subscriptions: set[Subscription] = field(factory=set)
    position: Position = field(default=UNSEEN, init=False)
    """The newest event's."""
    _ring: deque[_Entry] = field(factory=deque, init=False)
    _size: int = field(default=0, init=False)
    _messages: dict[tuple[Position | None, Mode], Message] = field(factory=dict, init=False)
    """What was read since the newest event, for others who stand at the same place: at
    most as much as the ring."""
    _messages_size: int = field(default=0, init=False)

    @property
    def latest(self) -> Event | None:
        """The newest event."""
        return self._ring[-1].event if self._ring else None

    def append(self, event: Event) -> bool:
        """Take in an event; False if it is not newer than the newest.

        The ring stays contiguous: an event that does not follow the newest (another
        epoch, or some in between were missed) starts it anew.
        """
        head = self.position
        if event.position <= head:
            return False
        if event.position != (head.epoch, head.seq + 1):
            self._ring.clear()
            self._size = 0
        entry = _Entry(event, msgspec.json.encode(event.state))
        self._ring.append(entry)
        self.position = event.position
        self._size += len(entry.text)
        while self._size > self.ring_bytes and len(self._ring) > 1:
            self._size -= len(self._ring.popleft().text)
        self._forget_messages()
        return True

    def loaded(self, snapshot: Event | None, *, asked_at: Position) -> None:
        """The broker's snapshot is here (None: it knows no such job): from now on, live.

        `asked_at` is where the topic stood when the broker was asked. If it still stands
        there and the job is unknown by now, the job was forgotten: its watchers are told,
        for nothing would ever come of it again. A final state is true all the same.
        """
        self.loading = False
        if snapshot is not None:
            self.append(snapshot)
        elif self._ring and self.position == asked_at and not self._ring[-1].event.state.final:
            self._ring.clear()
            self._size = 0
            self.position = UNSEEN
            self._forget_messages()

    def read(self, cursor: Position | None, mode: Mode) -> Message | Missing:
        """What brings a client from `cursor` to the newest event; there must be something.

        With no cursor, or one that is not in this epoch's past, a snapshot. In mode
        `every` a cursor of an earlier epoch continues with the first event of this one.
        """
        if not self._ring:
            return unseen(self.job)
        known = self._messages.get((cursor, mode))
        if known is not None:
            return known
        message = self._read(self._in_its_past(cursor, mode), mode)
        if isinstance(message, Message):
            if self._messages_size + message.size > self.ring_bytes:
                self._forget_messages()
            self._messages[cursor, mode] = message
            self._messages_size += message.size
        return message

    def _in_its_past(self, cursor: Position | None, mode: Mode) -> Position | None:
        """The cursor as a position of this epoch; None if that cannot be."""
        head = self.position
        if cursor is not None and mode == "every" and cursor.epoch < head.epoch:
            return Position(head.epoch, 0)
        if cursor is not None and (cursor.epoch != head.epoch or cursor.seq > head.seq):
            return None
        return cursor

    def _read(self, cursor: Position | None, mode: Mode) -> Message | Missing:
        newest = self._ring[-1]
        if cursor is None or mode == "latest":
            return progress(newest.event, newest.text, prev=cursor.seq if cursor else None)
        oldest = self._ring[0].event.position.seq
        if cursor.seq + 1 < oldest:
            return Missing(cursor)
        return self._join([self._ring[i] for i in range(cursor.seq + 1 - oldest, len(self._ring))])

    def _forget_messages(self) -> None:
        self._messages.clear()
        self._messages_size = 0

    def replay(self, events: list[Event], *, after: Position) -> Message | None:
        """`events` as what follows `after`, one by one; None if they do not follow it.

        Those that the feed has not brought yet are left to it: the cursor stays behind
        the newest event.
        """
        wanted = [event for event in events if after < event.position <= self.position]
        for number, event in enumerate(wanted, start=after.seq + 1):
            if event.position != (after.epoch, number):
                return None
        if not wanted:
            return None
        return self._join([_Entry(event, msgspec.json.encode(event.state)) for event in wanted])

    def _join(self, entries: list[_Entry]) -> Message:
        """The entries one by one."""
        steps = [entry.step for entry in entries]
        return Message(steps, job=self.job, position=entries[-1].event.position)

    def __repr__(self) -> str:
        state = "loading" if self.loading else "live"
        return f"<Topic {self.job} {state} at {self.position}, {len(self.subscriptions)} watching>"
