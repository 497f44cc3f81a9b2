"""Names the reads that a hub's topics need from the broker, and applies their results.

A topic needs a read when clients begin to watch its job (`next_loads`), when its position is not
the broker's (`apply_comparison`), and when a client needs events that the topic no longer has
(`next_refill`). The node's `Reconciler` reads the broker and passes on the results.
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

    async def next_loads(self, maximum: int) -> dict[str, Position]:
        """Removes and returns up to `maximum` jobs to read next, with their positions. Waits until
        there is one.

        Cancellation: no job was removed.
        """
        jobs = await self._hub.to_load.get_batch(maximum)
        return {job: self._hub.topics[job].position for job in jobs}

    def apply_loads(self, requested: Mapping[str, Position], events: Mapping[str, Event]) -> None:
        """Applies the result of the read of the jobs that `next_loads` returned."""
        hub = self._hub
        for job, position in requested.items():
            topic = hub.topics.get(job)
            if topic is not None:
                topic.apply_snapshot(events.get(job), requested_at=position)
                if job not in hub.to_load:  # no client has subscribed since the read began
                    topic.assume_no_client_is_ahead()
                hub.topic_changed(topic)

    def retry_loads(self, requested: Iterable[str]) -> None:
        """Queues another read of these jobs, because the broker did not answer."""
        for job in requested:
            if job in self._hub.topics:
                self._hub.to_load.add(job)

    async def next_refill(self) -> Topic:
        """Removes and returns the next topic whose history must be read. Waits until there is one.

        Several tasks may call it. Cancellation: no topic was removed.
        """
        return (await self._hub.to_refill.get_batch(1))[0]

    def apply_history(self, topic: Topic, events: Sequence[Event] | None) -> None:
        """Applies the whole history of the topic, as the broker has it.

        None: the broker did not answer; subscribers then wait for the next event or comparison.
        """
        topic.refill(events)
        if events is not None and topic.job in self._hub.topics:
            self._hub.topic_changed(topic)

    def positions(self, jobs: Iterable[str]) -> dict[str, Position]:
        """Returns the positions of loaded topics, to be compared with the broker's.

        A missing event is detected at the next event. If the last event is missing, only this
        comparison detects it, and the final state is always the last event. (Jobs of nodes are left
        out: if the comparison repaired the probe, the probe would not test the feed.)
        """
        topics = self._hub.topics
        return {
            job: topic.position
            for job in jobs
            if job[0] != "!" and (topic := topics.get(job)) is not None and not topic.loading
        }

    def apply_comparison(
        self, requested: Mapping[str, Position], broker_positions: Mapping[str, Position]
    ) -> None:
        """Queues a read of each job whose position in the broker is not the `requested` one."""
        for job, position in requested.items():
            topic = self._hub.topics.get(job)
            if topic is None:
                continue
            if broker_positions.get(job, UNSEEN) == position:
                topic.notify_subscribers()  # if their history could not be read, they try again
            else:
                self._hub.to_load.add(job)
