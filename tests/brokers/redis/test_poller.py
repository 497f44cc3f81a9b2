"""The feed of a real Redis: its end, its outages, and the reported losses.

No test sleeps: each waits for an effect. The only wait of seconds is the poller's check of the
server, which `looking_often` shortens.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import pytest
import trio
from trio.abc import ReceiveChannel

from gateway import Limits
from gateway.brokers.base import FEED_RESET
from gateway.brokers.redis import poller
from gateway.brokers.redis.broker import RedisBroker
from gateway.model.errors import BrokerUnavailable
from gateway.model.state import Event, Update
from tests.brokers.redis.server import Server, redis_server


@pytest.fixture
def own_server() -> Iterator[Server]:
    """A server that the test may kill."""
    server = Server(redis_server())
    yield server
    server.close()


@pytest.fixture(autouse=True)
def looking_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poller, "CHECK_INTERVAL", 0.02)
    monkeypatch.setattr(poller, "BLOCK", 0.02)


def pollers(server: Server) -> int:
    return sum(client["name"] == "progress:feed" for client in server.client.client_list())


async def until_lost(feed: ReceiveChannel[Sequence[Event]]) -> list[Event]:
    """Receives batches until `FEED_RESET`. Returns the events before it."""
    events: list[Event] = []
    with trio.fail_after(10):
        while True:
            batch = await feed.receive()
            if batch == FEED_RESET:
                return events
            events += batch


async def next_done(feed: ReceiveChannel[Sequence[Event]]) -> float | None:
    """Returns the `done` of the next event, and skips empty batches before it."""
    with trio.fail_after(10):
        while True:
            batch = await feed.receive()
            if batch:
                return batch[0].state.done


async def test_leaving_the_feed_closes_its_connection_immediately(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poller, "BLOCK", 4.0)
    broker = RedisBroker(server.url)
    for _ in range(3):
        with trio.fail_after(1):
            with trio.CancelScope() as scope:
                async with broker.feed() as feed, trio.open_nursery() as nursery:
                    nursery.start_soon(feed.receive)
                    assert pollers(server) == 1
                    scope.cancel()
            while pollers(server):  # the server may notice it a moment later
                await trio.lowlevel.checkpoint()


async def test_events_that_arrive_while_a_batch_waits_form_one_batch(server: Server) -> None:
    broker = RedisBroker(server.url)
    with trio.fail_after(2):
        async with broker.feed() as feed:
            await broker.publish("a", Update(done=0))
            await until_offered(feed)
            for number in (1, 2, 3):
                await broker.publish("a", Update(done=number))
            assert [event.state.done for event in await feed.receive()] == [0]
            assert [event.state.done for event in await feed.receive()] == [1, 2, 3]
    broker.close()


async def test_the_feed_can_be_left_while_nothing_is_read(server: Server) -> None:
    broker = RedisBroker(server.url)
    with trio.fail_after(2):
        async with broker.feed() as feed:
            await broker.publish("a", Update(lease=30))
            await until_offered(feed)
    broker.close()


async def until_offered(feed: ReceiveChannel[Sequence[Event]]) -> None:
    """Waits until the poller offers a batch."""
    assert isinstance(feed, trio.MemoryReceiveChannel)
    while not feed.statistics().tasks_waiting_send:
        await trio.lowlevel.checkpoint()


async def test_the_lag_is_the_number_of_unread_events(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poller, "CHECK_INTERVAL", 0.0)
    monkeypatch.setattr(poller, "BATCH", 1)
    broker = RedisBroker(server.url)
    assert broker.lag == 0
    async with broker.feed() as feed:
        for number in range(20):
            await broker.publish("a", Update(done=number))
        for number in range(20):
            assert await next_done(feed) == number
            if number == 6:
                assert 5 < broker.lag < 14
        assert broker.lag == 0
    broker.close()


async def test_closing_the_channel_ends_the_feed(server: Server) -> None:
    broker = RedisBroker(server.url)
    async with broker.feed() as feed:
        await feed.aclose()
        await broker.publish("a", Update(lease=30))
    broker.close()


async def test_opening_the_feed_without_a_server_raises(own_server: Server) -> None:
    own_server.kill()
    broker = RedisBroker(own_server.url)
    with pytest.raises(BrokerUnavailable):
        async with broker.feed():
            pass
    with pytest.raises(BrokerUnavailable):
        await broker.publish("a", Update(lease=30))


async def test_a_restart_of_redis_is_reported_as_a_feed_reset(
    own_server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gateway.brokers.redis")
    broker = RedisBroker(own_server.url)
    async with broker.feed() as feed:
        first = await broker.publish("a", Update(done=1))
        assert await next_done(feed) == 1
        own_server.kill()
        own_server.start()
        await until_lost(feed)
        again = await broker.publish("a", Update(done=2))
        assert await next_done(feed) == 2
    assert again.position.epoch > first.position.epoch
    logged = [record.getMessage().partition(": ")[2] for record in caplog.records]
    assert [text.partition(":")[0] for text in logged] == [
        "unavailable",
        "reconnected",
    ]
    broker.close()


async def test_a_lost_connection_loses_nothing(server: Server) -> None:
    broker = RedisBroker(server.url)
    async with broker.feed() as feed:
        for number in range(20):
            await broker.publish("a", Update(done=number))
            if number % 5 == 0:
                server.client.client_kill_filter(_type="normal", skipme=True)
                broker.close()
        received_counts: list[int] = []
        with trio.fail_after(10):
            while 20 not in received_counts:
                received_counts += [event.position.seq for event in await feed.receive()]
    assert received_counts == list(range(1, 21))
    broker.close()


async def test_a_flush_is_reported_and_the_feed_continues(server: Server) -> None:
    broker = RedisBroker(server.url)
    async with broker.feed() as feed:
        await broker.publish("a", Update(done=1))
        assert await next_done(feed) == 1
        server.client.flushall()
        assert await until_lost(feed) == []
        await broker.publish("a", Update(done=2))
        assert await next_done(feed) == 2
    broker.close()


async def test_trimmed_unread_entries_are_reported(server: Server) -> None:
    broker = RedisBroker(server.url)
    feed_key = "progress:feed"
    async with broker.feed() as feed:
        await broker.publish("a", Update(done=1))
        assert await next_done(feed) == 1
        with (
            server.client.pipeline() as pipeline
        ):  # in one transaction, so that the poller sees no state in between
            pipeline.xadd(feed_key, {"event": b"?"})
            pipeline.xtrim(feed_key, 0)
            pipeline.execute()
        assert await until_lost(feed) == []
        await broker.publish("a", Update(done=2))
        assert await next_done(feed) == 2
    broker.close()


async def test_missing_entries_are_reported(server: Server) -> None:
    broker = RedisBroker(server.url)
    async with broker.feed() as feed:
        server.client.hincrby("progress:counters", "events", 7)
        await broker.publish("a", Update(done=1))
        assert [event.state.done for event in await until_lost(feed)] == [1]
    broker.close()


async def test_an_unreadable_entry_does_not_affect_others(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    broker = RedisBroker(server.url)
    async with broker.feed() as feed:
        for junk in (b"?", b'[1,"a",1,1,{"colour":1}]', b'[1,"\xff",1,1,{}]'):
            server.client.xadd("progress:feed", {"event": junk})
        await broker.publish("a", Update(done=1))
        assert await next_done(feed) == 1
        await broker.publish("a", Update(done=2))
        assert await next_done(feed) == 2  # the warnings of the entries before it are logged
    assert sum("unreadable" in record.getMessage() for record in caplog.records) == 3
    broker.close()


async def test_a_node_that_is_behind_gets_all_events_in_batches(server: Server) -> None:
    broker = RedisBroker(server.url, Limits(history=5))
    async with broker.feed() as feed:
        async with trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(publish_many, broker, f"j{number}", 50)
        seqs: dict[str, list[int]] = {}
        with trio.fail_after(10):
            while sum(map(len, seqs.values())) < 500:
                for event in await feed.receive():
                    seqs.setdefault(event.job, []).append(event.position.seq)
    assert all(each == list(range(1, 51)) for each in seqs.values())
    broker.close()


async def publish_many(broker: RedisBroker, job: str, count: int) -> None:
    for number in range(count):
        await broker.publish(job, Update(done=number))
