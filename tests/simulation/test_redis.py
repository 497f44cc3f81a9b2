"""The simulated Redis gives the same responses as a real one."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.brokers.redis.codec import as_arguments
from tests.brokers.redis.server import Server, script_on_test_clock, session_server
from tests.model.test_reducer import any_update
from tests.simulation.redis import Redis, Refused

KEYS = [b"feed", b"leases", b"recent", b"counters", b"last", b"log"]


@pytest.fixture(scope="module")
def server() -> Server:
    server = session_server()
    server.client = redis.Redis(unix_socket_path=str(server.socket), protocol=2, socket_timeout=60)
    return server


def real_response(client: Any, command: list[Any]) -> Any:
    """Returns the response of a server; for an error, its code."""
    connection = client.connection_pool.get_connection()
    try:
        connection.send_command(*command)
        return plainly(connection.read_response())
    except redis.ResponseError as error:
        return type(error).__name__
    finally:
        client.connection_pool.release(connection)


def simulated_response(simulation: Redis, command: list[Any]) -> Any:
    try:
        return plainly(simulation.execute(*command))
    except Refused:
        return "ResponseError"


def plainly(answer: Any) -> Any:
    if isinstance(answer, list):
        return [plainly(item) for item in answer]
    return bytes(answer) if isinstance(answer, bytes) else answer


names = st.sampled_from([b"a", b"b", b"c"])
values = st.sampled_from([b"1", b"2", b"x", b""])
scores = st.sampled_from([b"1", b"2.5", b"-3", b"1e3"])
hash_commands = st.one_of(
    st.tuples(st.just(b"HSET"), st.just(b"h"), names, values),
    st.tuples(st.just(b"HGET"), st.just(b"h"), names),
    st.tuples(st.just(b"HMGET"), st.just(b"h"), names, names),
    st.tuples(st.just(b"HDEL"), st.just(b"h"), names, names),
    st.tuples(st.just(b"HGETALL"), st.just(b"h")),
    st.tuples(st.just(b"HLEN"), st.just(b"h")),
)
sorted_commands = st.one_of(
    st.tuples(st.just(b"ZADD"), st.just(b"z"), scores, names),
    st.tuples(st.just(b"ZADD"), st.just(b"y"), scores, names),
    st.tuples(st.just(b"ZADD"), st.just(b"z"), st.just(b"+inf"), names),
    st.tuples(st.just(b"ZUNIONSTORE"), st.just(b"z"), st.just(b"1"), st.just(b"z"),
              st.just(b"WEIGHTS"), st.just(b"0")),
    st.tuples(st.just(b"ZUNIONSTORE"), st.just(b"z"), st.just(b"2"), st.just(b"z"), st.just(b"y"),
              st.just(b"WEIGHTS"), st.just(b"1"), st.just(b"0"), st.just(b"AGGREGATE"),
              st.just(b"MAX")),
    st.tuples(st.just(b"ZREM"), st.just(b"z"), names),
    st.tuples(st.just(b"ZSCORE"), st.just(b"z"), names),
    st.tuples(st.just(b"ZCARD"), st.just(b"z")),
    st.tuples(st.just(b"ZRANGEBYSCORE"), st.just(b"z"), st.just(b"-inf"), scores),
    st.tuples(st.just(b"ZREVRANGEBYSCORE"), st.just(b"z"), st.just(b"+inf"),
              scores.map(lambda s: b"(" + s), st.just(b"WITHSCORES")),
    st.tuples(st.just(b"ZRANGEBYSCORE"), st.just(b"z"), st.just(b"-inf"), st.just(b"+inf"),
              st.just(b"LIMIT"), st.just(b"1"), st.just(b"2")),
)  # fmt: skip
places = st.sampled_from([b"1-0", b"2-0", b"2-1", b"5-0"])
stream_commands = st.one_of(
    st.tuples(st.just(b"XADD"), st.just(b"s"), places, names, values),
    st.tuples(st.just(b"XRANGE"), st.just(b"s"), st.just(b"-"), places),
    st.tuples(st.just(b"XREVRANGE"), st.just(b"s"), st.just(b"+"), st.just(b"-"),
              st.just(b"COUNT"), st.just(b"2")),
    st.tuples(st.just(b"XREAD"), st.just(b"COUNT"), st.just(b"2"), st.just(b"STREAMS"),
              st.just(b"s"), places),
    st.tuples(st.just(b"XLEN"), st.just(b"s")),
    st.tuples(st.just(b"XTRIM"), st.just(b"s"), st.just(b"MAXLEN"), st.just(b"="), st.just(b"1")),
)  # fmt: skip
other_commands = st.one_of(
    st.tuples(st.just(b"DEL"), st.sampled_from([b"h", b"z", b"s", b"t"])),
    st.tuples(st.just(b"TYPE"), st.sampled_from([b"h", b"z", b"s", b"t"])),
    st.tuples(st.just(b"SET"), st.just(b"t"), values),
    st.tuples(st.just(b"GET"), st.sampled_from([b"t", b"h"])),
    st.tuples(st.just(b"HGET"), st.just(b"z"), names),
    st.tuples(st.just(b"EXISTS"), st.just(b"t"), st.just(b"s")),
)


@given(st.lists(st.one_of(hash_commands, sorted_commands, stream_commands, other_commands)))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_commands_have_the_same_responses(
    server: Server, commands: list[tuple[bytes, ...]]
) -> None:
    server.client.flushall()
    simulation = Redis(lambda: 1_000.0, run_id="a" * 40)
    for command in commands:
        expected, response = (
            real_response(server.client, [*command]),
            simulated_response(simulation, [*command]),
        )
        if command[0] == b"HGETALL":  # a hash has no order
            expected = sorted(zip(expected[::2], expected[1::2], strict=True))
            response = sorted(zip(response[::2], response[1::2], strict=True))
        assert response == expected, command


updates = st.lists(st.tuples(any_update, st.floats(0, 20)), min_size=1, max_size=20)


@given(updates)
@settings(
    deadline=None,
    max_examples=50,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_scripts_have_the_same_effects(server: Server, history: list[tuple[Any, float]]) -> None:
    server.client.flushall()
    simulation = Redis(lambda: 1_000.0, run_id="a" * 40)
    publish, expire = script_on_test_clock("publish"), script_on_test_clock("expire_leases")
    now = 1_000_000.0
    for update, seconds in history:
        now += seconds
        commands: list[list[Any]] = [
            [b"SET", b"feed:clock", repr(now)],
            [b"EVAL", expire, 6, *KEYS, 9, 9, 10**9, 100, "a"],
            [b"EVAL", publish, 6, *KEYS, 9, 9, 10**9, "a", *as_arguments(update)],
            [b"XREVRANGE", b"log", b"+", b"-"],
        ]
        for command in commands:
            assert simulated_response(simulation, command) == real_response(server.client, command)
        scores = [b"ZRANGEBYSCORE", b"leases", b"-inf", b"+inf", b"WITHSCORES"]
        rows = simulated_response(simulation, scores), real_response(server.client, scores)
        assert rows[0][::2] == rows[1][::2]
        assert [*map(float, rows[0][1::2])] == [*map(float, rows[1][1::2])]
        fields = [
            real_response(server.client, [b"HGETALL", b"last"]),
            simulated_response(simulation, [b"HGETALL", "last"]),
        ]
        one, other = (sorted(zip(f[::2], f[1::2], strict=True)) for f in fields)
        assert one == other
