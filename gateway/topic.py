"""A shared log and cursors: what is delivered of one job, and how far each watcher is.

A `Topic` keeps a job's recent events once, already encoded. A `Subscription` is a cursor
into it. Nothing is queued per watcher, so a slow one costs the others nothing; what it
gets is computed when it can take it, and shared by all who stand at the same place.

A topic begins `loading`: events of the feed gather in it while the broker's snapshot is
read. Both are folded in by position, so it does not matter which comes first.

What a watcher in mode `every` needs and the ring lacks is asked for once, of whoever made
the topic; it comes back into the ring (`refill`), and all who wait read it there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec
from attrs import define, field

from .job import UNSEEN, Event, Position
from .protocol import Kind, Message, Mode, gap, snapshot, step, steps, unseen

__all__ = ["Marks", "Subscription", "Topic"]


_encoder = msgspec.json.Encoder()


class Marks(Protocol):
    """Where a subscription says that it has something new: an outbox."""

    def mark(self, subscription: Subscription) -> None:
        """Remember it. Never blocks, never fails; called again, it changes nothing."""


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

    def take(self) -> Message | None:
        """The next of what is due, moving the cursor past it; None if there is nothing, or
        if it must be read first: then it stays due. (A `gap` is followed by a snapshot.)"""
        if self.over or not self.due:
            return None
        message = self.topic.read(self.cursor, self.mode)
        if message is not None:
            self.cursor = None if message.kind == "gap" else self.topic.position
        return message


@define(eq=False)
class Topic:
    """A job that someone here is watching."""

    job: str
    ring_bytes: int
    """How much of recent events to keep. The newest stays, whatever its size."""
    ask: Callable[[Topic], None]
    """Called when somebody needs what the ring has no longer; `refill` is the answer."""
    loading: bool = True
    idle_since: float | None = None
    """When the last subscription went, on the clock of its hub; None while there is one."""
    subscriptions: set[Subscription] = field(factory=set)
    latest: Event | None = field(default=None, init=False)
    """The newest event."""
    position: Position = field(default=UNSEEN, init=False)
    """The newest event's, or `UNSEEN`."""
    _ring: list[bytes] = field(factory=list, init=False)
    """The states of the newest events as JSON, encoded here, once; the last is `latest`.
    No more than the text: ten thousand objects here would be the collector's to visit."""
    _size: int = field(default=0, init=False)
    _gone: Position = field(default=UNSEEN, init=False)
    """What follows an earlier position the broker has not kept either."""
    _asked_at: Position | None = field(default=None, init=False)
    """Where it stood when the history was asked for that is not here yet."""
    _messages: dict[tuple[Position | None, Mode], Message] = field(factory=dict, init=False)
    """What was read since the newest event, for others who stand at the same place: at
    most as much as the ring."""
    _messages_size: int = field(default=0, init=False)

    @property
    def kept(self) -> int:
        """Bytes of recent events, without the newest: it could do without them."""
        return self._size - len(self._ring[-1]) if self._ring else 0

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
        if self._size > self.ring_bytes:
            self._trim()
        if self._messages:
            self._forget_messages()
        return True

    def refill(self, events: Sequence[Event] | None) -> None:
        """The history that was asked for is here: all that the broker keeps, oldest first
        (None: it did not answer).

        What goes on where the ring begins is in the ring again, and stays until the next
        event at least, whatever its size. What the broker had not is gone. If the ring began
        anew meanwhile, nobody can say: whoever needs it asks again.
        """
        asked_at, self._asked_at = self._asked_at, None
        epoch, seq = self.position
        begin = Position(epoch, seq - len(self._ring))
        past = [event for event in events or () if Position(epoch, 0) < event.position <= begin]
        if past and past[-1].position == begin:
            texts = [_encoder.encode(event.state) for event in past]
            self._ring[:0] = texts
            self._size += sum(map(len, texts))
            self._gone = Position(epoch, past[0].position.seq - 1)
        elif events is not None and asked_at is not None and begin <= asked_at:
            self._gone = begin

    def forget(self) -> None:
        """Keep the newest event alone."""
        del self._ring[:-1]
        self._size = len(self._ring[0]) if self._ring else 0
        self._forget_messages()

    def _trim(self) -> None:
        """Let go of an eighth more than must be, so that the list is seldom moved."""
        number = 0
        while self._size > self.ring_bytes * 7 / 8 and number < len(self._ring) - 1:
            self._size -= len(self._ring[number])
            number += 1
        del self._ring[:number]

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

    def read(self, cursor: Position | None, mode: Mode) -> Message | None:
        """What brings a client from `cursor` to the newest event; there must be something.

        With no cursor, or one that is not in this epoch's past, a snapshot. In mode
        `every` a cursor of an earlier epoch continues with the first event of this one.
        There a `gap` says what can no longer be had, and None that it was asked for.
        """
        if not self._ring:
            return unseen(self.job, kind=_kind_of_snapshot(cursor))
        if len(self.subscriptions) == 1:  # there is nobody to share it with
            return self._read(cursor, mode)
        known = self._messages.get((cursor, mode))
        if known is not None:
            return known
        message = self._read(cursor, mode)
        if message is not None:
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

    def _read(self, cursor: Position | None, mode: Mode) -> Message | None:
        job, head = self.job, self.position
        known = self._in_its_past(cursor, mode)
        if known is None:
            return snapshot(job, head, self._ring[-1], kind=_kind_of_snapshot(cursor))
        wanted = head.seq - known.seq
        if mode == "latest" or (wanted == 1 and known.seq):
            return step(job, head, self._ring[-1], prev=known.seq, event=self.latest)
        if wanted <= len(self._ring):
            return steps(job, head, self._ring[-wanted:], event=self.latest)
        if known < self._gone:
            return gap(job, epoch=head.epoch, first=known.seq + 1, last=head.seq - 1)
        if self._asked_at is None:
            self._asked_at = head
            self.ask(self)
        return None

    def _forget_messages(self) -> None:
        self._messages.clear()
        self._messages_size = 0

    def __repr__(self) -> str:
        state = "loading" if self.loading else "live"
        return f"<Topic {self.job} {state} at {self.position}, {len(self.subscriptions)} watching>"


def _kind_of_snapshot(cursor: Position | None) -> Kind:
    """What a snapshot is to a client that stands at `cursor`."""
    return "snapshot" if cursor is None or cursor == UNSEEN else "resync"
