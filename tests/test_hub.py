"""Fan-out marks those who have something new, loads each job once, and lets go in the end."""

from __future__ import annotations

import gc
import weakref

import pytest
import trio
import trio.testing
from attrs import define, field
from msgspec.structs import replace
from trio.testing import MockClock

from gateway import Limits
from gateway.errors import NodeFull
from gateway.hub import Hub
from gateway.job import UNSEEN, Event, Position, State
from gateway.protocol import Message
from gateway.topic import Subscription
from tests.traceparents import SPAN


@define
class Marked:
    marks: list[Subscription] = field(factory=list)

    def mark(self, subscription: Subscription) -> None:
        self.marks.append(subscription)


def event(job: str, seq: int) -> Event:
    return Event(
        job,
        Position(1, seq),
        State(status="running", attempt=1, created_at=1.0, updated_at=1.0),
    )


@pytest.fixture
def hub() -> Hub:
    return Hub(Limits(linger=30))


async def test_one_read_serves_all_who_wait(hub: Hub) -> None:
    outboxes = [Marked() for _ in range(3)]
    for outbox in outboxes:
        hub.subscribe("a", outbox)
    assert await hub.next_loads(10) == {"a": UNSEEN}
    hub.subscribe("a", Marked())
    hub.subscribe("b", Marked())
    assert await hub.next_loads(10) == {"b": UNSEEN}

    hub.deliver([event("a", 2)])
    assert not any(outbox.marks for outbox in outboxes)
    hub.loaded({"a": UNSEEN}, {"a": event("a", 1)})
    assert all(len(outbox.marks) == 1 for outbox in outboxes)
    assert hub.statistics().loading == 1


async def test_it_tells_which_events_that_are_watched_a_trace_follows(hub: Hub) -> None:
    watching = [hub.subscribe("a", Marked()) for _ in range(2)]
    hub.subscribe("loading", Marked())
    hub.loaded({"a": UNSEEN}, {"a": event("a", 1)})
    traced = [replace(event("a", seq), traceparent=SPAN) for seq in (2, 3)]
    others = [replace(event(job, 2), traceparent=SPAN) for job in ("loading", "unwatched")]
    assert hub.deliver([*traced, *others, event("a", 4)]) == [(event, 2) for event in traced]
    assert hub.deliver(traced) == []  # the feed repeats itself
    for subscription in watching:
        hub.unsubscribe(subscription)
    assert hub.deliver([replace(event("a", 5), traceparent=SPAN)]) == []


async def test_one_read_of_the_history_serves_all_whom_a_hole_left_behind(hub: Hub) -> None:
    watching = [hub.subscribe("a", Marked(), mode="every") for _ in range(3)]
    hub.loaded(await hub.next_loads(10), {"a": event("a", 1)})
    assert all(subscription.take() for subscription in watching)
    hub.deliver([event("a", 4)])
    assert [subscription.take() for subscription in watching] == [None] * 3
    topic = await hub.next_refill()
    outboxes = [Marked() for _ in watching]
    for subscription, outbox in zip(watching, outboxes, strict=True):
        subscription.outbox = outbox
    hub.refilled(topic, None)
    assert not any(outbox.marks for outbox in outboxes)
    assert watching[0].take() is None
    hub.refilled(await hub.next_refill(), [event("a", seq) for seq in range(1, 6)])
    assert [outbox.marks for outbox in outboxes] == [[one] for one in watching]
    first, *others = [subscription.take() for subscription in watching]
    assert first is not None
    assert len(first.texts) == 3
    assert all(other is first for other in others)


async def test_several_may_wait_for_what_is_to_be_read(hub: Hub, autojump_clock: MockClock) -> None:
    jobs = {"a": UNSEEN, "b": UNSEEN}
    watching = [hub.subscribe(job, Marked(), mode="every") for job in jobs]
    hub.loaded(jobs, {job: event(job, 1) for job in jobs})
    taken: list[str] = []

    async def take() -> None:
        taken.append((await hub.next_refill()).job)

    async with trio.open_nursery() as nursery:
        for _ in jobs:
            nursery.start_soon(take)
        await trio.testing.wait_all_tasks_blocked()
        assert all(subscription.take() for subscription in watching)
        hub.deliver(event(job, 3) for job in jobs)
        assert not any(subscription.take() for subscription in watching)
    assert sorted(taken) == ["a", "b"]


