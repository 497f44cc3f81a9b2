"""Keys of other programs in the same Redis do not affect jobs, and are not changed."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import httpx
import pytest
import redis
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway import Limits, Node
from gateway.brokers.redis.broker import RedisBroker
from gateway.brokers.redis.codec import Unreadable, decode, snapshot
from gateway.http.api import create_http_app
from gateway.model.errors import RecordUnreadable
from gateway.model.patterns import EVERY_JOB
from gateway.model.state import UNSEEN, Update
from tests.brokers.redis.server import CLOCK, Server, using_test_clock
from tests.e2e.conftest import eventually
from tests.fakes import FakeSource, Sink

LAST, LOG = "progress:last:bad", "progress:log:bad"
DEEP = "[" * 65 + "]" * 65
VERY_DEEP = "[" * 100_000 + "]" * 100_000


@pytest.fixture
async def broker(server: Server) -> AsyncIterator[RedisBroker]:
    broker = RedisBroker(server.url, Limits(history=5))
    yield broker
    broker.close()


def spoil(**fields: str | None) -> Callable[[Any], None]:
    """Returns a record of the gateway, with these fields changed or removed."""

    def change(client: Any) -> None:
        client.execute_command("FCALL", "progress", 1, "progress", "bad", "percent", 1)
        for name, value in fields.items():
            if value is None:
                client.hdel(LAST, name)
            else:
                client.hset(LAST, name, value)

    return change


FOREIGN: dict[str, Callable[[Any], None]] = {
    "another program's hash": lambda client: client.hset(LAST, "percent", "abc"),
    "another program's good hash": lambda client: client.hset(LAST, "percent", "5"),
    "a string": lambda client: client.set(LAST, "x"),
    "a list": lambda client: client.rpush(LAST, "x"),
    "a stream": lambda client: client.xadd(LAST, {"a": "b"}),
    "a percentage that is none": spoil(percent="abc"),
    "a percentage that is not finite": spoil(percent="nan"),
    "a number in hexadecimal": spoil(percent="0x10"),
    "no epoch": spoil(epoch=None),
    "an epoch that is none": spoil(epoch="x"),
    "an epoch below zero": spoil(epoch="-1"),
    "a sequence that is none": spoil(seq="1.5"),
    "no status": spoil(status=None),
    "another status": spoil(status="melting"),
    "another health": spoil(health="fine"),
    "an attempt that is none": spoil(attempt="many"),
    "no time": spoil(updated_at=None),
    "a time that is none": spoil(created_at="yesterday"),
    "a newer version": spoil(v="2"),
}

UNREADABLE_ALONE: dict[str, Callable[[Any], None]] = {
    "data that is no JSON": spoil(data="{"),
    "data on two lines": spoil(data="[1,\n2]"),
    "data that nests too deeply": spoil(data=DEEP),
    "data that nests very deeply": spoil(data=VERY_DEEP),
    "a percentage above 100": spoil(percent="250"),
    "a message that is too long": spoil(message="x" * 200_000),
}
"""Data that the scripts can process, and that readers refuse."""


@pytest.mark.parametrize("name", [*FOREIGN, *UNREADABLE_ALONE])
async def test_a_foreign_key_is_an_unknown_job_and_others_are_read(
    name: str, broker: RedisBroker, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    async with broker.feed():
        good = (await broker.publish("good", Update(percent=5))).position
        (FOREIGN | UNREADABLE_ALONE)[name](server.client)
        server.client.zadd("progress:recent", {"bad": 99})
        for _ in range(3):
            assert list(await broker.read(["bad", "good", "none"])) == ["good"]
            page = await broker.recent(EVERY_JOB, limit=5, after=None)
            assert [event.job for event in page.events] == ["good"]
        assert (await broker.positions(["bad", "good"]))["good"] == good
        await broker.history("bad", after=UNSEEN)
        assert broker.unreadable == 6
    logged = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert sum(f"{LAST} is not a valid record" in text for text in logged) == 1


@pytest.mark.parametrize("name", FOREIGN)
async def test_publishing_to_a_foreign_key_is_refused_and_names_it(
    name: str, broker: RedisBroker, server: Server
) -> None:
    async with broker.feed():
        FOREIGN[name](server.client)
        before = server.client.dump(LAST), counters_of(server)
        for update in (Update(percent=50), Update(start=True), Update(attempt=7)):
            with pytest.raises(RecordUnreadable, match=LAST):
                await broker.publish("bad", update)
        with pytest.raises(redis.ResponseError, match=f"UNREADABLE {LAST}"):
            server.client.execute_command("FCALL", "progress", 1, "progress", "bad", "done", 1)
        assert (server.client.dump(LAST), counters_of(server)) == before
        assert broker.unavailable_reason is None


def counters_of(server: Server) -> object:
    """Returns the counters, without the fields that the feed's own node writes at intervals."""
    return server.client.hmget("progress:counters", "events", "epoch", "generation")


