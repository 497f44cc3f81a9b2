"""The hub notifies subscriptions with new events, loads each job once, and frees topics."""

from __future__ import annotations

import gc
import tracemalloc
import weakref

import pytest
import trio
import trio.testing
from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from trio.testing import MockClock

from gateway import Limits
from gateway.delivery.hub import Hub
from gateway.delivery.topic import Subscription
from gateway.model.errors import NodeFull
from gateway.model.state import UNSEEN, Event, Position, State
from gateway.protocol.messages import Message
from tests.traceparents import SPAN


@define
class Marked:
    marks: list[Subscription] = field(factory=list)

    def notify(self, subscription: Subscription) -> None:
        self.marks.append(subscription)


class Unmarked:
    def notify(self, subscription: Subscription) -> None:
        """Keeps nothing."""


def event(job: str, seq: int) -> Event:
    return Event(
        job,
        Position(1, seq),
        State(status="running", attempt=1, created_at=1.0, updated_at=1.0),
    )


@pytest.fixture
def hub() -> Hub:
    return Hub(Limits(linger=30))


async def test_one_read_serves_all_waiting_subscribers(hub: Hub) -> None:
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


async def test_deliver_returns_watched_events_with_a_traceparent(hub: Hub) -> None:
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


async def test_one_history_read_serves_all_subscribers_with_a_gap(hub: Hub) -> None:
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


async def test_several_tasks_can_wait_for_refills(hub: Hub, autojump_clock: MockClock) -> None:
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


async def test_a_loaded_topic_notifies_a_subscriber_only_of_new_events(hub: Hub) -> None:
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


async def test_idle_topics_are_evicted_after_the_linger_time(
    hub: Hub, autojump_clock: MockClock
) -> None:
    first = hub.subscribe("a", Marked())
    hub.loaded({"a": UNSEEN}, {"a": event("a", 1)})
    hub.unsubscribe(first)
    await trio.sleep(29)
    hub.evict_idle()
    again = hub.subscribe("a", Marked())
    assert not again.topic.loading
    await trio.sleep(60)
    hub.evict_idle()
    assert hub.statistics().topics == 1
    hub.unsubscribe(again)
    await trio.sleep(30)
    hub.evict_idle()
    assert hub.statistics().topics == 0


async def test_loads_are_taken_in_batches(hub: Hub, autojump_clock: MockClock) -> None:
    with trio.move_on_after(1) as scope:
        await hub.next_loads(10)
    assert scope.cancelled_caught
    for number in range(5):
        hub.subscribe(f"j{number}", Marked())
    assert list(await hub.next_loads(3)) == ["j0", "j1", "j2"]
    assert list(await hub.next_loads(3)) == ["j3", "j4"]


async def test_a_topic_dropped_while_loading_is_ignored(hub: Hub) -> None:
    hub.loaded({"gone": UNSEEN}, {"gone": event("gone", 1)})
    assert hub.statistics().topics == 0


async def test_a_comparison_finds_an_event_that_the_feed_has_lost(hub: Hub) -> None:
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


async def test_a_client_that_is_newer_gets_no_older_state(hub: Hub) -> None:
    outbox = Marked()
    hub.subscribe("a", Marked())
    hub.loaded(await hub.next_loads(10), {"a": event("a", 3)})
    client_is_newer = hub.subscribe("a", outbox, position=Position(1, 5))
    hub.deliver([event("a", 4), event("a", 5)])
    assert (client_is_newer.due, outbox.marks) == (False, [])
    assert await hub.next_loads(10) == {"a": Position(1, 5)}
    hub.deliver([event("a", 6)])
    assert outbox.marks == [client_is_newer]
    message = client_is_newer.take()
    assert isinstance(message, Message)
    assert b'"prev":5,"seq":6' in message.texts[0]


