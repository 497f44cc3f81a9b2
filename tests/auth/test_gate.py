"""Passes on a mock clock: how a connection comes by its rights, keeps them, and loses them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from gateway import Limits, MemoryBroker, Node, endings
from gateway.auth.gate import Gate
from gateway.auth.keyring import Keyring
from gateway.auth.rights import LEEWAY
from gateway.endings import Ending
from gateway.job import Update
from tests.fakes import FakeSource, Sink

from .signing import NOW, SECRET, sign

quiet = trio.testing.wait_all_tasks_blocked


def wall() -> float:
    return NOW + trio.current_time()


def token(ttl: float = 1_000, *, watch: tuple[str, ...] = ("mine:*",), **more: Any) -> str:
    """Good for `ttl` seconds by our own clock, leeway included."""
    return sign({"exp": wall() + ttl - LEEWAY, "watch": watch} | more)


class Client:
    def __init__(self) -> None:
        self.source, self.sink = FakeSource(), Sink()
        self.ending: Ending | None = None
        self.ended = trio.Event()

    async def run(self, node: Node) -> None:
        self.ending = await node.serve(self.source, self.sink)
        self.ended.set()

    async def say(self, type_: str, **fields: Any) -> None:
        await self.source.say(type=type_, **fields)
        await quiet()

    def states(self, job: str) -> list[Any]:
        """What was told of a job: its percent, None where nothing is known."""
        return [
            frame["state"] and frame["state"]["percent"]
            for frame in self.sink.of("progress")
            if frame["job"] == job
        ]


class World:
    def __init__(self, nursery: trio.Nursery, limits: Limits) -> None:
        self.nursery = nursery
        self.gate = Gate(Keyring(secret=SECRET), limits=limits, clock=wall)
        self.broker = MemoryBroker(limits, clock=wall, monotonic=trio.current_time)
        self.node = Node(self.broker, limits=limits, gate=self.gate)

    async def publish(self, job: str, percent: float) -> None:
        await self.broker.publish(job, Update(percent=percent))
        await quiet()

    async def connect(self) -> Client:
        client = Client()
        self.nursery.start_soon(client.run, self.node)
        await quiet()
        return client


@pytest.fixture
def limits() -> Limits:
    return Limits()


@pytest.fixture
async def world(limits: Limits) -> AsyncIterator[World]:
    async with trio.open_nursery() as nursery:
        world = World(nursery, limits)
        await nursery.start(world.node.run)
        yield world
        nursery.cancel_scope.cancel()


async def test_with_a_token_it_watches_what_that_allows(
    autojump_clock: MockClock, world: World
) -> None:
    await world.publish("mine:1", 10)
    await world.publish("theirs:1", 20)
    client = await world.connect()
    await client.say("hello", token=token())
    await client.say("subscribe", id=1, jobs=["mine:1", "mine:2", "theirs:1", "theirs:2"])
    answer = client.sink.of("subscriptions")[0]
    assert answer["added"] == ["mine:1", "mine:2", "theirs:1", "theirs:2"]
    assert answer["denied"] == {}
    assert client.states("mine:1") == [10]
    assert client.states("mine:2") == [None]

    await world.publish("theirs:1", 30)
    await world.publish("theirs:2", 40)
    # What may not be seen looks the same whether it is there or not.
    there, not_there = (
        [
            {**frame, "job": "x"}
            for frame in client.sink.of("progress")
            if frame["job"] == f"theirs:{number}"
        ]
        for number in (1, 2)
    )
    unseen = [
        {**frame, "job": "x"} for frame in client.sink.of("progress") if frame["job"] == "mine:2"
    ]
    assert there == not_there == unseen
    assert world.node.hub.statistics().subscriptions == 2


async def test_hidden_jobs_come_and_go_like_others(autojump_clock: MockClock, world: World) -> None:
    client = await world.connect()
    await client.say("hello", token=token())
    await client.say("subscribe", id=1, jobs=["theirs:1", "theirs:1"])
    await client.say("subscribe", id=2, jobs=["theirs:1"], mode="every")
    await client.say("sync_subscriptions", id=3, jobs=["theirs:2"])
    await client.say("unsubscribe", id=4, jobs=["theirs:2", "theirs:1"])
    assert [
        (frame["added"], frame["removed"], frame["unchanged"])
        for frame in client.sink.of("subscriptions")
    ] == [
        (["theirs:1"], [], 0),
        ([], [], 1),
        (["theirs:2"], ["theirs:1"], 0),
        ([], ["theirs:2"], 0),
    ]
    assert client.states("theirs:1") == [None]


@pytest.mark.parametrize("first", ["subscribe", "sync_subscriptions", "unsubscribe"])
async def test_nothing_before_hello(autojump_clock: MockClock, world: World, first: str) -> None:
    client = await world.connect()
    await client.say(first, jobs=["mine:1"])
    assert client.ending is endings.UNAUTHORIZED
    assert [frame["type"] for frame in client.sink.frames] == ["welcome"]


async def test_hello_without_a_token_is_none(autojump_clock: MockClock, world: World) -> None:
    client = await world.connect()
    await client.say("hello", positions={})
    assert client.ending is endings.UNAUTHORIZED


async def test_hello_has_its_time(autojump_clock: MockClock, world: World) -> None:
    start = trio.current_time()
    late, in_time = await world.connect(), await world.connect()
    await trio.sleep(world.node.limits.hello_timeout - 0.5)
    await in_time.say("hello", token=token())
    await late.ended.wait()
    assert late.ending is endings.UNAUTHORIZED
    assert trio.current_time() - start == pytest.approx(world.node.limits.hello_timeout, abs=0.5)
    await trio.sleep(5)
    assert in_time.ending is None


async def test_expiry_is_told_and_then_ends_it(autojump_clock: MockClock, world: World) -> None:
    client = await world.connect()
    await client.say("hello", token=token(20))
    start = trio.current_time()
    await trio.sleep(19)
    assert client.sink.of("error") == []
    await trio.sleep(2)
    (error,) = client.sink.of("error")
    assert error["code"] == "token_expired"
    await client.say("subscribe", jobs=["mine:1"])  # it still works
    assert client.states("mine:1") == [None]
    await client.ended.wait()
    assert client.ending is client.sink.ending is endings.EXPIRED
    assert trio.current_time() - start == pytest.approx(
        20 + world.node.limits.expiry_grace, abs=0.5
    )


async def test_a_new_token_in_time_refreshes_in_place(
    autojump_clock: MockClock, world: World
) -> None:
    client = await world.connect()
    await client.say("hello", token=token(10))
    await client.say("subscribe", jobs=["mine:1"])
    for _ in range(3):
        await trio.sleep(11)
        await client.say("hello", token=token(10))
        await world.publish("mine:1", trio.current_time())
    assert client.ending is None
    assert len(client.sink.of("error")) == 3
    assert len(client.states("mine:1")) == 4


async def test_with_other_rights_jobs_appear_and_disappear(
    autojump_clock: MockClock, world: World
) -> None:
    await world.publish("a", 10)
    await world.publish("b", 20)
    client = await world.connect()
    await client.say("hello", token=token(watch=("a",)))
    await client.say("subscribe", jobs=["a", "b"])
    await client.say("hello", token=token(watch=("b",)))
    await world.publish("a", 11)
    await world.publish("b", 21)
    assert client.states("a") == [10, None]
    assert client.states("b") == [None, 20, 21]
    assert world.node.hub.statistics().subscriptions == 1


@pytest.mark.parametrize("limits", [Limits(max_topics=3)])  # with the canary's
async def test_who_has_no_room_any_more_for_what_is_hidden_is_sent_elsewhere(
    autojump_clock: MockClock, world: World
) -> None:
    client, other = await world.connect(), await world.connect()
    await client.say("hello", token=token(watch=("a",)))
    await client.say("subscribe", jobs=["a", "b", "c"])
    assert client.sink.of("subscriptions")[0]["denied"] == {"c": "too_many_jobs"}
    await other.say("hello", token=token(watch=("a",)))
    await other.say("subscribe", jobs=["a"])
    await client.say("hello", token=token(watch=()))
    assert client.ending is endings.FULL
    await other.say("subscribe", jobs=["c"])
    assert other.sink.of("subscriptions")[1]["added"] == ["c"]


async def test_a_bad_token_ends_also_who_had_a_good_one(
    autojump_clock: MockClock, world: World
) -> None:
    client = await world.connect()
    await client.say("hello", token=token())
    await client.say("hello", token="nonsense")  # noqa: S106 - of a test
    assert client.ending is endings.UNAUTHORIZED


async def test_an_expired_token_asks_for_another(autojump_clock: MockClock, world: World) -> None:
    client = await world.connect()
    await client.say("hello", token=token(-1))
    assert client.ending is endings.EXPIRED


async def test_a_revoked_token_is_out_within_a_second(
    autojump_clock: MockClock, world: World
) -> None:
    revoked, other = await world.connect(), await world.connect()
    await revoked.say("hello", token=token(jti="one"))
    await other.say("hello", token=token(jti="two"))
    start = trio.current_time()
    await world.gate.revocations.revoke({"one": wall() + 1_000})
    await revoked.ended.wait()
    assert revoked.ending is endings.REVOKED
    assert trio.current_time() - start < 1
    again = await world.connect()
    await again.say("hello", token=token(jti="one"))
    assert again.ending is endings.REVOKED
    assert other.ending is None


async def test_passes_end_with_their_connections(autojump_clock: MockClock, world: World) -> None:
    client = await world.connect()
    assert "1 passes" in repr(world.gate)
    client.source.hang_up()
    await client.ended.wait()
    assert "0 passes" in repr(world.gate)
