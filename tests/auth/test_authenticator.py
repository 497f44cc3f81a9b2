"""How connections get, keep and lose their permissions, on a mock clock."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock, wait_all_tasks_blocked

from gateway import Limits, MemoryBroker, Node
from gateway.auth.authenticator import Authenticator
from gateway.auth.key_sources import KeySources
from gateway.auth.permissions import LEEWAY
from gateway.model.errors import InvalidInput, Unauthorized
from gateway.model.state import Update
from gateway.protocol import close_codes
from gateway.protocol.close_codes import CloseCode
from tests.fakes import FakeSource, Sink, SlowSink

from .signing import NOW, SECRET, sign


def wall() -> float:
    return NOW + trio.current_time()


def token(ttl: float = 1_000, *, watch: tuple[str, ...] = ("mine:*",), **more: Any) -> str:
    """Returns a token that is valid for `ttl` seconds on the tests' clock, including the leeway."""
    return sign({"exp": wall() + ttl - LEEWAY, "watch": watch} | more)


class AuthClient:
    def __init__(self, sink: Sink | None = None) -> None:
        self.source, self.sink = FakeSource(), sink or Sink()
        self.close_code: CloseCode | None = None
        self.ended = trio.Event()

    async def run(self, node: Node) -> None:
        self.close_code = await node.serve(self.source, self.sink)
        self.ended.set()

    async def send(self, type_: str, **fields: Any) -> None:
        await self.source.send(type=type_, **fields)
        await wait_all_tasks_blocked()

    def states(self, job: str) -> list[Any]:
        """Returns the received states of a job: of each its percent, or None for an unknown job."""
        return [
            frame["state"] and frame["state"]["percent"]
            for frame in self.sink.frames_of("progress")
            if frame["job"] == job
        ]


class Harness:
    def __init__(self, nursery: trio.Nursery, limits: Limits) -> None:
        self.nursery = nursery
        self.authenticator = Authenticator(KeySources(secret=SECRET), limits=limits, clock=wall)
        self.broker = MemoryBroker(limits, clock=wall, monotonic=trio.current_time)
        self.node = Node(self.broker, limits=limits, authenticator=self.authenticator)

    async def publish(self, job: str, percent: float) -> None:
        await self.broker.publish(job, Update(percent=percent))
        await wait_all_tasks_blocked()

    async def connect(self, sink: Sink | None = None) -> AuthClient:
        client = AuthClient(sink)
        self.nursery.start_soon(client.run, self.node)
        await wait_all_tasks_blocked()
        return client


@pytest.fixture
def limits() -> Limits:
    return Limits()


@pytest.fixture
async def harness(limits: Limits) -> AsyncIterator[Harness]:
    async with trio.open_nursery() as nursery:
        harness = Harness(nursery, limits)
        await nursery.start(harness.node.run)
        yield harness
        nursery.cancel_scope.cancel()


