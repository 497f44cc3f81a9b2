"""Each job is read once, and an answer of the broker repairs what the feed has lost."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from gateway.delivery.hub import Hub
from gateway.delivery.repairs import Repairs
from gateway.model.state import UNSEEN, Position
from gateway.protocol.messages import Message
from tests.events import event

from .subscribers import IgnoringOutbox, RecordingOutbox


async def test_one_read_serves_all_waiting_subscribers(hub: Hub, repairs: Repairs) -> None:
    outboxes = [RecordingOutbox() for _ in range(3)]
    for outbox in outboxes:
        hub.subscribe("a", outbox)
    assert await repairs.next_loads(10) == {"a": UNSEEN}
    hub.subscribe("a", RecordingOutbox())
    hub.subscribe("b", RecordingOutbox())
    assert await repairs.next_loads(10) == {"b": UNSEEN}

    hub.deliver([event("a", 2)])
    assert not any(outbox.notified for outbox in outboxes)
    assert hub.statistics().loading == 2
    repairs.apply_loads({"a": UNSEEN}, {"a": event("a", 1)})
    assert all(len(outbox.notified) == 1 for outbox in outboxes)
    assert hub.statistics().loading == 1


async def test_one_history_read_serves_all_subscribers_with_a_gap(
    hub: Hub, repairs: Repairs
) -> None:
    subscriptions = [hub.subscribe("a", RecordingOutbox(), mode="every") for _ in range(3)]
    repairs.apply_loads(await repairs.next_loads(10), {"a": event("a", 1)})
    assert all(subscription.next_message() for subscription in subscriptions)
    hub.deliver([event("a", 4)])
    assert [subscription.next_message() for subscription in subscriptions] == [None] * 3
    topic = await repairs.next_refill()
    outboxes = [RecordingOutbox() for _ in subscriptions]
    for subscription, outbox in zip(subscriptions, outboxes, strict=True):
        subscription.outbox = outbox
    repairs.apply_history(topic, None)
    assert not any(outbox.notified for outbox in outboxes)
    assert subscriptions[0].next_message() is None
    repairs.apply_history(await repairs.next_refill(), [event("a", seq) for seq in range(1, 6)])
    assert [outbox.notified for outbox in outboxes] == [[one] for one in subscriptions]
    first_message, *others = [subscription.next_message() for subscription in subscriptions]
    assert first_message is not None
    assert len(first_message.texts) == 3
    assert all(other is first_message for other in others)


async def test_several_tasks_can_wait_for_refills(
    hub: Hub, repairs: Repairs, autojump_clock: MockClock
) -> None:
    jobs = {"a": UNSEEN, "b": UNSEEN}
    subscriptions = [hub.subscribe(job, RecordingOutbox(), mode="every") for job in jobs]
    repairs.apply_loads(jobs, {job: event(job, 1) for job in jobs})
    refilled_jobs: list[str] = []

    async def take() -> None:
        refilled_jobs.append((await repairs.next_refill()).job)

    async with trio.open_nursery() as nursery:
        for _ in jobs:
            nursery.start_soon(take)
        await trio.testing.wait_all_tasks_blocked()
        assert all(subscription.next_message() for subscription in subscriptions)
        hub.deliver(event(job, 3) for job in jobs)
        assert not any(subscription.next_message() for subscription in subscriptions)
    assert sorted(refilled_jobs) == ["a", "b"]


async def test_a_loaded_topic_notifies_a_subscriber_only_of_new_events(
    hub: Hub, repairs: Repairs
) -> None:
    hub.subscribe("a", RecordingOutbox())
    repairs.apply_loads({"a": UNSEEN}, {"a": event("a", 5)})
    new, current = RecordingOutbox(), RecordingOutbox()
    hub.subscribe("a", new)
    hub.subscribe("a", current, position=Position(1, 5))
    assert (len(new.notified), len(current.notified)) == (1, 0)
    hub.deliver([event("a", 5), event("b", 1)])
    assert (len(new.notified), len(current.notified)) == (1, 0)
    hub.deliver([event("a", 6)])
    assert len(current.notified) == 1


async def test_loads_are_taken_in_batches(
    hub: Hub, repairs: Repairs, autojump_clock: MockClock
) -> None:
    with trio.move_on_after(1) as scope:
        await repairs.next_loads(10)
    assert scope.cancelled_caught
    for number in range(5):
        hub.subscribe(f"j{number}", RecordingOutbox())
    assert list(await repairs.next_loads(3)) == ["j0", "j1", "j2"]
    assert list(await repairs.next_loads(3)) == ["j3", "j4"]


async def test_a_topic_dropped_while_loading_is_ignored(hub: Hub, repairs: Repairs) -> None:
    repairs.apply_loads({"gone": UNSEEN}, {"gone": event("gone", 1)})
    assert hub.statistics().topics == 0


async def test_a_comparison_finds_an_event_that_the_feed_has_lost(
    hub: Hub, repairs: Repairs
) -> None:
    outbox = RecordingOutbox()
    hub.subscribe("a", outbox, position=Position(1, 1))
    repairs.apply_loads(await repairs.next_loads(10), {"a": event("a", 1)})
    requested_positions = repairs.positions(hub.topics)
    repairs.apply_comparison(requested_positions, {"a": Position(1, 1)})
    assert (hub.statistics().to_load, outbox.notified) == (0, [])
    repairs.apply_comparison(requested_positions, {"a": Position(1, 2)})
    assert await repairs.next_loads(10) == {"a": Position(1, 1)}
    repairs.apply_loads({"a": UNSEEN}, {"a": event("a", 2)})
    assert len(outbox.notified) == 1


async def test_a_client_that_is_newer_gets_no_older_state(hub: Hub, repairs: Repairs) -> None:
    outbox = RecordingOutbox()
    hub.subscribe("a", RecordingOutbox())
    repairs.apply_loads(await repairs.next_loads(10), {"a": event("a", 3)})
    client_may_be_ahead = hub.subscribe("a", outbox, position=Position(1, 5))
    hub.deliver([event("a", 4), event("a", 5)])
    assert (client_may_be_ahead.has_new_events, outbox.notified) == (False, [])
    assert await repairs.next_loads(10) == {"a": Position(1, 5)}
    hub.deliver([event("a", 6)])
    assert outbox.notified == [client_may_be_ahead]
    message = client_may_be_ahead.next_message()
    assert isinstance(message, Message)
    assert b'"prev":5,"seq":6' in message.texts[0]


@pytest.mark.parametrize("claimed", [Position(1, 9), Position(2, 1)])
async def test_a_client_that_claims_a_newer_position_gets_the_brokers_state(
    hub: Hub, repairs: Repairs, claimed: Position
) -> None:
    hub.subscribe("a", RecordingOutbox())
    repairs.apply_loads(await repairs.next_loads(10), {"a": event("a", 3)})
    outbox = RecordingOutbox()
    client_may_be_ahead = hub.subscribe("a", outbox, position=claimed)
    assert outbox.notified == []
    repairs.apply_loads(await repairs.next_loads(10), {"a": event("a", 4)})
    assert outbox.notified == [client_may_be_ahead]
    message = client_may_be_ahead.next_message()
    assert isinstance(message, Message)
    assert b'"seq":4,"snapshot":true' in message.texts[0]


@pytest.mark.parametrize("seen_before", [True, False])
async def test_a_read_that_began_earlier_does_not_answer_a_newer_client(
    seen_before: bool, hub: Hub, repairs: Repairs
) -> None:
    hub.subscribe("a", RecordingOutbox())
    if seen_before:
        repairs.apply_loads(await repairs.next_loads(10), {"a": event("a", 3)})
        repairs.apply_comparison({"a": Position(1, 3)}, {})  # so that it is read again
    under_way = await repairs.next_loads(10)
    outbox = RecordingOutbox()
    client_may_be_ahead = hub.subscribe("a", outbox, position=Position(1, 5))
    repairs.apply_loads(under_way, {"a": event("a", 4)})
    assert (client_may_be_ahead.has_new_events, outbox.notified) == (False, [])
    repairs.apply_loads(await repairs.next_loads(10), {"a": event("a", 6)})
    assert outbox.notified == [client_may_be_ahead]


async def test_a_comparison_notifies_subscribers_that_are_behind(
    hub: Hub, repairs: Repairs
) -> None:
    outbox = RecordingOutbox()
    hub.subscribe("a", outbox)
    repairs.apply_loads(await repairs.next_loads(10), {"a": event("a", 1)})
    outbox.notified.clear()  # as if what it lacked could not be had
    repairs.apply_comparison(
        repairs.positions(hub.topics), {"a": Position(1, 1), "gone": Position(1, 1)}
    )
    assert len(outbox.notified) == 1


async def test_jobs_of_nodes_are_not_compared(hub: Hub, repairs: Repairs) -> None:
    """A comparison would repair the probe, and the probe would no longer test the feed."""
    for job in ("!node", "a"):
        hub.subscribe(job, IgnoringOutbox())
        repairs.apply_loads({job: UNSEEN}, {job: event(job, 1)})
    assert repairs.positions(hub.topics) == {"a": Position(1, 1)}
