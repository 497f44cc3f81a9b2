"""Every way in which a feed can have lost something is noticed; see `gateway.brokers.cursor`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from gateway.brokers.cursor import Cursor, Entry, Look, parse_look
from tests.traceparents import SPAN


def entry(number: int, *, epoch: int = 5) -> Entry:
    text = b'[%d,"a",%d,%d,{"status":"running","health":"ok","attempt":1,' % (number, epoch, number)
    return b"%d-0" % (1000 + number), [b"event", text + b'"created_at":1.0,"updated_at":1.0}]']


def at(number: int, **more: Any) -> Look:
    return evolve(Look(server=b"s", last=(1000 + number, 0), number=number), **more)


def standing(number: int) -> Cursor:
    cursor = Cursor()
    cursor.go_to_end(at(number))
    return cursor


def test_what_follows_is_no_loss() -> None:
    cursor = standing(3)
    events, wrong = cursor.take([entry(4), entry(5)])
    assert ([event.position.seq for event in events], wrong) == ([4, 5], [])
    assert (cursor.id, cursor.number, cursor.epoch) == ("1005-0", 5, 5)
    assert cursor.looked(at(5)) is None
    assert cursor.behind == 0
    assert cursor.looked(at(9)) is None
    assert cursor.behind == 4
    assert cursor.silent() == "it was cut off before it was read"
    assert (cursor.id, cursor.number) == ("1009-0", 9)
    assert cursor.silent() is None


def test_what_lies_beside_an_event_never_spoils_it() -> None:
    beside = [[b"traceparent", SPAN.encode()], [b"traceparent", b"\xff"], [b"x", b"y"], []]
    entries = []
    for number, more in enumerate(beside, start=1):
        id_, fields = entry(number)
        entries.append((id_, fields + more))
    cursor = standing(0)
    events, wrong = cursor.take(entries)
    assert [event.traceparent for event in events] == [SPAN, "\ufffd", None, None]
    assert (wrong, cursor.number) == ([], 4)


@given(st.integers(0, 20), st.sets(st.integers(0, 9)))
def test_a_hole_anywhere_is_noticed(start: int, missing: set[int]) -> None:
    cursor = standing(start)
    entries = [entry(start + 1 + i) for i in range(10) if i not in missing]
    if entries:
        events, wrong = cursor.take(entries)
        assert len(events) == len(entries)
        assert bool(wrong) == bool(missing - set(range(max(set(range(10)) - missing), 10)))
    # What is missing at the end shows when the server is looked at, and has nothing new.
    cursor.looked(at(start + 10))
    assert (cursor.silent() is not None) == (9 in missing)


def test_back_in_time_and_another_server() -> None:
    cursor = standing(5)
    assert cursor.looked(at(2)) == "it has gone back in time"
    assert (cursor.id, cursor.number) == ("1002-0", 2)
    assert cursor.looked(at(2)) is None
    assert cursor.looked(at(7, server=b"t")) == "another server answers"
    assert cursor.id == "1002-0"  # what is between is still there to be read
    assert cursor.looked(at(7, server=b"t", era=9)) == "another server answers"


def test_what_is_of_an_earlier_era_is_left_out() -> None:
    cursor = standing(0)
    cursor.looked(at(0, era=6))
    events, wrong = cursor.take([entry(1, epoch=5), entry(2, epoch=7)])
    assert ([event.position.epoch for event in events], wrong, cursor.epoch) == ([7], [], 7)


def test_what_is_unreadable_is_one_number_and_told() -> None:
    cursor = standing(0)
    events, wrong = cursor.take([entry(1), (b"1002-0", [b"event", b"?"]), entry(3)])
    assert [event.position.seq for event in events] == [1, 3]
    assert len(wrong) == 1
    assert wrong[0].startswith("entry 1002-0 is unreadable: ")


def test_a_look_is_what_the_server_says() -> None:
    info: Callable[[str], bytes] = lambda text: text.replace("\n", "\r\n").encode()  # noqa: E731 - short
    look = parse_look(
        info("# Server\nrun_id:abc\n"),
        info("# Replication\nrole:slave\nmaster_replid:def\n"),
        [b"length", 0, b"last-generated-id", b"7-2"],
        [b"12", b"abc def", b"34"],
    )
    assert look == Look(b"abc def", (7, 2), 12, b"abc def", 34, primary=False)
    empty = parse_look(b"", b"", ValueError("no such key"), [None, None, None])
    assert empty == Look(server=b" ")
