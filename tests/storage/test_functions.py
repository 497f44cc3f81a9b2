"""`FCALL progress …`, as somebody with redis-cli uses it."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gateway.auth.patterns import EVERY_JOB
from gateway.brokers.redis import RedisBroker
from gateway.brokers.stored import decode
from gateway.errors import InvalidInput
from gateway.job import UNSEEN
from gateway.protocol import parse_update
from gateway.storage.scripts import FUNCTIONS
from tests.brokers.server import Server, session_server
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


async def test_plain_fields_are_a_complete_update(server: Server) -> None:
    broker = RedisBroker(server.url)
    async with broker.feed():  # which offers the functions
        told = fcall(server, "video:1", "done", 37, "total", "1.2e3", "message", "encoding é")
        assert (told["seq"], told["attempt"], told["applied"], told["reason"]) == (1, 1, 1, "")
        again = fcall(server, "video:1", "done", "37")
        assert (again["applied"], again["reason"]) == (0, "unchanged")
        fcall(server, "video:1", "clear", "message", "data", '{"a": [1.5, "x\\"y", null]}')
        fcall(server, "video:1", "status", "succeeded")
        (first, *_, last) = await broker.history("video:1", after=UNSEEN)
        assert (first.state.message, first.state.percent) == ("encoding é", 3.08)
        assert (last.state.message, last.state.status) == (None, "succeeded")
        page = await broker.recent(EVERY_JOB, limit=9, after=None)
        assert [event.job for event in page.events] == ["video:1"]
    broker.close()


@pytest.mark.parametrize(
    ("args", "named"),
    [
        ((), "job must"),
        (("",), "job must"),
        (("a b",), "job must"),
        (("!canary",), "job must"),
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
        (("a", "lease", "0.5"), "lease must"),
        (("a", "status", "done"), "status must be queued"),
        (("a", "start", "yes"), "start must be 1"),
        (("a", "run", ""), "run must"),
        (("a", "run", "r" * 65), "run must"),
        (("a", "unit", "é" * 33), "unit must be UTF-8 of at most 32"),
        (("a", "message", b"\xff"), "message must be UTF-8"),
        (("a", "message", b"\xed\xa0\x80"), "message must be UTF-8"),
        (("a", "message", b"\xc0\x80"), "message must be UTF-8"),
        (("a", "parent", "no job"), "parent must be a job id"),
        (("a", "clear", "status"), "status cannot be cleared"),
        *((("a", "traceparent", text), "traceparent must be a traceparent") for text in MALFORMED),
        (("a", "clear", "traceparent"), "traceparent cannot be cleared"),
        (("a", "data", "{"), "data must be JSON"),
        (("a", "data", "1] ,[2"), "data must be JSON"),
        (("a", "data", "[1,\n2]"), "data must be JSON"),
        (("a", "data", "[01]"), "data must be JSON"),
        (("a", "data", '"' + "x" * 8191 + '"'), "data must be JSON"),
    ],
)
def test_what_is_wrong_is_named_and_changes_nothing(
    server: Server, args: tuple[object, ...], named: str
) -> None:
    server.client.delete("progress:feed")
    with pytest.raises(redis.ResponseError, match=f"INVALID .*{named}"):
        fcall(server, *args)
    assert server.client.exists("progress:feed") == 0


def test_a_traceparent_goes_into_the_feed(server: Server) -> None:
    server.client.delete("progress:feed")
    fcall(server, "traced", "percent", 5, "traceparent", SPAN)
    ((_, fields),) = server.client.xrange("progress:feed")
    assert fields[b"traceparent"] == SPAN.encode()


def test_without_a_prefix(server: Server) -> None:
    with pytest.raises(redis.ResponseError, match="prefix"):
        server.client.fcall("progress", 0, "a")


texts = st.text(max_size=10) | st.binary(max_size=6)
numbers = st.sampled_from(["1", "-0", "1.", ".5", "1e3", "1e400", "+1", "007", "1 ", "Infinity"])
jsons = st.sampled_from(
    ['"\\u00e9"', '"\\x"', "nul", "truefalse", "[1,]", "{'a':1}", "-", "1-1", "[1 2]", "--1", "1e"]
)


@given(
    st.sampled_from(["percent", "done", "lease", "message", "unit", "data", "parent"]),
    texts | numbers | jsons,
)
@example("data", '"\\ud800"')
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_it_takes_every_reader_can_read(
    server: Server, field: str, value: str | bytes
) -> None:
    """However odd the value is: it is refused, or the event in the feed is whole."""
    server.client.flushall()
    raw = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
    try:
        fcall(server, "a", field, raw)
    except redis.ResponseError as error:
        assert f"INVALID {field}" in str(error)  # noqa: PT017 - a refusal is one of two answers
        return
    ((_, fields),) = server.client.xrange("progress:feed")
    _, event = decode(fields[b"event"])
    state = getattr(event.state, field)
    if field in ("message", "unit", "parent"):
        assert state == raw.decode()
    if field == "data":
        assert b"\n" not in bytes(state)
        try:
            parse_update(b'{"data":' + raw + b"}")
        except InvalidInput as error:
            raise AssertionError(f"HTTP refuses it: {error}") from None
