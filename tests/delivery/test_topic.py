"""The shared log: the range that each frame covers is correct, for any loss and any rate."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.delivery.topic import Subscription, Topic
from gateway.model.state import UNSEEN, Event, Position, State
from gateway.protocol.commands import Mode
from gateway.protocol.messages import Message
from tests.events import event

from .subscribers import RecordingOutbox


def job_event(seq: int, epoch: int = 1, size: int = 1) -> Event:
    return event("job", seq, epoch=epoch, done=seq, message="x" * size)


def live(*events: Event, job_replay_bytes: int = 100_000) -> Topic:
    topic = Topic("job", job_replay_bytes, list[Topic]().append)
    topic.apply_snapshot(None, requested_at=UNSEEN)
    for new_event in events:
        topic.append(new_event)
    return topic


def watch(topic: Topic, cursor: Position | None = None, mode: Mode = "latest") -> Subscription:
    return Subscription(topic, RecordingOutbox(), mode, cursor)


def frames(taken: Message | None) -> list[dict[str, Any]]:
    assert taken is not None
    return [json.loads(text) for text in taken.texts]


def ranges_in(taken: Message | None) -> list[tuple[int | None, int]]:
    return [(frame["prev"], frame["seq"]) for frame in frames(taken)]


def test_an_unknown_job_gets_null_once() -> None:
    subscription = watch(live())
    assert frames(subscription.next_message())[0]["state"] is None
    assert not subscription.has_new_events
    assert subscription.next_message() is None


def test_the_first_event_of_an_unknown_job_is_a_snapshot() -> None:
    topic = live()
    subscription = watch(topic, UNSEEN)
    assert not subscription.has_new_events
    topic.append(job_event(1))
    assert ranges_in(subscription.next_message()) == [(None, 1)]


def test_mode_latest_gets_one_frame_for_all_events_since_the_cursor() -> None:
    topic = live(job_event(1))
    subscription = watch(topic)
    assert ranges_in(subscription.next_message()) == [(None, 1)]
    for seq in (2, 3, 4):
        topic.append(job_event(seq))
    assert ranges_in(subscription.next_message()) == [(1, 4)]
    assert subscription.next_message() is None


def test_mode_every_gets_each_event() -> None:
    topic = live(job_event(1))
    subscription = watch(topic, mode="every")
    subscription.next_message()
    for seq in (2, 3, 4):
        topic.append(job_event(seq))
    assert ranges_in(subscription.next_message()) == [(1, 2), (2, 3), (3, 4)]


@pytest.mark.parametrize("mode", ["latest", "every"])
@pytest.mark.parametrize(
    ("cursor", "expected"),
    [
        (Position(5, 2), [(2, 3)]),  # continues
        (Position(5, 9), [(None, 3)]),  # above the newest event: impossible
        (Position(6, 1), [(None, 3)]),  # from an unknown record
    ],
)
def test_a_position_is_continued_or_replaced_by_a_snapshot(
    mode: Mode, cursor: Position, expected: list[tuple[int | None, int]]
) -> None:
    topic = live(job_event(1, 5), job_event(2, 5), job_event(3, 5))
    assert ranges_in(watch(topic, cursor, mode).next_message()) == expected
    assert watch(topic, Position(5, 3), mode).next_message() is None


def test_a_new_epoch_is_a_snapshot_and_in_mode_every_all_events() -> None:
    topic = live(job_event(7, 1))
    latest, every = watch(topic, Position(1, 7)), watch(topic, Position(1, 7), "every")
    for seq in (1, 2, 3):
        topic.append(job_event(seq, 2))
    assert ranges_in(latest.next_message()) == [(None, 3)]
    assert ranges_in(every.next_message()) == [(None, 1), (1, 2), (2, 3)]


def test_old_and_repeated_events_are_dropped() -> None:
    topic = live(job_event(1, 5), job_event(2, 5))
    assert not topic.append(job_event(2, 5))
    assert not topic.append(job_event(1, 5))
    assert not topic.append(job_event(9, 4))
    assert topic.position == (5, 2)


def test_snapshot_and_feed_are_merged_in_any_order() -> None:
    for snapshot, fed in ((3, 2), (3, 3), (2, 3)):
        topic = Topic("job", 100_000, list[Topic]().append)
        subscription = watch(topic)
        topic.append(job_event(fed))
        assert subscription.next_message() is None
        topic.apply_snapshot(job_event(snapshot), requested_at=UNSEEN)
        assert ranges_in(subscription.next_message()) == [(None, 3)]


def test_the_replay_is_limited_and_missing_events_are_requested_once() -> None:
    requested: list[Topic] = []
    topic = Topic("job", 2000, requested.append, loading=False)
    for seq in range(1, 11):
        topic.append(job_event(seq, size=500))
    assert topic.replay_bytes < 2000
    behind, further = watch(topic, Position(1, 4), "every"), watch(topic, Position(1, 1), "every")
    assert (behind.next_message(), further.next_message(), behind.next_message(), requested) == (
        None,
        None,
        None,
        [topic],
    )
    assert behind.has_new_events
    topic.append(job_event(11))
    topic.refill(
        [job_event(seq) for seq in range(3, 14)]
    )  # it has newer events than the feed has delivered
    assert ranges_in(behind.next_message()) == [(seq, seq + 1) for seq in range(4, 11)]
    assert frames(further.next_message()) == [
        {"type": "gap", "job": "job", "epoch": 1, "from": 2, "to": 10}
    ]
    assert ranges_in(further.next_message()) == [(None, 11)]
    assert further.next_message() is None
    assert ranges_in(watch(topic, Position(1, 2), "every").next_message())[0] == (2, 3)
    assert requested == [topic]
    topic.append(job_event(12, size=500))
    assert topic.replay_bytes < 2000
    assert watch(topic, Position(1, 2), "every").next_message() is None  # it may be available again
    assert requested == [topic, topic]


@pytest.mark.parametrize("answer", [[], [job_event(1)], [job_event(2, epoch=2)]])
def test_events_that_the_broker_has_lost_are_a_gap(answer: list[Event]) -> None:
    topic = live(job_event(1), job_event(4))
    subscription = watch(topic, Position(1, 1), "every")
    assert subscription.next_message() is None
    topic.refill(answer)
    assert [(gap["from"], gap["to"]) for gap in frames(subscription.next_message())] == [(2, 3)]
    assert ranges_in(subscription.next_message()) == [(None, 4)]


@pytest.mark.parametrize("answer", [None, [job_event(2), job_event(3)]])
def test_a_missing_or_late_answer_changes_nothing(answer: list[Event] | None) -> None:
    requested: list[Topic] = []
    topic = Topic("job", 100_000, requested.append, loading=False)
    for seq in (1, 3):
        topic.append(job_event(seq))
    subscription = watch(topic, Position(1, 1), "every")
    assert subscription.next_message() is None
    topic.append(job_event(6))  # another gap, which the answer does not cover yet
    topic.refill(answer)
    assert (subscription.next_message(), requested) == (None, [topic, topic])
    topic.refill([job_event(seq) for seq in range(1, 7)])
    assert ranges_in(subscription.next_message()) == [(seq, seq + 1) for seq in range(1, 6)]


def test_an_event_larger_than_the_replay_is_delivered() -> None:
    topic = live(job_event(1, size=5000), job_replay_bytes=10)
    assert ranges_in(watch(topic).next_message()) == [(None, 1)]


def test_subscribers_at_the_same_position_share_one_message() -> None:
    topic = live(job_event(1), job_event(2))
    first, second = watch(topic, Position(1, 1)), watch(topic, Position(1, 1))
    assert first.next_message() is second.next_message()


@pytest.mark.parametrize(
    ("requested_at", "status", "received"),
    [
        (Position(1, 2), "running", [(None, 0)]),  # dropped: no event would ever follow
        (Position(1, 2), "failed", []),  # a final state stays correct
        (Position(1, 1), "running", []),  # the answer is older than the topic
    ],
)
def test_a_job_that_the_broker_has_dropped_becomes_unknown(
    requested_at: Position, status: Any, received: list[tuple[int | None, int]]
) -> None:
    last = State(status=status, attempt=1, created_at=1.0, updated_at=1.0)
    topic = live(job_event(1), Event("job", Position(1, 2), last))
    subscription = watch(topic, Position(1, 2))
    topic.apply_snapshot(None, requested_at=requested_at)
    message = subscription.next_message()
    assert (ranges_in(message) if message else []) == received


def test_shared_messages_are_limited_to_the_replay_size() -> None:
    topic = live(*(job_event(seq, size=200) for seq in range(1, 200)), job_replay_bytes=100_000)
    for seq in range(1, 199):
        watch(topic, Position(1, seq), "every").next_message()
    assert sum(message.size for message in topic._messages.values()) <= 100_000


steps = st.lists(
    st.one_of(
        st.tuples(st.just("event"), st.integers(1, 3)),  # events accepted by the broker
        st.tuples(st.just("lose"), st.integers(1, 3)),  # of which the feed lost some
        st.tuples(st.just("anew"), st.just(0)),  # the record was created again
        st.tuples(st.just("take"), st.sampled_from([0, 1, 2, 3])),
    ),
    max_size=60,
)


@given(steps, st.integers(100, 2000))
def test_any_history_follows_the_clients_rule(
    history: list[tuple[str, int]], job_replay_bytes: int
) -> None:
    """The client's rule of docs/protocol.md holds for each frame, and each client that takes all
    frames has the newest state, whatever the feed has lost."""
    topic = live(job_replay_bytes=job_replay_bytes)
    subscriptions = [watch(topic, mode=mode) for mode in ("latest", "latest", "every", "every")]
    positions: list[tuple[int | None, int] | None] = [None] * 4
    epoch, seq = 1, 0

    def take(number: int) -> None:
        subscription = subscriptions[number]
        message = subscription.next_message()
        if message is None and subscription.has_new_events:
            topic.refill([job_event(seq, epoch)])  # it keeps no more than the newest
            message = subscription.next_message()
        if message is not None and message.kind == "gap":
            message = subscription.next_message()
        for frame in frames(message) if message else []:
            if not frame.get("snapshot"):
                assert positions[number] == (frame["epoch"], frame["prev"])
                assert frame["seq"] > frame["prev"]
            positions[number] = (frame["epoch"], frame["seq"])

    for what, value in history:
        if what == "event":
            for _ in range(value):
                seq += 1
                topic.append(job_event(seq, epoch))
        elif what == "lose":
            seq += value
        elif what == "anew":
            epoch, seq = epoch + 1, 0
        else:
            take(value)
    if seq:
        topic.append(job_event(seq, epoch))  # the comparison of positions repairs it
    for number in range(4):
        take(number)
        assert not subscriptions[number].has_new_events
        assert positions[number] == (topic.position if topic.latest else (None, 0))


def test_a_message_has_its_kind() -> None:
    """A node counts messages by their kind: see `counters`."""
    topic = live(*(job_event(seq, epoch=5) for seq in range(1, 6)))
    others = Position(4, 9), Position(5, 1), Position(5, 4), UNSEEN
    messages = [watch(topic, cursor).next_message() for cursor in (None, *others)]
    received = [(message.kind, message.skipped) for message in messages if message is not None]
    assert received == [("snapshot", 0), ("resync", 0), ("step", 3), ("step", 0), ("snapshot", 0)]
    every = watch(topic, Position(5, 2), "every").next_message()
    assert every is not None
    assert (every.kind, every.skipped, len(every.texts)) == ("step", 0, 3)
    assert every.event is topic.latest
    assert messages[0] is not None
    assert messages[0].event is None


def test_an_event_of_another_epoch_whose_number_follows_starts_the_replay_anew() -> None:
    """(1, 1) and (2, 2) do not follow each other, though 1 and 2 do."""
    topic = live(job_event(1), job_event(2, epoch=2))
    subscription = watch(topic, Position(1, 1), "every")
    assert subscription.next_message() is None  # the first event of epoch 2 is not known here
    topic.refill([job_event(1, epoch=2), job_event(2, epoch=2)])
    taken = frames(subscription.next_message())
    assert [(frame["epoch"], frame["seq"], frame["state"]["done"]) for frame in taken] == [
        (2, 1, 1),
        (2, 2, 2),
    ]


def test_the_size_is_counted_again_when_the_replay_restarts() -> None:
    topic = live(job_event(1, size=100), job_event(2, size=100))
    assert topic.replay_bytes > 100
    topic.append(job_event(1, epoch=2))
    assert topic.replay_bytes == 0
