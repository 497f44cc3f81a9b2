"""The hub notifies subscriptions with new events, and frees topics."""

from __future__ import annotations

import gc
import tracemalloc
import weakref

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from trio.testing import MockClock

from gateway import Limits
from gateway.delivery.hub import Hub
from gateway.delivery.repairs import Repairs
from gateway.delivery.topic import Subscription
from gateway.model.errors import NodeFull
from gateway.model.state import UNSEEN, Position
from tests.events import event
from tests.traceparents import SPAN

from .subscribers import IgnoringOutbox, RecordingOutbox


async def test_deliver_returns_watched_events_with_a_traceparent(
    hub: Hub, repairs: Repairs
) -> None:
    watching = [hub.subscribe("a", RecordingOutbox()) for _ in range(2)]
    hub.subscribe("loading", RecordingOutbox())
    repairs.apply_loads({"a": UNSEEN}, {"a": event("a", 1)})
    traced = [replace(event("a", seq), traceparent=SPAN) for seq in (2, 3)]
    others = [replace(event(job, 2), traceparent=SPAN) for job in ("loading", "unwatched")]
    assert hub.deliver([*traced, *others, event("a", 4)]) == [(event, 2) for event in traced]
    assert hub.deliver(traced) == []  # the feed repeats itself
    for subscription in watching:
        hub.unsubscribe(subscription)
    assert hub.deliver([replace(event("a", 5), traceparent=SPAN)]) == []


async def test_idle_topics_are_evicted_after_the_linger_time(
    hub: Hub, repairs: Repairs, autojump_clock: MockClock
) -> None:
    first = hub.subscribe("a", RecordingOutbox())
    repairs.apply_loads({"a": UNSEEN}, {"a": event("a", 1)})
    hub.unsubscribe(first)
    await trio.sleep(29)
    hub.evict_idle()
    again = hub.subscribe("a", RecordingOutbox())
    assert not again.topic.loading
    await trio.sleep(60)
    hub.evict_idle()
    assert hub.statistics().topics == 1
    hub.unsubscribe(again)
    await trio.sleep(30)
    hub.evict_idle()
    assert hub.statistics().topics == 0


async def test_many_new_job_names_use_bounded_memory() -> None:
    hub = Hub(Limits(max_idle_topics=3))
    repairs = Repairs(hub)
    for number in range(10):
        hub.unsubscribe(hub.subscribe(f"never:{number}", RecordingOutbox()))
    assert hub.statistics().topics == 0
    for number in range(10):
        subscription = hub.subscribe(f"seen:{number}", RecordingOutbox())
        hub.deliver([event(f"seen:{number}", 1)])
        hub.unsubscribe(subscription)
    assert hub.statistics().topics == 3
    assert list(await repairs.next_loads(99)) == ["seen:7", "seen:8", "seen:9"]


async def test_the_number_of_topics_is_limited_and_idle_ones_are_evicted() -> None:
    hub = Hub(Limits(max_topics=3))
    subscriptions = [hub.subscribe(job, RecordingOutbox()) for job in ("a", "b")]
    subscriptions.append(hub.subscribe("e", RecordingOutbox()))
    hidden = [hub.subscribe_denied(f"secret:{number}", RecordingOutbox()) for number in range(9)]
    with pytest.raises(NodeFull):
        hub.subscribe("c", RecordingOutbox())
    assert (
        hub.subscribe("a", RecordingOutbox()).topic is subscriptions[0].topic
    )  # one more of the same costs none
    for denied in hidden:
        hub.unsubscribe(denied)
    hub.unsubscribe(subscriptions.pop())
    third = hub.subscribe("c", RecordingOutbox())
    hub.deliver([event("c", 1)])
    hub.unsubscribe(third)  # it lingers
    hub.subscribe("d", RecordingOutbox())
    assert list(hub.topics) == ["a", "b", "d"]


async def test_the_size_of_all_replays_is_limited_and_the_oldest_are_dropped() -> None:
    limits = Limits(job_replay_bytes=2_000, total_replay_bytes=8_000)
    hub = Hub(limits)
    repairs = Repairs(hub)
    jobs = {f"job:{number}": UNSEEN for number in range(20)}
    topics = {job: hub.subscribe(job, RecordingOutbox()).topic for job in jobs}
    repairs.apply_loads(jobs, {job: event(job, 1) for job in jobs})
    for job in jobs:  # ten events each, about 1,000 bytes, and none after that
        hub.deliver(event(job, seq) for seq in range(2, 12))
    replay_sizes = [topic.replay_bytes for topic in topics.values()]
    assert (
        limits.total_replay_bytes - limits.job_replay_bytes
        < sum(replay_sizes)
        <= limits.total_replay_bytes
    )
    assert replay_sizes == sorted(replay_sizes)  # those with the newest events are kept
    assert all(topic.position.seq == 11 for topic in topics.values())

    # A dropped replay is read again. It takes the place of others, and is dropped later.
    late = hub.subscribe("job:0", RecordingOutbox(), mode="every", position=Position(1, 3))
    repairs.apply_loads(await repairs.next_loads(1), {"job:0": event("job:0", 11)})
    assert late.next_message() is None
    repairs.apply_history(
        await repairs.next_refill(), [event("job:0", seq) for seq in range(1, 12)]
    )
    message = late.next_message()
    assert message is not None
    assert len(message.texts) == 8
    assert sum(topic.replay_bytes for topic in topics.values()) <= limits.total_replay_bytes


