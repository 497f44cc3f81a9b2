"""`FCALL progress …`, as used with redis-cli."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
import redis
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from msgspec import UNSET

from gateway.brokers.redis.broker import RedisBroker
from gateway.brokers.redis.codec import decode
from gateway.brokers.redis.scripts import FUNCTIONS
from gateway.model.constants import MAX_NUMBER
from gateway.model.errors import InvalidInput
from gateway.model.patterns import EVERY_JOB
from gateway.model.reducer import reduce
from gateway.model.state import UNSEEN
from gateway.protocol.commands import parse_update
from tests.brokers.redis.server import Server, session_server
from tests.traceparents import MALFORMED, SPAN


@pytest.fixture(scope="module")
def server() -> Server:
    server = session_server()
    server.client.function_load(FUNCTIONS, replace=True)
    return server


def fcall(server: Server, *args: object) -> dict[str, Any]:
    answer = server.client.fcall("progress", 1, "progress", *args)
    return {
        name.decode(): value.decode() if isinstance(value, bytes) else value
        for name, value in zip(answer[::2], answer[1::2], strict=True)
    }


async def test_plain_arguments_form_a_complete_update(server: Server) -> None:
    broker = RedisBroker(server.url)
    async with broker.feed():  # which offers the functions
        result = fcall(server, "video:1", "done", 37, "total", "1.2e3", "message", "encoding é")
        assert (result["seq"], result["attempt"], result["applied"], result["reason"]) == (
            1,
            1,
            1,
            "",
        )
        again = fcall(server, "video:1", "done", "37")
        assert (again["applied"], again["reason"]) == (0, "unchanged")
        fcall(server, "video:1", "clear", "message", "data", '{"a": [1.5, "x\\"y", null]}')
        fcall(server, "video:1", "status", "succeeded")
        (first_event, *_, last_event) = await broker.history("video:1", after=UNSEEN)
        assert (first_event.state.message, first_event.state.percent) == ("encoding é", 3.08)
        assert (last_event.state.message, last_event.state.status) == (None, "succeeded")
        page = await broker.recent(EVERY_JOB, limit=9, after=None)
        assert [event.job for event in page.events] == ["video:1"]
    broker.close()


@pytest.mark.parametrize(
    ("args", "named"),
    [
        ((), "job must"),
        (("",), "job must"),
        (("a b",), "job must"),
        (("!probe",), "job must"),
        (("a" * 201,), "job must"),
        (("a", "colour", "red"), "no field colour"),
        (("a", "percent"), "percent has no value"),
        (("a", "percent", "101"), "percent must be a number from 0 to 100"),
        (("a", "percent", "nan"), "percent must"),
        (("a", "percent", "0x10"), "percent must"),
        (("a", "percent", ""), "percent must"),
        (("a", "done", "-1"), "done must"),
        (("a", "attempt", "0"), "attempt must be a whole number from 1"),
        (("a", "attempt", "1.5"), "attempt must"),
        (("a", "age", "-1"), "age must be a number from 0 to 315360000"),
        (("a", "clear", "age"), "age cannot be cleared"),
        (("a", "lease", "0.5"), "lease must"),
        (("a", "status", "done"), "status must be one of queued"),
        (("a", "start", "yes"), "start must be 1"),
        (("a", "run", ""), "run must"),
        (("a", "run", "r" * 65), "run must"),
        (("a", "unit", "é" * 33), "unit must be UTF-8 of at most 32"),
        (("a", "message", b"\xff"), "message must be UTF-8"),
        (("a", "message", b"\xed\xa0\x80"), "message must be UTF-8"),
        (("a", "message", b"\xc0\x80"), "message must be UTF-8"),
        (("a", "children", "-1"), "children must be a number from 0 to 100000000"),
        (("a", "weight", "0"), "weight must be a number from 0.001 to 1000"),
        (("a", "clear", "status"), "status cannot be cleared"),
        *((("a", "traceparent", text), "traceparent must be a traceparent") for text in MALFORMED),
        (("a", "clear", "traceparent"), "traceparent cannot be cleared"),
        (("a", "data", "{"), "data must be JSON"),
        (("a", "data", "1] ,[2"), "data must be JSON"),
        (("a", "data", '["a\nb"]'), "data must be JSON"),
        (("a", "data", '["a'), "data must be JSON"),
        (("a", "data", '["a\\'), "data must be JSON"),
        (("a", "data", "[" * 65 + "]" * 65), "data must be JSON of at most 64 nested"),
        (("a", "data", '{"a":' * 999 + "1" + "}" * 999), "data must be JSON of at most 64 nested"),
        (("a", "data", "[01]"), "data must be JSON"),
        (("a", "data", '"' + "x" * 8191 + '"'), "data must be JSON"),
    ],
)
def test_an_invalid_argument_is_named_and_changes_nothing(
    server: Server, args: tuple[object, ...], named: str
) -> None:
    server.client.delete("progress:feed")
    with pytest.raises(redis.ResponseError, match=f"INVALID .*{named}"):
        fcall(server, *args)
    assert server.client.exists("progress:feed") == 0


def test_rejections_have_a_reason_with_advice(server: Server) -> None:
    unknown = fcall(server, "hint:1", "run", "r1")
    assert (unknown["reason"], unknown["epoch"], unknown["seq"]) == ("unknown", 0, 0)
    assert "`start 1`" in unknown["detail"]
    assert "detail" not in fcall(server, "hint:1", "start", 1, "run", "r1", "age", "7.5")
    started, created = server.client.hmget("progress:last:hint:1", "started_at", "created_at")
    updated = server.client.hget("progress:last:hint:1", "updated_at")
    assert started == created == b"%.3f" % (float(updated) - 7.5)
    assert fcall(server, "hint:1", "run", "r2", "done", 1)["reason"] == "other_run"
    fcall(server, "hint:1", "run", "r1", "status", "failed")
    result = fcall(server, "hint:1", "run", "r1", "done", 1)
    assert (result["reason"], "`start 1` opens its next attempt" in result["detail"]) == (
        "final",
        True,
    )


def test_a_traceparent_goes_into_the_feed(server: Server) -> None:
    server.client.delete("progress:feed")
    fcall(server, "traced", "percent", 5, "traceparent", SPAN)
    ((_, fields),) = server.client.xrange("progress:feed")
    assert fields[b"traceparent"] == SPAN.encode()


def test_the_function_works_without_a_prefix(server: Server) -> None:
    with pytest.raises(redis.ResponseError, match="prefix"):
        server.client.fcall("progress", 0, "a")


texts = st.text(max_size=10) | st.binary(max_size=6)
numbers = st.sampled_from(["1", "-0", "1.", ".5", "1e3", "1e400", "+1", "007", "1 ", "Infinity"])
jsons = st.sampled_from(
    ['"\\u00e9"', '"\\x"', "nul", "truefalse", "[1,]", "{'a':1}", "-", "1-1", "[1 2]", "--1", "1e"]
)


@given(
    st.sampled_from(["percent", "done", "lease", "message", "unit", "data", "weight", "children"]),
    texts | numbers | jsons,
)
@example("data", '"\\ud800"')
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_accepted_update_can_be_read(server: Server, field: str, value: str | bytes) -> None:
    """Any value is either refused, or the event in the feed is complete."""
    server.client.flushall()
    raw = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
    try:
        fcall(server, "a", field, raw)
    except redis.ResponseError as error:
        assert f"INVALID {field}" in str(error)  # noqa: PT017 - a refusal is one of two valid results
        return
    ((_, fields),) = server.client.xrange("progress:feed")
    _, event = decode(fields[b"event"])
    state = getattr(event.state, field)
    if field in ("message", "unit"):
        assert state == raw.decode()
    if field == "data" and state is not UNSET:  # null clears it
        assert b"\n" not in bytes(state)
        try:
            parse_update(b'{"data":' + raw + b"}")
        except InvalidInput as error:
            raise AssertionError(f"HTTP refuses it: {error}") from None


counts = (
    st.integers()
    | st.integers(-2, 200)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([-0.0, 0, 1, 100, 100.5, MAX_NUMBER, MAX_NUMBER + 1, 5e-324, 1e15 + 0.5])
)


@given(
    st.sampled_from(["percent", "done", "total", "lease", "attempt", "weight", "children", "age"]),
    counts,
)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_number_is_parsed_like_over_http(server: Server, field: str, value: float) -> None:
    """The function and the HTTP API accept a number and store the same value, or both refuse it."""
    server.client.flushall()
    text = json.dumps(value)
    try:
        update = parse_update(f'{{"message":"m","{field}":{text}}}'.encode())
    except InvalidInput:
        with pytest.raises(redis.ResponseError, match=f"INVALID {field}"):
            fcall(server, "a", "message", "m", field, text)
        return
    fcall(server, "a", "message", "m", field, text)
    ((_, fields),) = server.client.xrange("progress:feed")
    state = decode(fields[b"event"])[1].state
    expected = reduce(None, update, now=state.updated_at, epoch=1).record.state
    assert msgspec.json.encode(state) == msgspec.json.encode(expected)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("[1,\n 2]\n", b"[1,2]"),
        ('{"a" : [ 1 ,\t{ } ], "b\\" ]":\r\n"[ {"}', b'{"a":[1,{}],"b\\" ]":"[ {"}'),
        ("[" * 64 + "]" * 64, b"[" * 64 + b"]" * 64),
        ("[" * 60 + '"' + "[" * 60 + '"' + "]" * 60, None),
        ('"\\\\"', b'"\\\\"'),
        (" 7 ", b"7"),
    ],
)
def test_white_space_in_json_is_accepted_and_removed(
    server: Server, given: str, kept: bytes | None
) -> None:
    server.client.execute_command("FCALL", "progress", 1, "progress", "spaces", "data", given)
    assert server.client.hget("progress:last:spaces", "data") == (kept or given.encode())
    server.client.execute_command("FCALL", "progress", 1, "progress", "spaces", "data", " null\n")
    assert not server.client.hexists("progress:last:spaces", "data")
