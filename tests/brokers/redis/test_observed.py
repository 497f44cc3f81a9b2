"""What a node keeps to restore it: the newest event of each job, in bounded memory."""

from __future__ import annotations

from itertools import permutations

import pytest
from msgspec import Raw

from gateway.brokers.redis import observed
from gateway.brokers.redis.observed import EVENT_BYTES, Observed
from gateway.model.state import Event, Position
from tests.events import event


def large_event(job: str, seq: int, *, size: int) -> Event:
    """Returns an event with three texts of this size."""
    data = Raw(b'"%b"' % (b"d" * size))
    return event(job, seq, message="m" * size, error="e" * size, data=data)


def positions_in(events: Observed) -> dict[str, Position]:
    return {event.job: event.position for event in events.all()}


@pytest.mark.parametrize("order", list(permutations([(1, 2), (1, 9), (2, 1)])))
def test_the_newest_event_is_kept_in_any_order(order: list[tuple[int, int]]) -> None:
    """A read of the broker may be older than what the feed has brought meanwhile."""
    events = Observed()
    for epoch, seq in order:
        events.record([event("a", seq, epoch=epoch)])
    assert positions_in(events) == {"a": (2, 1)}


@pytest.mark.parametrize(
    ("recorded", "shown", "expected"),
    [(3, [2], 3), (3, [4], 4), (3, [4, 5], 5), (3, [5, 4], 5), (None, [5, 4], 5)],
)
def test_what_topics_have_shown_counts_if_it_is_newer(
    recorded: int | None, shown: list[int], expected: int
) -> None:
    events = Observed()
    if recorded is not None:
        events.record([event("a", recorded)])
    for seq in shown:
        events.sources.append([event("a", seq)].copy)
    assert [each.position.seq for each in events.all()] == [expected]


def test_events_of_nodes_themselves_are_not_restored() -> None:
    events = Observed()
    events.record([event("!probe:n", 1)])
    events.sources.append([event("!probe:n", 2)].copy)
    assert positions_in(events) == {}


def test_the_jobs_that_were_updated_longest_ago_are_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(observed, "MAX_JOBS", 2)
    events = Observed()
    events.record([event("a", 1), event("b", 1), event("a", 2), event("c", 1)])
    assert positions_in(events) == {"a": (1, 2), "c": (1, 1)}


def test_long_texts_count_with_their_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observed, "MAX_BYTES", 2 * EVENT_BYTES + 3 * 100 + 2 + 2)
    events = Observed()
    for _ in range(3):  # again and again: only the newest counts
        events.record([large_event("a", 1, size=100), event("b", 1)])
        assert list(positions_in(events)) == ["a", "b"]
    events.record([large_event("b", 2, size=1)])
    assert list(positions_in(events)) == ["b"]