async def test_one_replay_may_exceed_the_total_limit() -> None:
    hub = Hub(Limits(job_replay_bytes=2_000, total_replay_bytes=1))
    repairs = Repairs(hub)
    late = hub.subscribe("a", RecordingOutbox(), mode="every", position=Position(1, 3))
    repairs.apply_loads(await repairs.next_loads(1), {"a": event("a", 11)})
    assert late.next_message() is None
    repairs.apply_history(await repairs.next_refill(), [event("a", seq) for seq in range(1, 12)])
    message = late.next_message()
    assert message is not None
    assert len(message.texts) == 8
    hub.deliver([event("b", 1)])
    other = hub.subscribe("b", RecordingOutbox())
    hub.deliver([event("b", 1), event("b", 2)])
    assert (late.topic.replay_bytes, other.topic.replay_bytes > 0) == (0, True)


async def test_a_dropped_topic_is_freed(
    hub: Hub, repairs: Repairs, autojump_clock: MockClock
) -> None:
    subscription = hub.subscribe("a", RecordingOutbox(), mode="every", position=Position(1, 1))
    repairs.apply_loads(await repairs.next_loads(1), {"a": event("a", 3)})
    hub.deliver([event("a", 4)])
    assert subscription.next_message() is None  # its history is asked for, and not read yet
    gone = weakref.ref(subscription.topic)
    hub.unsubscribe(subscription)
    del subscription
    await trio.sleep(30)
    hub.evict_idle()
    gc.collect()
    assert gone() is None


async def test_a_topic_that_is_watched_again_is_not_evicted() -> None:
    hub = Hub(Limits(max_topics=2))
    repairs = Repairs(hub)
    first = hub.subscribe("a", RecordingOutbox())
    repairs.apply_loads({"a": UNSEEN}, {"a": event("a", 1)})
    hub.unsubscribe(first)
    outbox = RecordingOutbox()
    hub.subscribe("a", outbox)
    hub.subscribe("b", RecordingOutbox())
    with pytest.raises(NodeFull):
        hub.subscribe("c", RecordingOutbox())
    outbox.notified.clear()
    hub.deliver([event("a", 2)])
    assert len(outbox.notified) == 1


@pytest.mark.slow
@pytest.mark.parametrize("size", [10, 200, 2_000])
async def test_the_bound_on_all_replays_bounds_what_is_allocated(size: int) -> None:
    """`tracemalloc` measures the events, cached messages and frames of 100 topics that each have
    subscribers at many positions."""
    bound = 1024 * 1024
    hub = Hub(Limits(total_replay_bytes=bound, job_replay_bytes=100_000))
    repairs = Repairs(hub)
    jobs = [f"job:{number}" for number in range(100)]
    subscriptions = [hub.subscribe(job, IgnoringOutbox()) for job in jobs for _ in range(4)]
    await repairs.next_loads(1_000)
    repairs.apply_loads(dict.fromkeys(jobs, UNSEEN), {})

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
                    message = subscription.next_message()
                    if message is not None:
                        assert message.joined_frame
                        assert message.separate_frames
        for subscription in subscriptions:
            message = subscription.next_message()
            if message is not None:
                assert message.joined_frame
                assert message.separate_frames
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
    """The hub counts incrementally, so that 100,000 topics do not block the node."""

    async def main() -> None:
        hub = Hub(Limits(max_idle_topics=1))
        repairs = Repairs(hub)
        subscriptions: list[Subscription] = []
        for number, (action, job) in enumerate(actions, start=1):
            if action == "add":
                subscriptions.append(hub.subscribe(job, IgnoringOutbox()))
            elif action == "remove" and subscriptions:
                hub.unsubscribe(subscriptions.pop(number % len(subscriptions)))
            elif action == "load":
                with trio.move_on_after(0):
                    repairs.apply_loads(await repairs.next_loads(2), {})
            elif action == "event":
                hub.deliver([event(job, number)])
        topics = [topic for name, topic in hub.topics.items() if name != "!"]
        statistics = hub.statistics()
        assert statistics.topics == len(topics)
        assert statistics.loading == sum(topic.loading for topic in topics)
        assert statistics.subscriptions == sum(len(topic.subscriptions) for topic in topics)
        assert statistics.to_load == len(hub.to_load)

    trio.run(main, clock=MockClock(autojump_threshold=0))
