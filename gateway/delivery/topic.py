"""The recent events of one job, and each client's position in them.

A `Topic` keeps a job's recent events once, already encoded. A `Subscription` is a position in it.
Nothing is queued per client, so a slow client does not delay others. A message is made when it can
be written, and shared by all clients at the same position.

A topic begins `loading`: it collects events of the feed while the broker's snapshot is read. Both
are merged by position, so their order does not matter.

If a client in mode `every` needs events that the topic no longer has, the topic requests them once.
The answer goes into the topic (`refill`), where all clients that wait read it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Protocol

import msgspec
from attrs import define, field

from ..model.state import UNSEEN, Event, Position, State
from ..protocol.commands import Mode
from ..protocol.messages import Kind, Message, gap, snapshot, step, steps, unseen
from .quota import QuotaKey

__all__ = ["AnySubscription", "Subscriber", "Subscription", "Topic"]


_encoder = msgspec.json.Encoder()
_buffer = bytearray()


def _encoded(state: State) -> bytes:
    """Returns a state as JSON, in a buffer of its exact size: `encode` returns a larger buffer."""
    _encoder.encode_into(state, _buffer)
    return bytes(_buffer)


TEXT_OVERHEAD = 48
"""Bytes of a text in a list, besides its content (CPython, rounded up)."""


class AnySubscription(Protocol):
    """A client's subscription to a job (`Subscription`) or to a set (`SetSubscription`)."""

    has_several_messages: ClassVar[bool]
    """Whether `next_message` must be called until it returns None."""

    def next_message(self) -> Message | None:
        """Returns the next message for the client; None if there is none."""


class Subscriber(Protocol):
    """Receives the notification that a subscription has something new: an outbox."""

    def notify(self, subscription: Subscription) -> None:
        """Remembers the subscription. Never blocks, never fails; calling it again changes
        nothing."""


@define(eq=False)
class Subscription:
    """One connection's subscription to one topic: a position."""

    has_several_messages: ClassVar[bool] = False

    topic: Topic
    outbox: Subscriber
    mode: Mode = "latest"
    cursor: Position | None = None
    """The position of the last message that `next_message` has returned; None: none yet."""
    client_may_be_ahead: bool = False
    """Whether the client may have seen newer events than this topic. If so, nothing is sent before
    the topic has passed the cursor (if there is one), or the broker was read again."""
    quota_key: QuotaKey | None = None
    """The client in whose quota the job counts; None for the node itself."""
    cancelled: bool = False
    """Whether the client has unsubscribed; the writer may still have the subscription in a
    batch."""
    on_final_state: Callable[[Subscription], object] | None = None
    """Called when `has_final_state` becomes True."""

    @property
    def job(self) -> str:
        return self.topic.job

    @property
    def has_new_events(self) -> bool:
        """Whether the topic has events that the client was not sent."""
        topic = self.topic
        # First compare identity: it holds whenever the client was sent the newest event.
        if self.cursor is topic.position or topic.loading or self.cursor == topic.position:
            return False
        if not self.client_may_be_ahead:
            return True
        return self.cursor is not None and self.cursor < topic.position

    def next_message(self) -> Message | None:
        """Returns the next message, and moves the cursor past it. None if there is none, or if the
        history must be read first. (A `gap` is followed by a snapshot.)"""
        if self.cancelled or not self.has_new_events:
            return None
        message = self.topic.read(self.cursor, self.mode)
        if message is not None:
            self.cursor = None if message.kind == "gap" else self.topic.position
            self.client_may_be_ahead = False
            if self.on_final_state is not None and self.has_final_state:
                self.on_final_state(self)
        return message

    def restart(self) -> None:
        """Makes the next message a snapshot."""
        self.cursor = None
        if self.has_new_events:
            self.outbox.notify(self)

    @property
    def has_final_state(self) -> bool:
        """Whether the client was sent the job's final state, or that the job is unknown."""
        topic = self.topic
        ended = topic.latest is None or topic.latest.state.final
        return ended and not topic.loading and self.cursor == topic.position


