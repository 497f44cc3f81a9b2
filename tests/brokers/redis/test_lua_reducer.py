"""The reducer in Lua, on a real server, equals the one in Python exactly."""

from __future__ import annotations

import os
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import UNSET, Raw

from gateway.brokers.redis.codec import as_arguments, decode, parse_request, snapshot
from gateway.model.children import Sums
from gateway.model.eta import RateEstimator
from gateway.model.lease_times import lease_expires_at
from gateway.model.reducer import expire_lease, may_begin, reduce
from gateway.model.state import Record, Request, RequestUpdate, Update
from tests.brokers.redis.server import Server, script_on_test_clock
from tests.model.test_reducer import any_update, texts, ticks
from tests.traceparents import OTHER, SPAN

EXAMPLES = int(os.environ.get("FOLD_EXAMPLES", "1000"))
FOR_EVER = 10**9  # seconds of retention; dropped jobs are not tested here
KEYS = ["feed", "leases", "recent", "counters", "last", "log"]

whole_updates = st.builds(
    msgspec.structs.replace,
    any_update,
    unit=st.just(UNSET) | texts,
    error=st.just(UNSET) | texts,
    children=st.sampled_from([*[UNSET] * 9, None, 0, 1]),
    weight=st.sampled_from([*[UNSET] * 6, None, 1, 2.5004]),
    data=st.just(UNSET) | st.sampled_from([Raw(b"null"), Raw(b'[2.50,"\xc3\xa9"]'), Raw(b"0")]),
    traceparent=st.sampled_from([None, SPAN, OTHER]),
)
VERBS = ["cancel", "pause"]
request_strategy = st.builds(
    Request,
    id=st.sampled_from(["1", "2", "3"]),
    verb=st.sampled_from([*VERBS, "resume"]),
    args=st.just(UNSET) | st.just(Raw(b'{"a":1}')),
    by=st.none() | texts,
)
requests = st.builds(
    RequestUpdate,
    request=request_strategy,
    attempt=st.just(UNSET) | st.integers(min_value=1, max_value=3),
)
with_requests = st.builds(
    msgspec.structs.replace,
    whole_updates,
    accepts=st.just(UNSET) | st.none() | st.lists(st.sampled_from(VERBS), unique=True).map(tuple),
    ack=st.none() | st.sampled_from(["1", "2", "3"]),
    refused=st.none() | texts,
)
EXPIRE_LEASES = None
"""Used instead of an update: leases are checked."""
histories = st.lists(
    st.tuples(with_requests | requests | st.just(EXPIRE_LEASES), ticks), min_size=1, max_size=30
)


def in_lua(server: Server, history: list[tuple[Update | None, float]]) -> list[list[Any]]:
    """Returns what the scripts answer to each step, with the hash and the last entries of log and
    feed."""
    client = server.client
    publish = client.script_load(script_on_test_clock("publish"))
    reap = client.script_load(script_on_test_clock("expire_leases"))
    now = 1_000_000.0
    with client.pipeline(transaction=False) as pipeline:
        pipeline.delete(*KEYS)
        pipeline.hset("counters", mapping={"history": 9, "retention": FOR_EVER})
        for update, tick in history:
            now += tick
            pipeline.set("feed:clock", repr(now))
            if update is None:
                pipeline.evalsha(reap, 6, *KEYS, "", 100, "a")
            else:
                pipeline.evalsha(publish, 6, *KEYS, "", "a", *as_arguments(update))
            pipeline.hgetall("last")
            pipeline.xrevrange("log", "+", "-", 1)
            pipeline.xrevrange("feed", "+", "-", 1)
        answers = pipeline.execute()[2:]
    return [answers[i + 1 : i + 5] for i in range(0, len(answers), 5)]


def letters(record: Record) -> tuple[object, ...]:
    """Returns all fields of a record as text, so that 1 and 1.0 differ."""
    parts = {name: repr(count) for name, count in record.parts.items()}
    pace = repr(record.rate_estimator)
    state = msgspec.json.encode(record.state)
    counted = repr(record.counted)
    return record.position, state, record.run, pace, parts, counted, record.sums


def stored(fields: dict[bytes, bytes]) -> Record:
    event = snapshot("a", fields)
    assert event is not None
    pace = None
    if b"pace" in fields:
        since, at, percent, rate = fields[b"pace"].split()
        pace = RateEstimator(float(since), float(at), msgspec.json.decode(percent), float(rate))
    run = fields.get(b"run")
    number = msgspec.json.Decoder(int | float).decode
    return Record(
        event.position,
        event.state,
        run=run.decode() if run else None,
        rate_estimator=pace,
        parts={
            name.removeprefix(b"part:").decode(): number(count)
            for name, count in fields.items()
            if name.startswith(b"part:")
        },
        counted=number(fields.get(b"counted", b"0")),
        sums=Sums(*map(int, fields[b"sums"].split())) if b"sums" in fields else None,
    )


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
    reported_at = 0.0
    now = 1_000_000.0
    traceparent: str | None = None
    for (update, tick), (answer, fields, entries, feed) in zip(
        history, in_lua(server, history), strict=True
    ):
        now += tick
        if update is None:
            at = lease_expires_at(record.state, reported_at=reported_at) if record else None
            due = at is not None and at <= round(now, 3)
            assert answer == due
            if due:
                assert record is not None
                record, traceparent = expire_lease(record), None
        elif record is None and not may_begin(update):
            assert answer == [0, 0, 0, b"unknown", b""]
        else:
            epoch = record.position.epoch if record else answer[0]
            result = reduce(record, update, now=now, epoch=epoch)
            record = result.record
            state = record.state
            expected = [*record.position, state.attempt, (result.reason or "").encode()]
            assert answer[:4] == expected
            asked = parse_request(answer[4]) if answer[4] else None
            assert asked == (state.request if state.request and state.request.open else None)
            if result.applied:
                traceparent = update.traceparent
            if result.renews:
                reported_at = round(now, 3)
        if record is None:
            assert (fields, entries, feed) == ({}, [], [])
            continue
        assert letters(stored(fields)) == letters(record)
        # The traceparent of the report is in the feed, and nowhere else.
        assert b"traceparent" not in fields
        traced = {} if traceparent is None else {b"traceparent": traceparent.encode()}
        assert feed[0][1].keys() == {b"event", *traced}
        assert feed[0][1].items() >= traced.items()
        # A log begins with the second event.
        newest = (b"%d-0" % record.position.seq, {b"event": feed[0][1][b"event"]})
        assert entries == ([newest] if record.position.seq > 1 else [])
        _, event = decode(feed[0][1][b"event"])
        assert event.position == record.position
        assert msgspec.json.encode(event.state) == msgspec.json.encode(record.state)