async def test_a_live_topic_marks_at_once_and_only_for_something_new(hub: Hub) -> None:
    hub.subscribe("a", Marked())
    hub.loaded({"a": UNSEEN}, {"a": event("a", 5)})
    new, current = Marked(), Marked()
    hub.subscribe("a", new)
    hub.subscribe("a", current, position=Position(1, 5))
    assert (len(new.marks), len(current.marks)) == (1, 0)
    hub.deliver([event("a", 5), event("b", 1)])
    assert (len(new.marks), len(current.marks)) == (1, 0)
    hub.deliver([event("a", 6)])
    assert len(current.marks) == 1


async def test_topics_linger_and_are_swept(hub: Hub, autojump_clock: MockClock) -> None:
    first = hub.subscribe("a", Marked())
    hub.loaded({"a": UNSEEN}, {"a": event("a", 1)})
    hub.unsubscribe(first)
    await trio.sleep(29)
    hub.sweep()
    again = hub.subscribe("a", Marked())
    assert not again.topic.loading
    await trio.sleep(60)
    hub.sweep()
    assert hub.statistics().topics == 1
    hub.unsubscribe(again)
    await trio.sleep(30)
    hub.sweep()
    assert hub.statistics().topics == 0


async def test_loads_come_in_batches_and_are_waited_for(
    hub: Hub, autojump_clock: MockClock
) -> None:
    with trio.move_on_after(1) as scope:
        await hub.next_loads(10)
    assert scope.cancelled_caught
    for number in range(5):
        hub.subscribe(f"j{number}", Marked())
    assert list(await hub.next_loads(3)) == ["j0", "j1", "j2"]
    assert list(await hub.next_loads(3)) == ["j3", "j4"]


async def test_a_topic_dropped_while_it_was_loading_is_no_error(hub: Hub) -> None:
    hub.loaded({"gone": UNSEEN}, {"gone": event("gone", 1)})
    assert hub.statistics().topics == 0


async def test_a_comparison_brings_a_last_event_that_the_feed_lacked(hub: Hub) -> None:
    outbox = Marked()
    hub.subscribe("a", outbox, position=Position(1, 1))
    hub.loaded(await hub.next_loads(10), {"a": event("a", 1)})
    asked = hub.positions(hub.jobs)
    hub.compared(asked, {"a": Position(1, 1)})
    assert (hub.statistics().to_load, outbox.marks) == (0, [])
    hub.compared(asked, {"a": Position(1, 2)})
    assert await hub.next_loads(10) == {"a": Position(1, 1)}
    hub.loaded({"a": UNSEEN}, {"a": event("a", 2)})
    assert len(outbox.marks) == 1


async def test_a_client_that_has_seen_more_is_not_shown_the_past(hub: Hub) -> None:
    outbox = Marked()
    hub.subscribe("a", Marked())
    hub.loaded(await hub.next_loads(10), {"a": event("a", 3)})
    ahead = hub.subscribe("a", outbox, position=Position(1, 5))
    hub.deliver([event("a", 4), event("a", 5)])
    assert (ahead.due, outbox.marks) == (False, [])
    assert await hub.next_loads(10) == {"a": Position(1, 5)}
    hub.deliver([event("a", 6)])
    assert outbox.marks == [ahead]
    message = ahead.take()
    assert isinstance(message, Message)
    assert b'"prev":5,"seq":6' in message.texts[0]


@pytest.mark.parametrize("claimed", [Position(1, 9), Position(2, 1)])
async def test_but_the_broker_has_the_last_word(hub: Hub, claimed: Position) -> None:
    hub.subscribe("a", Marked())
    hub.loaded(await hub.next_loads(10), {"a": event("a", 3)})
    outbox = Marked()
    ahead = hub.subscribe("a", outbox, position=claimed)
    assert outbox.marks == []
    hub.loaded(await hub.next_loads(10), {"a": event("a", 4)})
    assert outbox.marks == [ahead]
    message = ahead.take()
    assert isinstance(message, Message)
    assert b'"seq":4,"snapshot":true' in message.texts[0]


@pytest.mark.parametrize("seen_before", [True, False])
async def test_a_read_that_was_under_way_says_nothing_of_who_came_later(
    seen_before: bool, hub: Hub
) -> None:
    hub.subscribe("a", Marked())
    if seen_before:
        hub.loaded(await hub.next_loads(10), {"a": event("a", 3)})
        hub.compared({"a": Position(1, 3)}, {})  # so that it is read again
    under_way = await hub.next_loads(10)
    outbox = Marked()
    ahead = hub.subscribe("a", outbox, position=Position(1, 5))
    hub.loaded(under_way, {"a": event("a", 4)})
    assert (ahead.due, outbox.marks) == (False, [])
    hub.loaded(await hub.next_loads(10), {"a": event("a", 6)})
    assert outbox.marks == [ahead]


