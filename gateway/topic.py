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
from .protocol import Kind, Message, Mode, snapshot, step, steps, unseen

__all__ = ["Marks", "Missing", "Subscription", "Topic"]


_encoder = msgspec.json.Encoder()


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
    ahead: bool = False
    """Its client has seen more than this node, it says: until the broker has been asked,
    nothing is due before we have come that far."""
    over: bool = False
    """The client is not interested any more; it may have been handed out already."""

    @property
    def job(self) -> str:
        return self.topic.job

    @property
    def due(self) -> bool:
        """Whether the topic has something that the cursor has not passed."""
        topic = self.topic
        # First whether they are one object: they are, whenever it has taken the newest.
        if self.cursor is topic.position or topic.loading or self.cursor == topic.position:
            return False
        return not self.ahead or self.cursor is None or self.cursor < topic.position

    def take(self) -> Message | Missing | None:
        """All that is due, moving the cursor past it; None if nothing is.

        `Missing` leaves the cursor where it is: the caller fetches those events
        and calls `replay`, or `skip`.
        """
        if self.over or not self.due:
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
class Topic:
    """A job that someone here is watching."""

    job: str
    ring_bytes: int
    """How much of recent events to keep. The newest stays, whatever its size."""
    loading: bool = True
    idle_since: float | None = None
    """When the last subscription went, on the clock of its hub; None while there is one."""
    subscriptions: set[Subscription] = field(factory=set)
    latest: Event | None = field(default=None, init=False)
    """The newest event."""
    position: Position = field(default=UNSEEN, init=False)
    """The newest event's, or `UNSEEN`."""
    _ring: deque[bytes] = field(factory=deque, init=False)
    """The states of the newest events as JSON, encoded here, once; the last is `latest`.
    No more than the text: ten thousand objects here would be the collector's to visit."""
    _size: int = field(default=0, init=False)
    _messages: dict[tuple[Position | None, Mode], Message] = field(factory=dict, init=False)
    """What was read since the newest event, for others who stand at the same place: at
    most as much as the ring."""
    _messages_size: int = field(default=0, init=False)

    def append(self, event: Event) -> bool:
        """Take in an event; False if it is not newer than the newest.

        The ring stays contiguous: an event that does not follow the newest (another
        epoch, or some in between were missed) starts it anew.
        """
        head = self.position
        position = event.position
        if position <= head:
            return False
        if position.seq != head.seq + 1 or position.epoch != head.epoch:
            self._ring.clear()
            self._size = 0
        text = _encoder.encode(event.state)
        self._ring.append(text)
        self.latest, self.position = event, position
        self._size += len(text)
        while self._size > self.ring_bytes and len(self._ring) > 1:
            self._size -= len(self._ring.popleft())
        if self._messages:
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
        elif self.latest and self.position == asked_at and not self.latest.state.final:
            self._ring.clear()
            self._size = 0
            self.latest, self.position = None, UNSEEN
            self._forget_messages()

    def nobody_is_ahead(self) -> None:
        """The broker knows of nothing newer: whoever says so is to be told what there is."""
        for subscription in self.subscriptions:
            subscription.ahead = False

    def read(self, cursor: Position | None, mode: Mode) -> Message | Missing:
        """What brings a client from `cursor` to the newest event; there must be something.

        With no cursor, or one that is not in this epoch's past, a snapshot. In mode
        `every` a cursor of an earlier epoch continues with the first event of this one.
        """
        if not self._ring:
            return unseen(self.job, kind=_kind_of_snapshot(cursor))
        if len(self.subscriptions) == 1:  # there is nobody to share it with
            return self._read(cursor, mode)
        known = self._messages.get((cursor, mode))
        if known is not None:
            return known
        message = self._read(cursor, mode)
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
        job, head = self.job, self.position
        known = self._in_its_past(cursor, mode)
        if known is None:
            return snapshot(job, head, self._ring[-1], kind=_kind_of_snapshot(cursor))
        wanted = head.seq - known.seq
        if mode == "latest" or (wanted == 1 and known.seq):
            return step(job, head, self._ring[-1], prev=known.seq, event=self.latest)
        if wanted > len(self._ring):
            return Missing(known)
        texts = [self._ring[i] for i in range(-wanted, 0)]
        return steps(job, head, texts, event=self.latest)

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
        texts = [_encoder.encode(event.state) for event in wanted]
        last = wanted[-1]
        return steps(self.job, last.position, texts, event=last)

    def __repr__(self) -> str:
        state = "loading" if self.loading else "live"
        return f"<Topic {self.job} {state} at {self.position}, {len(self.subscriptions)} watching>"


def _kind_of_snapshot(cursor: Position | None) -> Kind:
    """What a snapshot is to a client that stands at `cursor`."""
    return "snapshot" if cursor is None or cursor == UNSEEN else "resync"
