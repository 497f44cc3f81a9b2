"""All topics of a process. Feed events go in, marks come out, and nothing in here waits.

`deliver` is the fan-out: one batch of events, appended to the topics that someone here
watches, marking who has not been marked. It is synchronous, so no watcher can see half
of it and none can slow it.

What must be read from the broker is said through `next_loads` and `next_refill`; whoever
reads it reports back through `loaded` and `refilled`. One read serves all who wait for it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Generic, NamedTuple, TypeVar

import trio
from attrs import frozen

from .errors import NodeFull
from .job import UNSEEN, Event, Position
from .limits import Limits
from .protocol import Mode
from .topic import Marks, Subscription, Topic

__all__ = ["Delivery", "Hub", "HubStatistics"]

T = TypeVar("T")


class Delivery(NamedTuple):
    """An event with a `traceparent`, fanned out."""

    event: Event
    watchers: int
    """How many subscriptions its job has here."""


@frozen
class HubStatistics:
    """How much clients ask for, at one moment (without the node's own canary)."""

    topics: int
    loading: int
    to_load: int
    subscriptions: int


class Hub:
    """The topics of one process. Times are on Trio's clock."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._topics: dict[str, Topic] = {}
        self._idle: OrderedDict[str, Topic] = OrderedDict()  # nobody watches them, longest first
        self._hidden = 0  # topics that are none of ours, and take as much
        self._pasts: OrderedDict[Topic, int] = OrderedDict()
        """What each topic keeps besides its newest event, in bytes; longest without one first."""
        self._kept = 0
        """All of that."""
        self._to_load = _Agenda[str]()
        self._to_refill = _Agenda[Topic]()

    def __repr__(self) -> str:
        return f"<Hub {len(self._topics)} topics>"

    def statistics(self) -> HubStatistics:
        topics = [topic for job, topic in self._topics.items() if job[0] != "!"]
        return HubStatistics(
            topics=len(topics),
            loading=sum(topic.loading for topic in topics),
            to_load=sum(job[0] != "!" for job in self._to_load),
            subscriptions=sum(len(topic.subscriptions) for topic in topics),
        )

    def subscribe(
        self,
        job: str,
        outbox: Marks,
        *,
        mode: Mode = "latest",
        position: Position | None = None,
    ) -> Subscription:
        """Watch `job` from `position` on (None: from a snapshot).

        If the topic is live here and there is something new, the outbox is marked at
        once, otherwise when it is loaded or something happens. A client that comes from a
        node that was quicker than this one is ahead of the topic: it is not shown the
        past, unless the broker, asked once more, knows of nothing newer.

        Raises `NodeFull` if it would be one topic too many.
        """
        topic = self._topics.get(job)
        if topic is None:
            self._make_room()
            topic = self._topics[job] = Topic(job, self._limits.ring_bytes, self._to_refill.add)
            self._to_load.add(job)
        subscription = Subscription(topic, outbox, mode, position)
        if position is not None and (topic.loading or position > topic.position):
            subscription.ahead = True  # perhaps; and of a read that is under way, too
            self._to_load.add(job)
        topic.subscriptions.add(subscription)
        topic.idle_since = None
        self._idle.pop(job, None)
        if subscription.due:
            outbox.mark(subscription)
        return subscription

    def hide(self, job: str, outbox: Marks, *, mode: Mode = "latest") -> Subscription:
        """Watch a topic of one's own in which nothing ever happens, whatever `job` does.

        Raises like `subscribe`.
        """
        self._make_room()
        self._hidden += 1
        nowhere = Topic(job, 1, self._to_refill.add, loading=False)
        subscription = Subscription(nowhere, outbox, mode)
        outbox.mark(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Stop watching. The topic lingers, for a refresh or a reconnect.

        One of a job never seen does not, and of the others at most `max_idle_topics` do:
        a client that names ever new jobs costs a bounded amount.
        """
        topic = subscription.topic
        if self._topics.get(topic.job) is not topic:
            self._hidden -= 1
            return
        topic.subscriptions.discard(subscription)
        if topic.subscriptions or topic.idle_since is not None:
            return
        topic.idle_since = trio.current_time()
        self._idle[topic.job] = topic
        if topic.latest is None:
            self._drop(topic)
        elif len(self._idle) > self._limits.max_idle_topics:
            self._drop(next(iter(self._idle.values())))

    def deliver(self, events: Iterable[Event]) -> list[Delivery]:
        """Fan a batch of feed events out. Returns those that a trace follows, if they are
        watched."""
        traced: list[Delivery] = []
        news: dict[str, Topic] = {}
        for event in events:
            topic = self._topics.get(event.job)
            if topic is not None and topic.append(event):
                news[event.job] = topic
                if event.traceparent is not None and topic.subscriptions and not topic.loading:
                    traced.append(Delivery(event, len(topic.subscriptions)))
        for topic in news.values():
            self._weigh(topic)
            _mark(topic)
        return traced

    def loaded(self, asked: Mapping[str, Position], events: Mapping[str, Event]) -> None:
        """The broker was asked what `next_loads` said, and answered `events`."""
        for job, position in asked.items():
            topic = self._topics.get(job)
            if topic is not None:
                topic.loaded(events.get(job), asked_at=position)
                self._weigh(topic)
                if job not in self._to_load:  # nobody has come since it was asked
                    topic.nobody_is_ahead()
                _mark(topic)

    @property
    def jobs(self) -> list[str]:
        """Those of all topics."""
        return list(self._topics)

    def not_loaded(self, asked: Iterable[str]) -> None:
        """The broker was asked, and did not answer: these are to be read again, after others."""
        for job in asked:
            if job in self._topics:
                self._to_load.add(job)

    def positions(self, jobs: Iterable[str]) -> dict[str, Position]:
        """Where those topics stand that have been loaded: to be compared with the broker.

        A hole shows when the next event comes; that the last event is missing shows in
        no other way, and the final state is always the last event. (Without nodes' own
        jobs: a canary that is helped home tells nothing of the feed.)
        """
        return {
            job: topic.position
            for job in jobs
            if job[0] != "!" and (topic := self._topics.get(job)) is not None and not topic.loading
        }

    def seen(self, jobs: Iterable[str]) -> list[Event]:
        """The newest event of each of these topics, if it has any."""
        topics = [self._topics[job] for job in jobs if job in self._topics]
        return [topic.latest for topic in topics if topic.latest is not None]

    def compared(self, asked: Mapping[str, Position], found: Mapping[str, Position]) -> None:
        """The broker was asked where it stands in these jobs, and answered `found`."""
        for job, position in asked.items():
            topic = self._topics.get(job)
            if topic is None:
                continue
            if found.get(job, UNSEEN) == position:
                _mark(topic)  # whoever could not be given what it lacked tries again
            else:
                self._to_load.add(job)

    async def next_loads(self, most: int) -> dict[str, Position]:
        """The jobs to read next, up to `most`, and where they stand; waits until there is one.

        Cancelled, it has taken none.
        """
        jobs = await self._to_load.take(most)
        return {job: self._topics[job].position for job in jobs}

    async def next_refill(self) -> Topic:
        """The next topic whose history is to be read; waits until there is one.

        Cancelled, it has taken none. For several tasks at a time.
        """
        return (await self._to_refill.take(1))[0]

    def refilled(self, topic: Topic, events: Sequence[Event] | None) -> None:
        """The broker was asked for all it keeps of the topic, and answered `events`; None:
        it did not. Then who waits goes on doing so, for the next event or comparison."""
        topic.refill(events)
        if events is not None and topic.job in self._topics:
            self._weigh(topic)
            _mark(topic)

    def _make_room(self) -> None:
        """For one more topic, if need be in place of one that nobody watches."""
        if len(self._topics) + self._hidden >= self._limits.max_topics:
            if not self._idle:
                raise NodeFull(f"this node watches {self._limits.max_topics} jobs already")
            self._drop(next(iter(self._idle.values())))

    def _weigh(self, topic: Topic) -> None:
        """The topic has had news. While all together keep too much of their past, those let
        go of it that were longest without any; what they need is in the broker's history."""
        self._discount(topic)
        kept = topic.kept
        if kept:
            self._pasts[topic] = kept
            self._kept += kept
        while self._kept > self._limits.rings_bytes and len(self._pasts) > 1:
            quiet, size = self._pasts.popitem(last=False)
            self._kept -= size
            quiet.forget()

    def _discount(self, topic: Topic) -> None:
        self._kept -= self._pasts.pop(topic, 0)

    def sweep(self) -> None:
        """Let go of the topics that nobody has watched for the time of lingering."""
        before = trio.current_time() - self._limits.linger
        for topic in list(self._idle.values()):
            if topic.idle_since is None or topic.idle_since > before:
                return
            self._drop(topic)

    def _drop(self, topic: Topic) -> None:
        del self._topics[topic.job]
        self._discount(topic)
        self._idle.pop(topic.job, None)
        self._to_load.discard(topic.job)
        self._to_refill.discard(topic)


class _Agenda(Generic[T]):
    """An ordered set of what is to be done next, that can be waited for."""

    def __init__(self) -> None:
        self._items: dict[T, None] = {}
        self._news, self._bell = trio.open_memory_channel[None](1)

    def __iter__(self) -> Iterator[T]:
        return iter(self._items)

    def __contains__(self, item: T) -> bool:
        return item in self._items

    def add(self, item: T) -> None:
        self._items[item] = None
        self._ring()

    def discard(self, item: T) -> None:
        self._items.pop(item, None)

    async def take(self, most: int) -> list[T]:
        """The first of them, up to `most`; waits until there is one."""
        while not self._items:
            await self._bell.receive()
        taken = list(islice(self._items, most))
        for item in taken:
            del self._items[item]
        if self._items:
            self._ring()  # for whoever else waits
        return taken

    def _ring(self) -> None:
        with suppress(trio.WouldBlock):  # the bell has been rung already
            self._news.send_nowait(None)


def _mark(topic: Topic) -> None:
    for subscription in topic.subscriptions:
        if subscription.due:
            subscription.outbox.mark(subscription)