@pytest.mark.parametrize("known", [False, True])
async def test_a_foreign_log_is_not_deleted_and_does_not_block_the_job(
    known: bool, broker: RedisBroker, server: Server
) -> None:
    async with broker.feed():
        if known:
            await broker.publish("bad", Update(percent=1))
            server.client.delete(LOG)
        server.client.set(LOG, "x")
        before = server.client.hget("progress:counters", "events")
        with pytest.raises(RecordUnreadable, match=LOG):
            await broker.publish("bad", Update(percent=50))
        assert server.client.get(LOG) == b"x"
        assert server.client.hget("progress:counters", "events") == before
        assert await broker.history("bad", after=UNSEEN) == []
        await broker.publish("good", Update(percent=5))


@pytest.mark.parametrize("name", FOREIGN)
async def test_lease_checks_skip_a_foreign_key(name: str, server: Server) -> None:
    server.client.set(CLOCK, 1000)
    with using_test_clock():
        broker = RedisBroker(server.url)
    await broker.publish("good", Update(lease=1))
    async with broker.feed():
        FOREIGN[name](server.client)
    before = server.client.dump(LAST)
    server.client.zadd("progress:leases", {"bad": 1})
    server.client.set(CLOCK, 1002)
    with trio.fail_after(5):
        assert await broker.expire_leases() == 1
    assert server.client.dump(LAST) == before
    assert server.client.zscore("progress:leases", "bad") == 1062
    broker.close()


@pytest.mark.parametrize("name", [*FOREIGN, *UNREADABLE_ALONE])
async def test_a_node_shows_other_jobs_despite_a_foreign_key(
    name: str, broker: RedisBroker, server: Server
) -> None:
    node = Node(broker)
    async with trio.open_nursery() as nursery:
        await nursery.start(node.run)
        (FOREIGN | UNREADABLE_ALONE)[name](server.client)
        source, sink = FakeSource(), Sink()
        nursery.start_soon(node.serve, source, sink)
        await source.send(type="subscribe", jobs=["bad", "good"])
        await broker.publish("good", Update(percent=5))

        def shown() -> bool:
            last_states = {frame["job"]: frame["state"] for frame in sink.frames_of("progress")}
            return "bad" in last_states and (last_states.get("good") or {}).get("percent") == 5

        await eventually(shown)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "text",
    [
        "?", "[]", "null", "[1]", '[1,"a",1,1,{}]', '[1,"a",1,1,{"status":"melting"}]', VERY_DEEP,
        '[1,"a",1,1,{"status":"running","attempt":1,"created_at":1,"updated_at":1},' + DEEP + "]",
        '[1,"a",1,1,{"status":"running","attempt":1,"created_at":1,"updated_at":1},'
        + VERY_DEEP + "]",
        '[1,"a",1,1,{"status":"running","attempt":1,"created_at":1e999,"updated_at":1}]',
    ],
)  # fmt: skip
async def test_no_feed_entry_makes_the_poller_raise(
    text: str, broker: RedisBroker, server: Server
) -> None:
    async with broker.feed() as feed:
        server.client.xadd("progress:feed", {"event": text})
        server.client.xadd("progress:feed", {"x": "y", "traceparent": "z"})
        await broker.publish("good", Update(percent=5))
        with trio.fail_after(5):
            while not any(event.job == "good" for event in await feed.receive()):
                pass


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary() | st.text().map(str.encode), st.dictionaries(st.binary(), st.binary()))
def test_decoding_raises_only_unreadable(text: bytes, fields: dict[bytes, bytes]) -> None:
    for call in (
        lambda: decode(text),
        lambda: snapshot("a", {b"v": b"1", b"epoch": b"1", b"seq": b"1"} | fields),
    ):
        with suppress(Unreadable):
            call()


async def test_over_http_a_foreign_key_is_a_409_that_names_it(
    broker: RedisBroker, server: Server
) -> None:
    server.client.set(LAST, "a text")
    transport = httpx.ASGITransport(create_http_app(Node(broker)))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        answer = await client.post("/api/jobs/bad", json={"done": 1})
        (of_batch,) = (await client.post("/api/jobs", json=[{"job": "bad", "done": 1}])).json()
    assert answer.status_code == 409
    for document in (answer.json(), of_batch):
        assert (document["status"], document["code"]) == (409, "unreadable_record")
        assert LAST in document["detail"]