@pytest.mark.parametrize("claimed", [Position(1, 9), Position(2, 1)])
async def test_a_client_that_claims_a_newer_position_gets_the_brokers_state(
    hub: Hub, claimed: Position
) -> None:
    hub.subscribe("a", Marked())
    hub.loaded(await hub.next_loads(10), {"a": event("a", 3)})
    outbox = Marked()
    client_is_newer = hub.subscribe("a", outbox, position=claimed)
    assert outbox.marks == []
    hub.loaded(await hub.next_loads(10), {"a": event("a", 4)})
    assert outbox.marks == [client_is_newer]
    message = client_is_newer.take()
    assert isinstance(message, Message)
    assert b'"seq":4,"snapshot":true' in message.texts[0]


@pytest.mark.parametrize("seen_before", [True, False])
async def test_a_read_that_began_earlier_does_not_answer_a_newer_client(
    seen_before: bool, hub: Hub
) -> None:
    hub.subscribe("a", Marked())
    if seen_before:
        hub.loaded(await hub.next_loads(10), {"a": event("a", 3)})
        hub.compared({"a": Position(1, 3)}, {})  # so that it is read again
    under_way = await hub.next_loads(10)
    outbox = Marked()
    client_is_newer = hub.subscribe("a", outbox, position=Position(1, 5))
    hub.loaded(under_way, {"a": event("a", 4)})
    assert (client_is_newer.due, outbox.marks) == (False, [])
    hub.loaded(await hub.next_loads(10), {"a": event("a", 6)})
    assert outbox.marks == [client_is_newer]


async def test_a_comparison_notifies_subscribers_that_are_behind(hub: Hub) -> None:
    outbox = Marked()
    hub.subscribe("a", outbox)
    hub.loaded(await hub.next_loads(10), {"a": event("a", 1)})
    outbox.marks.clear()  # as if what it lacked could not be had
    hub.compared(hub.positions(hub.jobs), {"a": Position(1, 1), "gone": Position(1, 1)})
    assert len(outbox.marks) == 1


async def test_many_new_job_names_use_bounded_memory() -> None:
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


async def test_the_number_of_topics_is_limited_and_idle_ones_are_evicted() -> None:
    hub = Hub(Limits(max_topics=3))
    kept = [hub.subscribe(job, Marked()) for job in ("a", "b")]
    kept.append(hub.subscribe("e", Marked()))
    hidden = [hub.subscribe_denied(f"secret:{number}", Marked()) for number in range(9)]
    with pytest.raises(NodeFull):
        hub.subscribe("c", Marked())
    assert hub.subscribe("a", Marked()).topic is kept[0].topic  # one more of the same costs none
    for denied in hidden:
        hub.unsubscribe(denied)
    hub.unsubscribe(kept.pop())
    third = hub.subscribe("c", Marked())
    hub.deliver([event("c", 1)])
    hub.unsubscribe(third)  # it lingers
    hub.subscribe("d", Marked())
    assert hub.jobs == ["a", "b", "d"]


async def test_the_size_of_all_replays_is_limited_and_the_oldest_are_dropped() -> None:
    limits = Limits(job_replay_bytes=2_000, total_replay_bytes=8_000)
    hub = Hub(limits)
    jobs = {f"job:{number}": UNSEEN for number in range(20)}
    topics = {job: hub.subscribe(job, Marked()).topic for job in jobs}
    hub.loaded(jobs, {job: event(job, 1) for job in jobs})
    for job in jobs:  # ten events each, about 1,000 bytes, and not a word after that
        hub.deliver(event(job, seq) for seq in range(2, 12))
    kept = [topic.replay_bytes for topic in topics.values()]
    assert (
        limits.total_replay_bytes - limits.job_replay_bytes < sum(kept) <= limits.total_replay_bytes
    )
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
    assert sum(topic.replay_bytes for topic in topics.values()) <= limits.total_replay_bytes


async def test_one_replay_may_exceed_the_total_limit() -> None:
    hub = Hub(Limits(job_replay_bytes=2_000, total_replay_bytes=1))
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
    assert (late.topic.replay_bytes, other.topic.replay_bytes > 0) == (0, True)


