"""All topics of a process. Feed events go in, notifications come out, and nothing here waits.

`deliver` is the fan-out: it appends a batch of events to the topics that clients watch here, and
notifies their subscribers. It is synchronous, so no client can see half of a batch, and none can
slow it down.

`next_loads` and `next_refill` say what must be read from the broker; the results come back through
`loaded` and `refilled`. One read serves all subscribers that wait for it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Generic, NamedTuple, TypeVar

import trio
from attrs import frozen

from ..model.limits import Limits
from ..model.state import UNSEEN, Event, Position
from ..protocol.commands import Mode
from .quota import Owner, Quota
from .topic import Subscriber, Subscription, Topic

__all__ = ["Delivery", "Hub", "HubStatistics"]

T = TypeVar("T")


class Delivery(NamedTuple):
    """An event with a `traceparent` that was delivered."""

    event: Event
    watchers: int
    """How many subscriptions its job has here."""


@frozen
class HubStatistics:
    """The load by clients at one moment (without the node's own probe)."""

    topics: int
    loading: int
    to_load: int
    subscriptions: int
    free: int
    """How many more jobs can be watched."""


class Hub:
    """The topics of one process. Times are on Trio's clock."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._topics: dict[str, Topic] = {}
        self._quota = Quota(
            "jobs",
            limits.max_topics,
            per_address=limits.max_topics_per_address,
            per_subject=limits.max_topics_per_subject,
        )
        self._idle: OrderedDict[str, Topic] = OrderedDict()  # without subscribers, oldest first
        self._replay_bytes: OrderedDict[Topic, int] = OrderedDict()
        """The bytes that each topic keeps besides its newest event, ordered by the topic's last
        event."""
        self._total_replay_bytes = 0
        """Their sum."""
        self._own_topics = 0
        """Topics of nodes' own jobs (`!…`), which the statistics leave out."""
        self._loading = 0
        self._subscriptions = 0
        self.long_commands = trio.Lock()
        """Held for a pass of Trio's scheduler before a client's long command is carried out."""
        self._to_load = _WorkQueue[str]()
        self._to_refill = _WorkQueue[Topic]()

    def __repr__(self) -> str:
        return f"<Hub {len(self._topics)} topics>"

    def statistics(self) -> HubStatistics:
        """Kept by additions: visiting 100,000 topics would block the node for 17 ms."""
        return HubStatistics(
            topics=len(self._topics) - self._own_topics,
            loading=self._loading,
            to_load=len(self._to_load),
            subscriptions=self._subscriptions,
            free=self._quota.free,
        )

    def subscribe(
        self,
        job: str,
        outbox: Subscriber,
        *,
        mode: Mode = "latest",
        position: Position | None = None,
        owner: Owner | None = None,
    ) -> Subscription:
        """Watch `job` from `position` on (None: from a snapshot), for `owner` (None: the node).

        If the topic is loaded and has something new, the outbox is notified at once, otherwise
        when it is loaded or has an event. A client that comes from a faster node may be ahead of
        the topic: it receives no older state, unless the broker, which is asked once more, has
        nothing newer.

        Raises `NodeFull` if there would be too many topics, in total or for this owner.
        """
        topic = self._topics.get(job)
        if topic is None or not topic.subscriptions:
            self._quota.acquire(owner)
        if topic is None:
            self._evict_for_new()
            topic = self._topics[job] = Topic(
                job, self._limits.job_replay_bytes, self._to_refill.add, self._update_replay_bytes
            )
            self._to_load.add(job)
            self._count_topic(topic, 1)
        if not topic.subscriptions:
            topic.owner = owner
        subscription = Subscription(topic, outbox, mode, position, owner=owner)
        if position is not None and (topic.loading or position > topic.position):
            subscription.client_is_newer = True  # perhaps; and of a read that is under way, too
            self._to_load.add(job)
        topic.subscriptions.add(subscription)
        self._subscriptions += job[0] != "!"
        topic.idle_since = None
        self._idle.pop(job, None)
        if subscription.due:
            outbox.notify(subscription)
        return subscription

    def subscribe_denied(
        self, job: str, outbox: Subscriber, *, mode: Mode = "latest"
    ) -> Subscription:
        """Watch a separate topic in which nothing ever happens, whatever happens to `job`.

        It counts against `max_jobs_per_connection` and not against `max_topics`.
        """
        topic = Topic(job, 1, self._to_refill.add, loading=False)
        subscription = Subscription(topic, outbox, mode)
        outbox.notify(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Stop watching. The topic stays for `limits.linger`, for a page reload or a reconnect.

        A topic of a job that was never reported is dropped at once, and at most `max_idle_topics`
        others stay. So a client that names new jobs all the time has a bounded cost.
        """
        topic = subscription.topic
        if self._topics.get(topic.job) is not topic:
            return  # the topic of a denied subscription
        topic.subscriptions.discard(subscription)
        self._subscriptions -= topic.job[0] != "!"
        if topic.idle_since is not None:
            return
        if topic.subscriptions:
            if topic.owner is subscription.owner:
                successor = next(iter(topic.subscriptions)).owner
                self._quota.transfer(topic.owner, successor)
                topic.owner = successor
            return
        self._quota.release(topic.owner)
        topic.idle_since = trio.current_time()
        self._idle[topic.job] = topic
        if topic.latest is None:
            self._drop(topic)
        elif len(self._idle) > self._limits.max_idle_topics:
            self._drop(next(iter(self._idle.values())))

    def deliver(self, events: Iterable[Event]) -> list[Delivery]:
        """Deliver a batch of feed events. Returns those that are watched and have a trace
        context."""
        traced: list[Delivery] = []
        changed: dict[str, Topic] = {}
        for event in events:
            topic = self._topics.get(event.job)
            if topic is not None and topic.append(event):
                changed[event.job] = topic
                if event.traceparent is not None and topic.subscriptions and not topic.loading:
                    traced.append(Delivery(event, len(topic.subscriptions)))
        for topic in changed.values():
            self._update_replay_bytes(topic)
            _notify_of_event(topic)
        return traced

    def loaded(self, asked: Mapping[str, Position], events: Mapping[str, Event]) -> None:
        """Apply the broker's answer for the jobs of `next_loads`."""
        for job, position in asked.items():
            topic = self._topics.get(job)
            if topic is not None:
                self._loading -= topic.loading and job[0] != "!"
                topic.loaded(events.get(job), requested_at=position)
                self._update_replay_bytes(topic)
                if job not in self._to_load:  # no client has subscribed since the read began
                    topic.no_client_is_newer()
                _notify_subscribers(topic)

    @property
    def jobs(self) -> list[str]:
        """The jobs of all topics."""
        return list(self._topics)

    def not_loaded(self, asked: Iterable[str]) -> None:
        """Queue these jobs for another read, because the broker did not answer."""
        for job in asked:
            if job in self._topics:
                self._to_load.add(job)

    def positions(self, jobs: Iterable[str]) -> dict[str, Position]:
        """The positions of loaded topics, to be compared with the broker.

        A missing event shows at the next event. If the last one is missing, only this comparison
        shows it, and the final state is always the last event. (Jobs of nodes are left out: if the
        comparison repaired the probe, the probe would not test the feed.)
        """
        return {
            job: topic.position
            for job in jobs
            if job[0] != "!" and (topic := self._topics.get(job)) is not None and not topic.loading
        }

    def observed(self) -> Iterator[Event]:
        """The newest event of each topic that has one: what clients have been shown."""
        return (topic.latest for topic in self._topics.values() if topic.latest is not None)

    def compared(self, asked: Mapping[str, Position], found: Mapping[str, Position]) -> None:
        """Queue a read of each job whose position in the broker (`found`) is not the topic's."""
        for job, position in asked.items():
            topic = self._topics.get(job)
            if topic is None:
                continue
            if found.get(job, UNSEEN) == position:
                _notify_subscribers(topic)  # those that could not be given everything try again
            else:
                self._to_load.add(job)

    async def next_loads(self, most: int) -> dict[str, Position]:
        """Take the jobs to read next, up to `most`, with their positions; waits until there is one.

        Cancelled, it has taken none.
        """
        jobs = await self._to_load.take(most)
        return {job: self._topics[job].position for job in jobs}

    async def next_refill(self) -> Topic:
        """Take the next topic whose history is to be read; waits until there is one.

        Cancelled, it has taken none. Several tasks may call it.
        """
        return (await self._to_refill.take(1))[0]

    def refilled(self, topic: Topic, events: Sequence[Event] | None) -> None:
        """Apply the broker's answer to the request for the topic's whole history.

        None: it did not answer; subscribers then wait for the next event or comparison.
        """
        topic.refill(events)
        if events is not None and topic.job in self._topics:
            self._update_replay_bytes(topic)
            _notify_subscribers(topic)

    def _evict_for_new(self) -> None:
        """Drop a topic without subscribers if there are already `limits.max_topics`."""
        if len(self._topics) >= self._limits.max_topics:
            self._drop(next(iter(self._idle.values())))

    def _update_replay_bytes(self, topic: Topic) -> None:
        """Count the topic's replay again after an event. While all replays together are too large,
        drop those of the topics with the oldest events; the broker's history still has them."""
        self._remove_replay_bytes(topic)
        kept = topic.replay_bytes
        if kept:
            self._replay_bytes[topic] = kept
            self._total_replay_bytes += kept
        while (
            self._total_replay_bytes > self._limits.total_replay_bytes
            and len(self._replay_bytes) > 1
        ):
            oldest, size = self._replay_bytes.popitem(last=False)
            self._total_replay_bytes -= size
            oldest.drop_replay()

    def _remove_replay_bytes(self, topic: Topic) -> None:
        self._total_replay_bytes -= self._replay_bytes.pop(topic, 0)

    def evict_idle(self) -> None:
        """Drop the topics that had no subscriber for `limits.linger` seconds."""
        before = trio.current_time() - self._limits.linger
        for topic in list(self._idle.values()):
            if topic.idle_since is None or topic.idle_since > before:
                return
            self._drop(topic)

    def _count_topic(self, topic: Topic, change: int) -> None:
        if topic.job[0] == "!":
            self._own_topics += change
        elif topic.loading:
            self._loading += change

    def _drop(self, topic: Topic) -> None:
        del self._topics[topic.job]
        self._count_topic(topic, -1)
        self._remove_replay_bytes(topic)
        self._idle.pop(topic.job, None)
        self._to_load.discard(topic.job)
        self._to_refill.discard(topic)


class _WorkQueue(Generic[T]):
    """An ordered set of work items; tasks can wait for one."""

    def __init__(self) -> None:
        self._items: dict[T, None] = {}
        self._wake_channel, self._woken = trio.open_memory_channel[None](1)

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, item: T) -> bool:
        return item in self._items

    def add(self, item: T) -> None:
        self._items[item] = None
        self._wake()

    def discard(self, item: T) -> None:
        self._items.pop(item, None)

    async def take(self, most: int) -> list[T]:
        """Take the first items, up to `most`; waits until there is one."""
        while not self._items:
            await self._woken.receive()
        taken = list(islice(self._items, most))
        for item in taken:
            del self._items[item]
        if self._items:
            self._wake()  # another task may wait
        return taken

    def _wake(self) -> None:
        with suppress(trio.WouldBlock):  # a wake-up is pending already
            self._wake_channel.send_nowait(None)


def _notify_subscribers(topic: Topic) -> None:
    for subscription in topic.subscriptions:
        if subscription.due:
            subscription.outbox.notify(subscription)


def _notify_of_event(topic: Topic) -> None:
    """The same after an event: it is new to all but those who are ahead of this node."""
    if not topic.loading:
        for subscription in topic.subscriptions:
            if not subscription.client_is_newer or subscription.due:
                subscription.outbox.notify(subscription)
