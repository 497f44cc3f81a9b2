"""Which connection a call uses, and whether the connection is used again: with scripted links,
without a server."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from redis.exceptions import MovedError, ResponseError
from trio.testing import MockClock

from gateway.brokers.redis.calls import Calls, WrongServer
from gateway.brokers.redis.keys import Shard
from gateway.brokers.redis.links import Command
from gateway.brokers.redis.scripts import PUBLISH

from .scripted import ScriptedConnector, ScriptedLink

SHARD = Shard("progress")


def pong(command: Command) -> Any:
    return b"7" if command[0] == "HGET" else b"PONG"


class Opened:
    """Calls with these links."""

    def __init__(self, *links: ScriptedLink) -> None:
        self.connector = ScriptedConnector(list(links))
        self.suspected: list[Shard] = []
        self.calls = Calls(
            self.connector, SHARD, trio.CapacityLimiter(9), on_wrong_server=self.suspected.append
        )

    async def ping(self) -> tuple[int, Any]:
        return await self.calls.read([("PING",)], lambda answers: answers)

    @property
    def connections(self) -> int:
        return len(self.connector.connected_at)


async def test_a_connection_is_kept_for_the_next_call() -> None:
    setup = Opened(ScriptedLink(pong))
    for _ in range(3):
        assert await setup.ping() == (7, [b"PONG"])
    assert setup.connections == 1


async def test_a_connection_that_has_ended_is_not_used_again() -> None:
    first_link = ScriptedLink(pong)
    setup = Opened(first_link, ScriptedLink(pong))
    await setup.ping()
    first_link.close()
    assert await setup.ping() == (7, [b"PONG"])
    assert setup.connections == 2


async def test_an_idle_connection_to_another_server_is_closed() -> None:
    other_link, right = ScriptedLink(pong, b"other"), ScriptedLink(pong, b"right")
    setup = Opened(other_link, right)
    await setup.ping()
    setup.calls.allow(b"right", 7)
    await setup.ping()
    assert (other_link.closed, right.closed, setup.suspected) == (True, False, [])


async def test_a_new_connection_to_another_server_is_closed_and_reported() -> None:
    other_link = ScriptedLink(pong, b"other")
    setup = Opened(other_link)
    setup.calls.allow(b"right", 7)
    with pytest.raises(WrongServer):
        await setup.ping()
    assert (other_link.closed, setup.suspected) == (True, [SHARD])


async def test_an_answer_of_another_generation_is_discarded_and_reported() -> None:
    link = ScriptedLink(pong)
    setup = Opened(link)
    setup.calls.allow(b"one", 6)
    with pytest.raises(WrongServer):
        await setup.ping()
    assert (link.closed, setup.suspected) == (True, [SHARD])


@pytest.mark.parametrize("many", [False, True])
async def test_a_script_that_was_called_for_another_generation_is_reported(many: bool) -> None:
    link = ScriptedLink(lambda command: ResponseError("GENERATION 8"))
    setup = Opened(link)
    setup.calls.allow(b"one", 7)
    calls = setup.calls
    running = calls.run_many(PUBLISH, [("a", ["x"])]) if many else calls.run(PUBLISH, ["a"], "x")
    with pytest.raises(WrongServer):
        await running
    assert (link.closed, setup.suspected) == (True, [SHARD])


async def test_a_script_is_called_with_the_generation_that_the_feed_uses() -> None:
    commands: list[Command] = []
    setup = Opened(ScriptedLink(commands.append))
    await setup.calls.run(PUBLISH, ["a"], "x")
    setup.calls.allow(b"one", 7)
    await setup.calls.run(PUBLISH, ["a"], "x")
    await setup.calls.run_many(PUBLISH, [("a", ["x"])])
    assert [list(command[-2:]) for command in commands] == [["", "x"], [7, "x"], [7, "x"]]


async def test_while_the_feed_is_repaired_no_call_is_made() -> None:
    setup = Opened(ScriptedLink(pong))
    calls, results = setup.calls, []
    calls.refuse_all(unless=(b"one", 7))
    results.append(calls.ready)
    with pytest.raises(WrongServer):
        await setup.ping()
    assert setup.connections == 0
    calls.allow(b"one", 7)
    calls.refuse_all(unless=(b"one", 7))  # another feed of the process has found the same
    results.append(calls.ready)
    await setup.ping()
    calls.refuse_all(unless=(b"one", 8))
    results.append(calls.ready)
    calls.allow_any_server()
    results.append(calls.ready)
    await setup.ping()
    assert results == [False, True, False, True]


async def test_an_answer_is_discarded_if_the_feed_has_left_the_server_meanwhile(
    autojump_clock: MockClock,
) -> None:
    setup = Opened(ScriptedLink(pong, takes=2.0))
    setup.calls.allow(b"one", 7)

    async def leave() -> None:
        await trio.sleep(1)
        setup.calls.refuse_all(unless=(b"two", 8))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(leave)
        with pytest.raises(WrongServer):
            await setup.ping()


async def test_an_answer_counts_if_the_first_feed_was_opened_meanwhile(
    autojump_clock: MockClock,
) -> None:
    setup = Opened(ScriptedLink(pong, takes=2.0))

    async def follow() -> None:
        await trio.sleep(1)
        setup.calls.allow(b"one", 7)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow)
        assert await setup.ping() == (7, [b"PONG"])


async def test_a_server_without_a_generation_is_in_generation_0() -> None:
    opened = Opened(ScriptedLink(lambda command: None))
    assert await opened.ping() == (0, [None])


async def test_in_a_cluster_a_moved_slot_is_followed_once() -> None:
    def moved(command: Command) -> Any:
        raise MovedError("1 127.0.0.1:7001")

    first_link, second_link = ScriptedLink(pong), ScriptedLink(pong)
    setup = Opened(first_link, second_link)
    await setup.ping()
    first_link.answer = moved
    assert await setup.ping() == (7, [b"PONG"])
    assert (first_link.closed, setup.connections) == (True, 2)
    second_link.answer = moved
    setup.connector.links.append(ScriptedLink(moved))
    with pytest.raises(MovedError):
        await setup.ping()


async def test_the_idle_connections_are_closed_when_one_of_many_calls_was_moved() -> None:
    link = ScriptedLink(lambda command: MovedError("1 127.0.0.1:7001"))
    opened = Opened(link)
    (answer,) = await opened.calls.run_many(PUBLISH, [("a", [])])
    assert isinstance(answer, MovedError)
    assert link.closed


async def test_an_error_that_redis_answers_leaves_the_connection() -> None:
    link = ScriptedLink(lambda command: ResponseError("no"))
    setup = Opened(link)
    for _ in range(2):
        with pytest.raises(ResponseError):
            await setup.calls.run(PUBLISH, ["a"])
    assert (link.closed, setup.connections) == (False, 1)


async def test_one_of_many_calls_may_be_answered_with_an_error() -> None:
    refusal = ResponseError("no")
    link = ScriptedLink(lambda command: refusal if command[-1] == "x" else b"done")
    setup = Opened(link)
    assert await setup.calls.run_many(PUBLISH, [("a", ["x"]), ("b", ["y"])]) == [refusal, b"done"]
    assert (link.closed, setup.suspected) == (False, [])


async def test_a_cancelled_call_leaves_no_connection(autojump_clock: MockClock) -> None:
    """The answer of the cancelled call may arrive later, and would be taken for the answer to the
    next call."""
    link = ScriptedLink(pong, takes=2.0)
    setup = Opened(link, ScriptedLink(pong))
    with trio.move_on_after(1):
        await setup.ping()
    assert link.closed
    await setup.ping()
    assert setup.connections == 2