async def test_a_dropped_topic_is_freed(hub: Hub, autojump_clock: MockClock) -> None:
    subscription = hub.subscribe("a", Marked(), mode="every", position=Position(1, 1))
    hub.loaded(await hub.next_loads(1), {"a": event("a", 3)})
    hub.deliver([event("a", 4)])
    assert subscription.take() is None  # its history is asked for, and not read yet
    gone = weakref.ref(subscription.topic)
    hub.unsubscribe(subscription)
    del subscription
    await trio.sleep(30)
    hub.evict_idle()
    gc.collect()
    assert gone() is None


async def test_a_topic_that_is_watched_again_is_not_evicted() -> None:
    hub = Hub(Limits(max_topics=2))
    first = hub.subscribe("a", Marked())
    hub.loaded({"a": UNSEEN}, {"a": event("a", 1)})
    hub.unsubscribe(first)
    outbox = Marked()
    hub.subscribe("a", outbox)
    hub.subscribe("b", Marked())
    with pytest.raises(NodeFull):
        hub.subscribe("c", Marked())
    outbox.marks.clear()
    hub.deliver([event("a", 2)])
    assert len(outbox.marks) == 1


@pytest.mark.slow
@pytest.mark.parametrize("size", [10, 200, 2_000])
async def test_the_bound_on_all_replays_bounds_what_is_allocated(size: int) -> None:
    """Measured with `tracemalloc`: events, cached messages and their frames, of 100 topics that
    each have subscribers at many positions."""
    bound = 1024 * 1024
    hub = Hub(Limits(total_replay_bytes=bound, job_replay_bytes=100_000))
    jobs = [f"job:{number}" for number in range(100)]
    subscriptions = [hub.subscribe(job, Unmarked()) for job in jobs for _ in range(4)]
    await hub.next_loads(1_000)
    hub.loaded(dict.fromkeys(jobs, UNSEEN), {})

    def deliver(seq: int) -> None:
        state = replace(event("", seq).state, message="m" * size)
        hub.deliver([replace(event(job, seq), state=state) for job in jobs])

    deliver(1)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for seq in range(2, 200):
            deliver(seq)
            for number, subscription in enumerate(subscriptions):
                if seq % (number % 7 + 1) == 0:  # so that they stand at different positions
                    subscription.mode = "every" if number % 2 else "latest"
                    message = subscription.take()
                    if message is not None:
                        assert message.frame
                        assert message.frames
        for subscription in subscriptions:
            message = subscription.take()
            if message is not None:
                assert message.frame
                assert message.frames
        del message
        gc.collect()
        kept = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    newest = len(jobs) * (size + 2_000)  # its state and its text, which the bound leaves out
    assert bound / 4 < kept < bound + newest


@given(
    st.lists(
        st.tuples(st.sampled_from(["add", "remove", "load", "event"]), st.sampled_from("abcd!")),
        max_size=60,
    )
)
def test_statistics_equal_a_full_count(actions: list[tuple[str, str]]) -> None:
    """They are updated incrementally, so that 100,000 topics do not block the node."""

    async def main() -> None:
        hub = Hub(Limits(max_idle_topics=1))
        subscriptions: list[Subscription] = []
        for number, (action, job) in enumerate(actions, start=1):
            if action == "add":
                subscriptions.append(hub.subscribe(job, Unmarked()))
            elif action == "remove" and subscriptions:
                hub.unsubscribe(subscriptions.pop(number % len(subscriptions)))
            elif action == "load":
                with trio.move_on_after(0):
                    hub.loaded(await hub.next_loads(2), {})
            elif action == "event":
                hub.deliver([event(job, number)])
        topics = [topic for name, topic in hub._topics.items() if name != "!"]
        found = hub.statistics()
        assert found.topics == len(topics)
        assert found.loading == sum(topic.loading for topic in topics)
        assert found.subscriptions == sum(len(topic.subscriptions) for topic in topics)
        assert found.to_load == len(hub._to_load)

    trio.run(main, clock=MockClock(autojump_threshold=0))