async def test_a_refused_origin_is_logged_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages of a refused origin try again and again. The number of logged origins is limited."""
    monkeypatch.setattr("gateway.auth.authenticator.MAX_LOGGED_ORIGINS", 2)
    authenticator = Authenticator()
    reasons = []
    for name in "abac":
        headers = {"origin": f"https://{name}.example", "host": "gateway.example"}
        with pytest.raises(Unauthorized, match=f"https://{name}.example") as caught:
            await authenticator.authenticate(headers)
        reasons.append(str(caught.value))
    assert caplog.messages == [f"connection refused: {reason}" for reason in reasons[:2]]


async def test_a_token_that_has_expired_cannot_be_revoked() -> None:
    authenticator = Authenticator(KeySources(secret=SECRET), clock=lambda: NOW)
    with pytest.raises(InvalidInput, match="expired"):
        await authenticator.revoke("t", until=NOW - LEEWAY)
    await authenticator.revoke("t", until=NOW - LEEWAY + 0.5)


async def test_a_client_watches_only_the_jobs_of_its_token(
    autojump_clock: MockClock, harness: Harness
) -> None:
    await harness.publish("mine:1", 10)
    await harness.publish("theirs:1", 20)
    client = await harness.connect()
    await client.send("hello", token=token())
    await client.send("subscribe", id=1, jobs=["mine:1", "mine:2", "theirs:1", "theirs:2"])
    answer = client.sink.frames_of("subscriptions")[0]
    assert answer["added"] == ["mine:1", "mine:2", "theirs:1", "theirs:2"]
    assert answer["denied"] == {}
    assert client.states("mine:1") == [10]
    assert client.states("mine:2") == [None]

    await harness.publish("theirs:1", 30)
    await harness.publish("theirs:2", 40)
    # A job that the client may not watch looks the same whether it exists or not.
    there, not_there = (
        [
            {**frame, "job": "x"}
            for frame in client.sink.frames_of("progress")
            if frame["job"] == f"theirs:{number}"
        ]
        for number in (1, 2)
    )
    unseen = [
        {**frame, "job": "x"}
        for frame in client.sink.frames_of("progress")
        if frame["job"] == "mine:2"
    ]
    assert there == not_there == unseen
    assert harness.node.hub.statistics().subscriptions == 2


async def test_denied_jobs_look_like_unknown_ones(
    autojump_clock: MockClock, harness: Harness
) -> None:
    client = await harness.connect()
    await client.send("hello", token=token())
    await client.send("subscribe", id=1, jobs=["theirs:1", "theirs:1"])
    await client.send("subscribe", id=2, jobs=["theirs:1"], mode="every")
    await client.send("sync_subscriptions", id=3, jobs=["theirs:2"])
    await client.send("unsubscribe", id=4, jobs=["theirs:2", "theirs:1"])
    assert [
        (frame["added"], frame["removed"], frame["unchanged"])
        for frame in client.sink.frames_of("subscriptions")
    ] == [
        (["theirs:1"], [], 0),
        ([], [], 1),
        (["theirs:2"], ["theirs:1"], 0),
        ([], ["theirs:2"], 0),
    ]
    assert client.states("theirs:1") == [None]


async def test_a_change_of_permissions_keeps_the_mode_and_repeats_nothing(
    autojump_clock: MockClock, harness: Harness
) -> None:
    client = await harness.connect(SlowSink(takes=0.5))
    await client.send("hello", token=token())
    await client.send("subscribe", jobs=["theirs:1"], mode="every")
    await trio.sleep(5)
    await client.send("hello", token=token(watch=("theirs:*",)))
    await trio.sleep(5)
    for percent in (10, 20, 30, 40):  # faster than the client receives them
        await harness.publish("theirs:1", percent)
    await trio.sleep(5)
    await client.send("hello", token=token(watch=("theirs:*", "mine:*")))
    await trio.sleep(5)
    assert client.states("theirs:1") == [None, None, 10, 20, 30, 40]


@pytest.mark.parametrize("first", ["subscribe", "sync_subscriptions", "unsubscribe"])
async def test_no_command_is_accepted_before_hello(
    autojump_clock: MockClock, harness: Harness, first: str
) -> None:
    client = await harness.connect()
    await client.send(first, jobs=["mine:1"])
    assert client.close_code is close_codes.UNAUTHORIZED
    assert [frame["type"] for frame in client.sink.frames] == ["welcome"]


async def test_hello_without_a_token_is_rejected(
    autojump_clock: MockClock, harness: Harness
) -> None:
    client = await harness.connect()
    await client.send("hello", positions={})
    assert client.close_code is close_codes.UNAUTHORIZED


async def test_a_client_without_hello_is_disconnected_after_the_timeout(
    autojump_clock: MockClock, harness: Harness
) -> None:
    start = trio.current_time()
    late, in_time = await harness.connect(), await harness.connect()
    await trio.sleep(harness.node.limits.hello_timeout - 0.5)
    await in_time.send("hello", token=token())
    await late.ended.wait()
    assert late.close_code is close_codes.UNAUTHORIZED
    assert trio.current_time() - start == pytest.approx(harness.node.limits.hello_timeout, abs=0.5)
    await trio.sleep(5)
    assert in_time.close_code is None


async def test_an_expired_token_is_announced_and_then_closes_the_connection(
    autojump_clock: MockClock, harness: Harness
) -> None:
    client = await harness.connect()
    await client.send("hello", token=token(20))
    start = trio.current_time()
    await trio.sleep(19)
    assert client.sink.frames_of("error") == []
    await trio.sleep(2)
    (error,) = client.sink.frames_of("error")
    assert error["code"] == "token_expired"
    await client.send("subscribe", jobs=["mine:1"])  # the connection still works
    assert client.states("mine:1") == [None]
    await client.ended.wait()
    assert client.close_code is client.sink.close_code is close_codes.EXPIRED
    assert trio.current_time() - start == pytest.approx(
        20 + harness.node.limits.expiry_grace, abs=0.5
    )


async def test_a_new_token_in_time_keeps_the_connection(
    autojump_clock: MockClock, harness: Harness
) -> None:
    client = await harness.connect()
    await client.send("hello", token=token(10))
    await client.send("subscribe", jobs=["mine:1"])
    for _ in range(3):
        await trio.sleep(11)
        await client.send("hello", token=token(10))
        await harness.publish("mine:1", trio.current_time())
    assert client.close_code is None
    assert len(client.sink.frames_of("error")) == 3
    assert len(client.states("mine:1")) == 4


async def test_new_permissions_show_and_hide_jobs(
    autojump_clock: MockClock, harness: Harness
) -> None:
    await harness.publish("a", 10)
    await harness.publish("b", 20)
    client = await harness.connect()
    await client.send("hello", token=token(watch=("a",)))
    await client.send("subscribe", jobs=["a", "b"])
    await client.send("hello", token=token(watch=("b",)))
    await harness.publish("a", 11)
    await harness.publish("b", 21)
    assert client.states("a") == [10, None]
    assert client.states("b") == [None, 20, 21]
    assert harness.node.hub.statistics().subscriptions == 1


@pytest.mark.parametrize(
    ("fields", "limits"),
    [
        ({"max_hz": 1e6}, Limits()),
        ({"max_hz": 0}, Limits()),
        (
            {"positions": {f"a:{n}": [1, 1] for n in range(2_000)}},
            Limits(max_jobs_per_connection=1, max_sets_per_connection=1),
        ),
    ],
)
async def test_an_invalid_hello_with_a_new_token_changes_nothing(
    autojump_clock: MockClock, harness: Harness, fields: dict[str, Any]
) -> None:
    await harness.publish("a", 10)
    client = await harness.connect()
    await client.send("hello", token=token(watch=("a",)))
    await client.send("subscribe", jobs=["a"])
    await client.send("hello", token=token(watch=("b",)), **fields)
    (error,) = client.sink.frames_of("error")
    assert error["code"] == "invalid_command"
    await harness.publish("a", 11)
    assert client.states("a") == [10, 11]


@pytest.mark.parametrize("limits", [Limits(max_topics=3)])  # including the probe's topic
async def test_a_denied_job_uses_no_quota_until_it_is_allowed(
    autojump_clock: MockClock, harness: Harness
) -> None:
    client, other_client = await harness.connect(), await harness.connect()
    await client.send("hello", token=token(watch=("a",)))
    invented = [f"invented:{number}" for number in range(20)]
    await client.send("subscribe", jobs=["a", "secret", *invented])
    assert client.sink.frames_of("subscriptions")[0]["denied"] == {}
    await other_client.send("hello", token=token(watch=("a", "b", "c")))
    await other_client.send("subscribe", jobs=["a", "b", "c"])
    assert other_client.sink.frames_of("subscriptions")[0]["added"] == ["a", "b"]
    assert other_client.sink.frames_of("subscriptions")[0]["denied"] == {"c": "node_full"}
    await client.send("hello", token=token(watch=("a", "secret")))
    assert client.sink.frames_of("subscriptions")[1]["denied"] == {"secret": "node_full"}
    await harness.publish("a", percent=7)
    await wait_all_tasks_blocked()
    assert client.states("a")[-1] == 7  # the job within the quota stays watched
    await other_client.send("unsubscribe", jobs=["b"])
    await client.send("subscribe", jobs=["secret"])
    assert client.sink.frames_of("subscriptions")[2]["added"] == ["secret"]


@pytest.mark.parametrize("limits", [Limits(max_sets=1)])
async def test_a_set_without_room_after_a_change_of_permissions_is_denied_alone(
    autojump_clock: MockClock, harness: Harness
) -> None:
    client, other_client = await harness.connect(), await harness.connect()
    await client.send("hello", token=token(watch=("a",)))
    await client.send("subscribe", jobs=["a"])
    await client.send("watch_set", id=3, prefix="mine:")
    await other_client.send("hello", token=token(watch=("*",)))
    await other_client.send("watch_set", prefix="other:")
    await client.send("hello", token=token(watch=("a", "mine:*")))
    (error,) = client.sink.frames_of("error")
    assert (error["id"], error["code"], error["prefix"]) == (3, "node_full", "mine:")
    await harness.publish("a", percent=7)
    await wait_all_tasks_blocked()
    assert client.states("a")[-1] == 7
    await other_client.send("unwatch_set", prefix="other:")
    await client.send("watch_set", id=3, prefix="mine:")
    assert [frame["id"] for frame in client.sink.frames_of("set")] == [3, 3]


async def test_an_invalid_token_closes_an_authenticated_connection(
    autojump_clock: MockClock, harness: Harness
) -> None:
    client = await harness.connect()
    await client.send("hello", token=token())
    await client.send("hello", token="nonsense")  # noqa: S106 - of a test
    assert client.close_code is close_codes.UNAUTHORIZED


async def test_an_expired_token_asks_the_client_for_another(
    autojump_clock: MockClock, harness: Harness
) -> None:
    client = await harness.connect()
    await client.send("hello", token=token(-1))
    assert client.close_code is close_codes.EXPIRED


async def test_a_revoked_token_closes_connections_within_a_second(
    autojump_clock: MockClock, harness: Harness
) -> None:
    revoked, other_client = await harness.connect(), await harness.connect()
    await revoked.send("hello", token=token(jti="one"))
    await other_client.send("hello", token=token(jti="two"))
    start = trio.current_time()
    await harness.authenticator.revocations.revoke({"one": wall() + 1_000})
    await revoked.ended.wait()
    assert revoked.close_code is close_codes.REVOKED
    assert trio.current_time() - start < 1
    second_client = await harness.connect()
    await second_client.send("hello", token=token(jti="one"))
    assert second_client.close_code is close_codes.REVOKED
    assert other_client.close_code is None


async def test_authentication_state_is_dropped_with_its_connection(
    autojump_clock: MockClock, harness: Harness
) -> None:
    client = await harness.connect()
    assert "1 connections" in repr(harness.authenticator)
    client.source.hang_up()
    await client.ended.wait()
    assert "0 connections" in repr(harness.authenticator)
