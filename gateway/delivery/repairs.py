"""What must be read from the broker for a hub's topics, and what the answers change.

A topic needs a read when clients begin to watch its job (`loads`), when its position is not the
broker's (`compared`), and when a client needs events that it no longer has (`refills`). Nothing
here reads: the node's `Reconciler` does, and passes on the answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ..model.state import UNSEEN, Event, Position
from .hub import Hub
from .topic import Topic

__all__ = ["Repairs"]


class Repairs:
    """The repairs of one hub's topics. Only `next_loads` and `next_refill` wait."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    async def next_loads(self, most: int) -> dict[str, Position]:
        """Take the jobs to read next, up to `most`, with their positions; waits until there is one.

        Cancelled, it has taken none.
        """
        jobs = await self._hub.to_load.take(most)
        return {job: self._hub.topics[job].position for job in jobs}

    def loaded(self, requested: Mapping[str, Position], events: Mapping[str, Event]) -> None:
        """Apply the broker's answer for the jobs of `next_loads`."""
        hub = self._hub
        for job, position in requested.items():
            topic = hub.topics.get(job)
            if topic is not None:
                topic.loaded(events.get(job), requested_at=position)
                if job not in hub.to_load:  # no client has subscribed since the read began
                    topic.no_client_is_newer()
                hub.changed(topic)

    def not_loaded(self, requested: Iterable[str]) -> None:
        """Queue these jobs for another read, because the broker did not answer."""
        for job in requested:
            if job in self._hub.topics:
                self._hub.to_load.add(job)

    async def next_refill(self) -> Topic:
        """Take the next topic whose history is to be read; waits until there is one.

        Cancelled, it has taken none. Several tasks may call it.
        """
        return (await self._hub.to_refill.take(1))[0]

    def refilled(self, topic: Topic, events: Sequence[Event] | None) -> None:
        """Apply the broker's answer to the request for the topic's whole history.

        None: it did not answer; subscribers then wait for the next event or comparison.
        """
        topic.refill(events)
        if events is not None and topic.job in self._hub.topics:
            self._hub.changed(topic)

    def positions(self, jobs: Iterable[str]) -> dict[str, Position]:
        """The positions of loaded topics, to be compared with the broker.

        A missing event shows at the next event. If the last one is missing, only this comparison
        shows it, and the final state is always the last event. (Jobs of nodes are left out: if the
        comparison repaired the probe, the probe would not test the feed.)
        """
        topics = self._hub.topics
        return {
            job: topic.position
            for job in jobs
            if job[0] != "!" and (topic := topics.get(job)) is not None and not topic.loading
        }

    def compared(self, requested: Mapping[str, Position], found: Mapping[str, Position]) -> None:
        """Queue a read of each job whose position in the broker (`found`) is not the topic's."""
        for job, position in requested.items():
            topic = self._hub.topics.get(job)
            if topic is None:
                continue
            if found.get(job, UNSEEN) == position:
                topic.notify_subscribers()  # those that could not be given everything try again
            else:
                self._hub.to_load.add(job)