@define(eq=False)
class Topic:
    """A job that clients watch here."""

    job: str
    job_replay_bytes: int
    """Maximum bytes of recent events to keep. The newest event always stays."""
    request_history: Callable[[Topic], None]
    """Called when a client needs events that are no longer here. `refill` receives the answer."""
    replay_grown: Callable[[Topic], None] = lambda topic: None
    """Called when `replay_bytes` has grown without an event."""
    loading: bool = True
    idle_since: float | None = None
    """The time when the last subscription ended, on the hub's clock; None while there is one."""
    subscriptions: set[Subscription] = field(factory=set)
    quota_key: QuotaKey | None = None
    """The client in whose quota the topic counts, while it has subscriptions."""
    latest: Event | None = field(default=None, init=False)
    """The newest event."""
    position: Position = field(default=UNSEEN, init=False)
    """The position of the newest event, or `UNSEEN`."""
    _replay: list[bytes] = field(factory=list, init=False)
    """The states of the newest events as JSON, encoded once; the last is `latest`. They are texts,
    because the garbage collector would visit ten thousand objects."""
    _size: int = field(default=0, init=False)
    _unavailable_before: Position = field(default=UNSEEN, init=False)
    """Events up to this position are no longer stored by the broker either."""
    _requested_at: Position | None = field(default=None, init=False)
    """The topic's position when the history was requested; None if no request is pending."""
    _messages: dict[tuple[Position | None, Mode], Message] = field(factory=dict, init=False)
    """Messages made since the newest event, for other subscribers at the same position: at most
    `job_replay_bytes`, with their frames."""
    _last_message: Message | None = field(default=None, init=False)
    """The message that was read last. It is compared first, because its lookup needs no hash of a
    position."""
    _last_cursor: Position | None = field(default=None, init=False)
    _last_mode: Mode = field(default="latest", init=False)
    _messages_memory: int = field(default=0, init=False)

    @property
    def replay_bytes(self) -> int:
        """Bytes of older events, and of cached messages with their frames. They can be dropped."""
        if not self._replay:
            return 0
        events = self._size - len(self._replay[-1]) + (len(self._replay) - 1) * TEXT_OVERHEAD
        return events + self._messages_memory

    def append(self, event: Event) -> bool:
        """Appends an event; returns False if it is not newer than the newest.

        The events stay contiguous: after an event that does not follow the newest (another epoch,
        or missed events), only that event is kept.
        """
        head = self.position
        position = event.position
        if position <= head:
            return False
        if position.seq != head.seq + 1 or position.epoch != head.epoch:
            self._replay.clear()
            self._size = 0
        text = _encoded(event.state)
        self._replay.append(text)
        self.latest, self.position = event, position
        self._size += len(text)
        if self._size > self.job_replay_bytes:
            self._trim()
        if self._messages:
            self._clear_messages()
        return True

    def refill(self, events: Sequence[Event] | None) -> None:
        """Applies the requested history: all events that the broker has, oldest first (None: the
        broker did not answer).

        Events that end where the kept ones begin are put before them, and stay at least until the
        next event, whatever their size. Events that the broker lacks are no longer available. If
        the kept events were replaced meanwhile, the answer is ignored, and subscriptions that need
        it request it again.
        """
        requested_at, self._requested_at = self._requested_at, None
        epoch, seq = self.position
        begin = Position(epoch, seq - len(self._replay))
        older = [event for event in events or () if Position(epoch, 0) < event.position <= begin]
        if older and older[-1].position == begin:
            texts = [_encoded(event.state) for event in older]
            self._replay[:0] = texts
            self._size += sum(map(len, texts))
            self._unavailable_before = Position(epoch, older[0].position.seq - 1)
        elif events is not None and requested_at is not None and begin <= requested_at:
            self._unavailable_before = begin

    def drop_replay(self) -> None:
        """Keeps only the newest event."""
        del self._replay[:-1]
        self._size = len(self._replay[0]) if self._replay else 0
        self._clear_messages()

    def _trim(self) -> None:
        """Drops an eighth more than necessary, so that the list is moved seldom."""
        count = 0
        while self._size > self.job_replay_bytes * 7 / 8 and count < len(self._replay) - 1:
            self._size -= len(self._replay[count])
            count += 1
        del self._replay[:count]

    def apply_snapshot(self, snapshot: Event | None, *, requested_at: Position) -> None:
        """Applies the broker's snapshot (None: the broker does not know the job). The topic is
        loaded now.

        `requested_at` was the topic's position when the read began. If the topic still has that
        position, and the broker does not know the job, the broker has dropped it. Clients are then
        sent that it is unknown, because no event would ever follow. A final state is kept.
        """
        self.loading = False
        if snapshot is not None:
            self.append(snapshot)
        elif self.latest and self.position == requested_at and not self.latest.state.final:
            self._replay.clear()
            self._size = 0
            self.latest, self.position = None, UNSEEN
            self._clear_messages()

    def notify_subscribers(self) -> None:
        """Notifies the outboxes of the subscriptions that have something new."""
        if self.loading:
            return
        position = self.position
        # The first condition is `has_new_events` without a call, for most subscriptions.
        for subscription in self.subscriptions:
            if subscription.cursor != position and (
                not subscription.client_may_be_ahead or subscription.has_new_events
            ):
                subscription.outbox.notify(subscription)

    def assume_no_client_is_ahead(self) -> None:
        """Sends all clients what the topic has, because the broker has nothing newer."""
        for subscription in self.subscriptions:
            subscription.client_may_be_ahead = False

    def read(self, cursor: Position | None, mode: Mode) -> Message | None:
        """Returns the message that takes a client from `cursor` to the newest event, which must be
        newer.

        The message is a snapshot if there is no cursor, or if the cursor does not belong to this
        epoch. In mode `every` a cursor of an earlier epoch continues with the first event of this
        epoch; a `gap` says which events are no longer available, and None means that they were
        requested from the broker.
        """
        if not self._replay:
            return unseen(self.job, kind=_kind_of_snapshot(cursor))
        if len(self.subscriptions) == 1:  # no other client could share it
            return self._read(cursor, mode)
        if (
            cursor is self._last_cursor
            and mode == self._last_mode
            and self._last_message is not None
        ):
            return self._last_message
        message = self._messages.get((cursor, mode))
        if message is not None:
            self._last_message, self._last_cursor, self._last_mode = message, cursor, mode
            return message
        message = self._read(cursor, mode)
        if message is not None:
            if self._messages_memory + message.memory > self.job_replay_bytes:
                self._clear_messages()
            self._messages[cursor, mode] = message
            self._messages_memory += message.memory
            self.replay_grown(self)
        return message

    def _in_this_epoch(self, cursor: Position | None, mode: Mode) -> Position | None:
        """Returns the cursor as a position of this epoch; None if it is not one."""
        head = self.position
        if cursor is not None and mode == "every" and cursor.epoch < head.epoch:
            return Position(head.epoch, 0)
        if cursor is not None and (cursor.epoch != head.epoch or cursor.seq > head.seq):
            return None
        return cursor

    def _read(self, cursor: Position | None, mode: Mode) -> Message | None:
        job, head = self.job, self.position
        start = self._in_this_epoch(cursor, mode)
        if start is None:
            return snapshot(job, head, self._replay[-1], kind=_kind_of_snapshot(cursor))
        missing = head.seq - start.seq
        if mode == "latest" or (missing == 1 and start.seq):
            return step(job, head, self._replay[-1], prev=start.seq, event=self.latest)
        if missing <= len(self._replay):
            return steps(job, head, self._replay[-missing:], event=self.latest)
        if start < self._unavailable_before:
            return gap(job, epoch=head.epoch, first=start.seq + 1, last=head.seq - 1)
        if self._requested_at is None:
            self._requested_at = head
            self.request_history(self)
        return None

    def _clear_messages(self) -> None:
        self._messages.clear()
        self._last_message = None
        self._messages_memory = 0

    def __repr__(self) -> str:
        state = "loading" if self.loading else "live"
        return f"<Topic {self.job} {state} at {self.position}, {len(self.subscriptions)} watching>"


def _kind_of_snapshot(cursor: Position | None) -> Kind:
    """Returns the kind of a snapshot for a client at `cursor`."""
    return "snapshot" if cursor is None or cursor == UNSEEN else "resync"
