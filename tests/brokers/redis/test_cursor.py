"""Every loss of feed events is detected: see `gateway.brokers.redis.cursor`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from gateway.brokers.redis.cursor import (
    Cursor,
    Entry,
    FeedState,
    is_primary,
    parse_feed_state,
    server_identity,
)
from tests.traceparents import SPAN


def entry(number: int, *, epoch: int = 5) -> Entry:
    text = b'[%d,"a",%d,%d,{"status":"running","health":"ok","attempt":1,' % (number, epoch, number)
    return b"%d-0" % (1000 + number), [b"event", text + b'"created_at":1.0,"updated_at":1.0}]']


def at(number: int, **more: Any) -> FeedState:
    return evolve(FeedState(server=b"s", last=(1000 + number, 0), number=number), **more)


def standing(number: int) -> Cursor:
    cursor = Cursor()
    cursor.skip_to_end(at(number))
    return cursor


def test_consecutive_events_are_no_loss() -> None:
    cursor = standing(3)
    events, problems = cursor.advance([entry(4), entry(5)])
    assert ([event.position.seq for event in events], problems) == ([4, 5], [])
    assert (cursor.id, cursor.number, cursor.epoch) == ("1005-0", 5, 5)
    assert cursor.check_feed(at(5)) is None
    assert cursor.lag == 0
    assert cursor.check_feed(at(9)) is None
    assert cursor.lag == 4
    assert cursor.check_no_entries() == "entries were trimmed before they were read"
    assert (cursor.id, cursor.number) == ("1009-0", 9)
    assert cursor.check_no_entries() is None


def test_other_fields_of_an_entry_do_not_affect_the_event() -> None:
    beside = [[b"traceparent", SPAN.encode()], [b"traceparent", b"\xff"], [b"x", b"y"], []]
    entries = []
    for number, more in enumerate(beside, start=1):
        id_, fields = entry(number)
        entries.append((id_, fields + more))
    cursor = standing(0)
    events, problems = cursor.advance(entries)
    assert [event.traceparent for event in events] == [SPAN, "\ufffd", None, None]
    assert (problems, cursor.number) == ([], 4)


@given(st.integers(0, 20), st.sets(st.integers(0, 9)))
def test_missing_events_anywhere_are_detected(start: int, missing: set[int]) -> None:
    cursor = standing(start)
    entries = [entry(start + 1 + i) for i in range(10) if i not in missing]
    if entries:
        events, problems = cursor.advance(entries)
        assert len(events) == len(entries)
        assert bool(problems) == bool(missing - set(range(max(set(range(10)) - missing), 10)))
    # Events that are missing at the end are detected when the feed is checked and has no new
    # events.
    cursor.check_feed(at(start + 10))
    assert (cursor.check_no_entries() is not None) == (9 in missing)


def test_a_rollback_and_another_server_are_detected() -> None:
    cursor = standing(5)
    assert cursor.check_feed(at(2)) == "the feed went back in time"
    assert (cursor.id, cursor.number) == ("1002-0", 2)
    assert cursor.check_feed(at(2)) is None
    assert (
        cursor.check_feed(at(7, server=b"t"))
        == "another Redis server answers, which may lack events"
    )
    assert cursor.id == "1007-0"  # the events between them only restored lost states
    assert (
        cursor.check_feed(at(7, server=b"t", generation=9))
        == "another Redis server answers, which may lack events"
    )


def test_events_of_an_earlier_generation_are_left_out() -> None:
    cursor = standing(0)
    cursor.check_feed(at(0, generation=6))
    events, problems = cursor.advance([entry(1, epoch=5), entry(2, epoch=7)])
    assert ([event.position.epoch for event in events], problems, cursor.epoch) == ([7], [], 7)


def test_an_unreadable_entry_counts_as_one_event_and_is_reported() -> None:
    cursor = standing(0)
    events, problems = cursor.advance([entry(1), (b"1002-0", [b"event", b"?"]), entry(3)])
    assert [event.position.seq for event in events] == [1, 3]
    assert len(problems) == 1
    assert problems[0].startswith("entry 1002-0 is unreadable: ")


def test_the_feed_state_is_parsed_from_the_servers_answers() -> None:
    feed = parse_feed_state(b"abc def", 34, [b"length", 0, b"last-generated-id", b"7-2"], b"12")
    assert feed == FeedState(b"abc def", (7, 2), 12, 34)
    assert parse_feed_state(b"s", 0, ValueError("no such key"), None) == FeedState(server=b"s")


def test_the_identity_has_the_process_and_the_replication_id() -> None:
    info: Callable[[str], bytes] = lambda text: text.replace("\n", "\r\n").encode()  # noqa: E731 - short
    server = info("# Server\nrun_id:abc\n")
    replication = info("# Replication\nrole:slave\nmaster_replid:def\n")
    assert server_identity(server, replication) == b"abc def"
    assert server_identity(b"", b"") == b" "
    assert (is_primary(replication), is_primary(b"")) == (False, True)
