"""The fold in Lua, on a real server, against the one in Python: the same, to the letter."""

from __future__ import annotations

import os
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import UNSET, Raw

from gateway.brokers.stored import decode, plain, snapshot
from gateway.fold import fold, lapse, lapses_at
from gateway.job import Record, Update
from gateway.pace import Pace
from tests.brokers.server import Server, on_test_clock, session_server
from tests.test_fold import any_update, texts, ticks
from tests.traceparents import OTHER, SPAN

EXAMPLES = int(os.environ.get("FOLD_EXAMPLES", "1000"))
FOR_EVER = 10**9  # seconds of retention: forgetting is not what is tested here
KEYS = ["feed", "leases", "recent", "counters", "last", "log"]

whole_updates = st.builds(
    msgspec.structs.replace,
    any_update,
    unit=st.just(UNSET) | texts,
    error=st.just(UNSET) | texts,
    parent=st.just(UNSET) | st.sampled_from([None, "p", "q/1"]),
    data=st.just(UNSET) | st.sampled_from([Raw(b"null"), Raw(b'[2.50,"\xc3\xa9"]'), Raw(b"0")]),
    traceparent=st.sampled_from([None, SPAN, OTHER]),
)
REAP = None
"""In place of an update: a reaper comes by."""
histories = st.lists(st.tuples(whole_updates | st.just(REAP), ticks), min_size=1, max_size=30)


@pytest.fixture(scope="module")
def server() -> Server:
    return session_server()


def in_lua(server: Server, history: list[tuple[Update | None, float]]) -> list[list[Any]]:
    """What the scripts answer to each step, with the hash and the last entries of log and feed."""
    client = server.client
    publish = client.script_load(on_test_clock("publish"))
    reap = client.script_load(on_test_clock("reap"))
    now = 1_000_000.0
    with client.pipeline(transaction=False) as pipeline:
        pipeline.delete(*KEYS)
        for update, tick in history:
            now += tick
            pipeline.set("feed:clock", repr(now))
            if update is None:
                pipeline.evalsha(reap, 6, *KEYS, 9, 9, FOR_EVER, 100, "a")
            else:
                pipeline.evalsha(publish, 6, *KEYS, 9, 9, FOR_EVER, "a", *plain(update))
            pipeline.hgetall("last")
            pipeline.xrevrange("log", "+", "-", 1)
            pipeline.xrevrange("feed", "+", "-", 1)
        answers = pipeline.execute()[1:]
    return [answers[i + 1 : i + 5] for i in range(0, len(answers), 5)]


def letters(record: Record) -> tuple[object, ...]:
    """All that is in a record, so that 1 is not 1.0."""
    return record.position, msgspec.json.encode(record.state), record.run, repr(record.pace)


def stored(fields: dict[bytes, bytes]) -> Record:
    event = snapshot("a", fields)
    pace = None
    if b"pace" in fields:
        since, at, percent, rate = fields[b"pace"].split()
        pace = Pace(float(since), float(at), msgspec.json.decode(percent), float(rate))
    run = fields.get(b"run")
    return Record(event.position, event.state, run=run.decode() if run else None, pace=pace)


@given(histories)
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_lua_and_python_give_the_same_records(
    server: Server, history: list[tuple[Update | None, float]]
) -> None:
    record: Record | None = None
    heard_at = 0.0
    now = 1_000_000.0
    traceparent: str | None = None
    for (update, tick), (answer, fields, entries, feed) in zip(
        history, in_lua(server, history), strict=True
    ):
        now += tick
        if update is None:
            at = lapses_at(record.state, heard_at=heard_at) if record else None
            due = at is not None and at <= round(now, 3)
            assert answer == due
            if due:
                assert record is not None
                record, traceparent = lapse(record), None
        else:
            epoch = record.position.epoch if record else answer[0]
            folded = fold(record, update, now=now, epoch=epoch)
            record = folded.record
            state = record.state
            expected = [*record.position, state.attempt, (folded.reason or "").encode()]
            assert answer == expected
            if folded.applied:
                traceparent = update.traceparent
            if folded.renews:
                heard_at = round(now, 3)
        if record is None:
            assert (fields, entries, feed) == ({}, [], [])
            continue
        assert letters(stored(fields)) == letters(record)
        # The span of who reported it is in the feed, and nowhere else.
        assert b"traceparent" not in fields
        traced = {} if traceparent is None else {b"traceparent": traceparent.encode()}
        assert feed[0][1] == entries[0][1] | traced
        assert entries[0][1].keys() == {b"event"}
        _, event = decode(entries[0][1][b"event"])
        assert event.position == record.position
        assert msgspec.json.encode(event.state) == msgspec.json.encode(record.state)