async def test_a_comparison_reminds_those_who_are_behind(hub: Hub) -> None:
    outbox = Marked()
    hub.subscribe("a", outbox)
    hub.loaded(await hub.next_loads(10), {"a": event("a", 1)})
    outbox.marks.clear()  # as if what it lacked could not be had
    hub.compared(hub.positions(hub.jobs), {"a": Position(1, 1), "gone": Position(1, 1)})
    assert len(outbox.marks) == 1


async def test_ever_new_names_cost_a_bounded_amount() -> None:
    hub = Hub(Limits(max_idle_topics=3))
    for number in range(10):
        hub.unsubscribe(hub.subscribe(f"never:{number}", Marked()))
    assert hub.statistics().topics == 0
    for number in range(10):
        subscription = hub.subscribe(f"seen:{number}", Marked())
        hub.deliver([event(f"seen:{number}", 1)])
        hub.unsubscribe(subscription)
    assert hub.statistics().topics == 3
    assert list(await hub.next_loads(99)) == ["seen:7", "seen:8", "seen:9"]


async def test_a_node_has_room_for_so_many_topics_and_the_idle_give_way() -> None:
    hub = Hub(Limits(max_topics=3))
    kept = [hub.subscribe(job, Marked()) for job in ("a", "b")]
    hidden = hub.hide("secret", Marked())
    with pytest.raises(NodeFull):
        hub.subscribe("c", Marked())
    with pytest.raises(NodeFull):
        hub.hide("c", Marked())
    assert hub.subscribe("a", Marked()).topic is kept[0].topic  # one more of the same costs none
    hub.unsubscribe(hidden)
    third = hub.subscribe("c", Marked())
    hub.deliver([event("c", 1)])
    hub.unsubscribe(third)  # it lingers
    hub.subscribe("d", Marked())
    assert hub.jobs == ["a", "b", "d"]


async def test_all_rings_together_are_bounded_and_the_quiet_give_way() -> None:
    limits = Limits(ring_bytes=2_000, rings_bytes=8_000)
    hub = Hub(limits)
    jobs = {f"job:{number}": UNSEEN for number in range(20)}
    topics = {job: hub.subscribe(job, Marked()).topic for job in jobs}
    hub.loaded(jobs, {job: event(job, 1) for job in jobs})
    for job in jobs:  # ten events each, about 1,000 bytes, and not a word after that
        hub.deliver(event(job, seq) for seq in range(2, 12))
    kept = [topic.kept for topic in topics.values()]
    assert limits.rings_bytes - limits.ring_bytes < sum(kept) <= limits.rings_bytes
    assert kept == sorted(kept)  # those that were heard of last
    assert all(topic.position.seq == 11 for topic in topics.values())

    # What a quiet one had is read again, at the cost of the others, and itself let go of again.
    late = hub.subscribe("job:0", Marked(), mode="every", position=Position(1, 3))
    hub.loaded(await hub.next_loads(1), {"job:0": event("job:0", 11)})
    assert late.take() is None
    hub.refilled(await hub.next_refill(), [event("job:0", seq) for seq in range(1, 12)])
    message = late.take()
    assert message is not None
    assert len(message.texts) == 8
    assert sum(topic.kept for topic in topics.values()) <= limits.rings_bytes


async def test_the_past_of_one_job_may_be_more_than_all_may_keep() -> None:
    hub = Hub(Limits(ring_bytes=2_000, rings_bytes=1))
    late = hub.subscribe("a", Marked(), mode="every", position=Position(1, 3))
    hub.loaded(await hub.next_loads(1), {"a": event("a", 11)})
    assert late.take() is None
    hub.refilled(await hub.next_refill(), [event("a", seq) for seq in range(1, 12)])
    message = late.take()
    assert message is not None
    assert len(message.texts) == 8
    hub.deliver([event("b", 1)])
    other = hub.subscribe("b", Marked())
    hub.deliver([event("b", 1), event("b", 2)])
    assert (late.topic.kept, other.topic.kept > 0) == (0, True)


async def test_nothing_holds_a_topic_that_was_let_go_of(
    hub: Hub, autojump_clock: MockClock
) -> None:
    subscription = hub.subscribe("a", Marked(), mode="every", position=Position(1, 1))
    hub.loaded(await hub.next_loads(1), {"a": event("a", 3)})
    hub.deliver([event("a", 4)])
    assert subscription.take() is None  # its history is asked for, and not read yet
    gone = weakref.ref(subscription.topic)
    hub.unsubscribe(subscription)
    del subscription
    await trio.sleep(30)
    hub.sweep()
    gc.collect()
    assert gone() is None
