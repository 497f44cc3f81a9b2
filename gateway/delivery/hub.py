"""All topics of a process. The hub receives the events of the feed and notifies outboxes.

`deliver` appends a batch of events to the topics that clients watch here, and notifies their
subscribers. It is synchronous, so no client can see half of a batch, and no client can slow it
down. Nothing in this module waits.

The reads that topics need from the broker are queued in `to_load` and `to_refill`; `Repairs`
applies the results. One read serves all subscribers that wait for it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

import trio
from attrs import frozen

from ..model.limits import Limits
from ..model.state import Event, Position
from ..protocol.commands import Mode
from .quota import Quota, QuotaKey
from .topic import Subscriber, Subscription, Topic
from .work_queue import WorkQueue

__all__ = ["Delivery", "Hub", "HubStatistics"]


class Delivery(NamedTuple):
    """An event with a `traceparent` that was delivered."""

    event: Event
    watchers: int
    """The number of subscriptions to its job on this node."""


@frozen
class HubStatistics:
    """The load by clients at one moment (without the node's own probe)."""

    topics: int
    loading: int
    to_load: int
    subscriptions: int
    free: int
    """The number of further jobs that can be watched."""


class Hub:
    """The topics of one process. Times are on Trio's clock."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._topics: dict[str, Topic] = {}
        self.topics: Mapping[str, Topic] = MappingProxyType(self._topics)
        """The topics by job."""
        self.to_load = WorkQueue[str]()
        """Jobs whose state must be read."""
        self.to_refill = WorkQueue[Topic]()
        """Topics whose history must be read."""
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
        """The sum of `_replay_bytes`."""
        self._own_topics = 0
        """The number of topics of nodes' own jobs (`!…`), which the statistics leave out."""
        self._loading: set[Topic] = set()
        self._subscriptions = 0
        self.long_command_lock = trio.Lock()
        """Held for a pass of Trio's scheduler before a client's long command is executed."""

    def __repr__(self) -> str:
        return f"<Hub {len(self._topics)} topics>"

    def statistics(self) -> HubStatistics:
        """Returns counts that are updated with each change: visiting 100,000 topics would block
        the node for 17 ms."""
        return HubStatistics(
            topics=len(self._topics) - self._own_topics,
            loading=len(self._loading),
            to_load=len(self.to_load),
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
        resumed: bool = False,
        quota_key: QuotaKey | None = None,
    ) -> Subscription:
        """Watches `job` from `position` on (None: from a snapshot).

        If the topic is loaded and has newer events, the outbox is notified at once, otherwise when
        the topic is loaded or has an event. A client that comes from a faster node may have seen
        newer events than the topic: it is sent no older state, unless another read of the broker
        returns nothing newer. `resumed` says that this may be so although the client has sent no
        position.

        `quota_key` is the client in whose quota the topic counts; None: the node itself.

        Raises `NodeFull` if there would be too many topics, in total or for this client.
        """
        topic = self._topics.get(job)
        if topic is None or not topic.subscriptions:
            self._quota.acquire(quota_key)
        if topic is None:
            self._evict_for_new()
            topic = self._topics[job] = Topic(
                job, self._limits.job_replay_bytes, self.to_refill.add, self._update_replay_bytes
            )
            self.to_load.add(job)
            if job[0] == "!":
                self._own_topics += 1
            else:
                self._loading.add(topic)
        if not topic.subscriptions:
            topic.quota_key = quota_key
        subscription = Subscription(topic, outbox, mode, position, quota_key=quota_key)
        # The client may be ahead of this topic, or of a read that is still running.
        may_be_ahead = resumed
        if position is not None:
            may_be_ahead = topic.loading or position > topic.position
        if may_be_ahead:
            subscription.client_may_be_ahead = True
            self.to_load.add(job)
        topic.subscriptions.add(subscription)
        self._subscriptions += job[0] != "!"
        topic.idle_since = None
        self._idle.pop(job, None)
        if subscription.has_new_events:
            outbox.notify(subscription)
        return subscription

    def subscribe_denied(
        self, job: str, outbox: Subscriber, *, mode: Mode = "latest"
    ) -> Subscription:
        """Watches a separate topic that has no events, whatever happens to `job`.

        It counts against `max_jobs_per_connection` and not against `max_topics`.
        """
        topic = Topic(job, 1, self.to_refill.add, loading=False)
        subscription = Subscription(topic, outbox, mode)
        outbox.notify(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Stops watching. The topic stays for `limits.linger`, for a page reload or a reconnect.

        A topic of a job that was never reported is dropped at once, and at most `max_idle_topics`
        others stay. So a client that keeps naming new jobs has a bounded cost.
        """
        topic = subscription.topic
        if self._topics.get(topic.job) is not topic:
            return  # the topic of a denied subscription
        topic.subscriptions.discard(subscription)
        self._subscriptions -= topic.job[0] != "!"
        if topic.idle_since is not None:
            return
        if topic.subscriptions:
            if topic.quota_key is subscription.quota_key:
                successor = next(iter(topic.subscriptions)).quota_key
                self._quota.transfer(topic.quota_key, successor)
                topic.quota_key = successor
            return
        self._quota.release(topic.quota_key)
        topic.idle_since = trio.current_time()
        self._idle[topic.job] = topic
        if topic.latest is None:
            self._drop(topic)
        elif len(self._idle) > self._limits.max_idle_topics:
            self._drop(next(iter(self._idle.values())))

    def deliver(self, events: Iterable[Event]) -> list[Delivery]:
        """Delivers a batch of feed events. Returns the watched events that have a trace context."""
        traced: list[Delivery] = []
        changed: dict[str, Topic] = {}
        for event in events:
            topic = self._topics.get(event.job)
            if topic is not None and topic.append(event):
                changed[event.job] = topic
                if event.traceparent is not None and topic.subscriptions and not topic.loading:
                    traced.append(Delivery(event, len(topic.subscriptions)))
        for topic in changed.values():
            self.topic_changed(topic)
        return traced

    def topic_changed(self, topic: Topic) -> None:
        """Notifies the topic's subscribers, and updates its memory use, after its events
        changed."""
        if not topic.loading:
            self._loading.discard(topic)
        self._update_replay_bytes(topic)
        topic.notify_subscribers()

    def latest_events(self) -> Iterator[Event]:
        """Yields the newest event of each topic that has one: clients may have seen these."""
        return (topic.latest for topic in self._topics.values() if topic.latest is not None)

    def evict_idle(self) -> None:
        """Drops the topics that had no subscriber for `limits.linger` seconds."""
        before = trio.current_time() - self._limits.linger
        for topic in list(self._idle.values()):
            if topic.idle_since is None or topic.idle_since > before:
                return
            self._drop(topic)

    def _evict_for_new(self) -> None:
        """Drops a topic without subscribers if there are already `limits.max_topics`."""
        if len(self._topics) >= self._limits.max_topics:
            self._drop(next(iter(self._idle.values())))

    def _update_replay_bytes(self, topic: Topic) -> None:
        """Updates the size of the topic's replay after an event. While all replays together are too
        large, drop those of the topics with the oldest events; the broker's history still has
        them."""
        self._remove_replay_bytes(topic)
        size = topic.replay_bytes
        if size:
            self._replay_bytes[topic] = size
            self._total_replay_bytes += size
        while (
            self._total_replay_bytes > self._limits.total_replay_bytes
            and len(self._replay_bytes) > 1
        ):
            oldest, size = self._replay_bytes.popitem(last=False)
            self._total_replay_bytes -= size
            oldest.drop_replay()

    def _remove_replay_bytes(self, topic: Topic) -> None:
        self._total_replay_bytes -= self._replay_bytes.pop(topic, 0)

    def _drop(self, topic: Topic) -> None:
        del self._topics[topic.job]
        self._own_topics -= topic.job[0] == "!"
        self._loading.discard(topic)
        self._remove_replay_bytes(topic)
        self._idle.pop(topic.job, None)
        self.to_load.discard(topic.job)
        self.to_refill.discard(topic)
