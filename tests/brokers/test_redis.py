"""What is Redis's own about its broker; what all brokers promise is in tests/contract."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from functools import partial

import msgspec
import pytest
import trio
import trio.testing

from gateway import Limits
from gateway.auth.patterns import EVERY_JOB
from gateway.brokers.redis import CALLS, RedisBroker
from gateway.errors import BrokerUnavailable, InvalidSettings
from gateway.job import UNSEEN, Update
from gateway.storage.servers import TIMEOUT
from tests.brokers.cluster import Cluster
from tests.brokers.server import CLOCK, Server, session_server, using_test_clock


@pytest.fixture
def server() -> Server:
    return session_server()


@pytest.fixture
async def broker(server: Server) -> AsyncIterator[RedisBroker]:
    broker = RedisBroker(server.url, Limits(history=5, retention=3600))
    yield broker
    broker.close()


async def test_hgetall_reads_like_the_state(broker: RedisBroker, server: Server) -> None:
    data = msgspec.Raw(b'{"a":[1]}')
    receipt = await broker.publish("video:42", Update(done=1, total=3, message="é/\n", data=data))
    fields = {
        k.decode(): v.decode() for k, v in server.client.hgetall("progress:last:video:42").items()
    }
    assert fields["epoch"] == str(receipt.position.epoch)
    now = fields["updated_at"]
    assert fields == {
        "status": "running", "attempt": "1", "health": "ok", "percent": "33.33", "done": "1",
        "total": "3", "message": "é/\n", "data": '{"a":[1]}', "lease": "30.0",
        "created_at": now, "started_at": now, "updated_at": now,
        "epoch": fields["epoch"], "seq": "1", "pace": f"{now} {now} 33.33 0", "heard_at": now,
        "wakes_at": fields["wakes_at"],
    }  # fmt: skip


async def test_everything_expires_even_if_no_node_is_there_to_forget(server: Server) -> None:
    server.client.set(CLOCK, 1000)
    with using_test_clock():
        broker = RedisBroker(server.url, Limits(retention=3600))
    keys = ("progress:last:a", "progress:log:a")
    await broker.publish("a", Update(lease=600))
    # Kept for longer than anything is that can be heard before the next look at it.
    assert [server.client.ttl(key) for key in keys] == [4200, 4200]
    for key in keys:
        server.client.persist(key)
    server.client.set(CLOCK, 1599)
    await broker.publish("a", Update(percent=5))
    assert [server.client.ttl(key) for key in keys] == [-1, -1]  # no look is due: nothing to do
    server.client.set(CLOCK, 1601)
    await broker.publish("a", Update())  # unchanged, and yet a word
    assert [server.client.ttl(key) for key in keys] == [4200, 4200]
    broker.close()


async def test_what_is_forgotten_leaves_nothing(server: Server) -> None:
    server.client.set(CLOCK, 1000)
    with using_test_clock():
        broker = RedisBroker(server.url, Limits(retention=60))
    await broker.publish("a", Update(status="failed"))
    server.client.set(CLOCK, 1060)
    await broker.reap()
    assert {key.decode() for key in server.client.scan_iter()} == {
        CLOCK, "progress:feed", "progress:counters",
    }  # fmt: skip
    broker.close()


async def test_an_older_log_is_not_in_the_way(broker: RedisBroker, server: Server) -> None:
    for percent in (1, 2, 3):
        await broker.publish("a", Update(percent=percent))
    server.client.delete("progress:last:a")
    receipt = await broker.publish("a", Update(percent=4))
    assert receipt.position.seq == 1
    assert [e.position for e in await broker.history("a", after=UNSEEN)] == [receipt.position]


async def test_many_reapers_make_one_stalled_and_one_lost(server: Server) -> None:
    server.client.set(CLOCK, 1000)
    with using_test_clock():
        brokers = [RedisBroker(server.url) for _ in range(4)]
    for number in range(250):
        await brokers[0].publish(f"j{number}", Update(lease=1))
    found: list[int] = []

    async def reap(broker: RedisBroker) -> None:
        found.append(await broker.reap())

    for now, expected in ((1002, 250), (1009, 0), (1011, 250), (2000, 0)):
        server.client.set(CLOCK, now)
        found.clear()
        async with trio.open_nursery() as nursery:
            for broker in brokers:
                nursery.start_soon(reap, broker)
        assert sum(found) == expected
    for broker in brokers:
        broker.close()


async def test_a_shard_that_fails_keeps_no_other_from_being_reaped(server: Server) -> None:
    with using_test_clock():
        broker = RedisBroker(f"{server.url}?shards=3")
    shards = broker._layout.shards
    for shard in shards:
        server.client.set(f"{shard.feed}:clock", 1000)
    jobs = {broker._layout.shard(f"j{number}"): f"j{number}" for number in range(20)}
    for job in jobs.values():
        await broker.publish(job, Update(lease=1))
    for shard in shards:
        server.client.set(f"{shard.feed}:clock", 1002)
    leases = f"{shards[0].prefix}:leases"
    kept = server.client.dump(leases)
    server.client.set(leases, "not a sorted set")
    with pytest.raises(BrokerUnavailable, match="WRONGTYPE"):
        await broker.reap()
    events = await broker.read(list(jobs.values()))
    assert [events[jobs[shard]].state.health for shard in shards] == ["ok", "stalled", "stalled"]
    server.client.restore(leases, 0, kept, replace=True)
    assert await broker.reap() == 1
    broker.close()


async def test_a_server_that_has_forgotten_the_scripts_gets_them(
    broker: RedisBroker, server: Server
) -> None:
    await broker.publish("a", Update())
    server.client.script_flush()
    assert (await broker.publish("a", Update(percent=1))).position.seq == 2
    server.client.script_flush()
    assert await broker.reap() == 0


async def test_what_redis_refuses_is_unavailable(broker: RedisBroker, server: Server) -> None:
    server.client.config_set("maxmemory", "1")
    try:
        with pytest.raises(BrokerUnavailable, match="maxmemory"):
            await broker.publish("a", Update())
    finally:
        server.client.config_set("maxmemory", "0")
    assert await broker.read(["a"]) == {}


async def test_lists_take_no_calls_from_updates(broker: RedisBroker, server: Server) -> None:
    async def make_one() -> None:
        await broker.recent(EVERY_JOB, limit=5, after=None)

    await make_one()
    async with trio.open_nursery() as nursery:
        server.client.client_pause(200)  # milliseconds in which it answers nobody
        for _ in range(40):
            nursery.start_soon(make_one)
        await trio.testing.wait_all_tasks_blocked()
        assert "0 calls" in repr(broker)


@pytest.mark.parametrize(
    "url",
    ["redis://127.0.0.1:9", "redis+cluster://127.0.0.1:9", "redis+sentinel://127.0.0.1:9/mymaster"],
)
async def test_nobody_there_is_unavailable(url: str) -> None:
    broker = RedisBroker(url)
    with pytest.raises(BrokerUnavailable):
        await broker.read(["a"])
    with pytest.raises(BrokerUnavailable):
        async with broker.feed():
            pass


async def test_a_redis_that_hangs_keeps_nobody_waiting_for_a_thread(
    broker: RedisBroker, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.brokers.redis.ANSWER_WITHIN", 0.3)
    refused: list[str] = []

    async def publish(number: int) -> None:
        with pytest.raises(BrokerUnavailable) as caught:
            await broker.publish(f"job:{number}", Update(percent=1))
        refused.append(str(caught.value))

    await broker.publish("a", Update(percent=1))
    server.process.send_signal(signal.SIGSTOP)
    try:
        with trio.fail_after(TIMEOUT - 1):  # before any thread ends
            async with trio.open_nursery() as nursery:
                for number in range(3 * CALLS):
                    nursery.start_soon(publish, number)
    finally:
        server.process.send_signal(signal.SIGCONT)
    assert refused == ["Redis: too many calls have no answer yet"] * 3 * CALLS
    monkeypatch.undo()
    assert (await broker.publish("a", Update(percent=2))).position.seq == 2


async def test_a_primary_that_hangs_keeps_no_other_waiting() -> None:
    cluster = Cluster()
    broker = RedisBroker(f"{cluster.url}?shards=3")
    stopped = cluster.primaries[0]
    try:
        for number in range(20):
            await broker.publish(f"job:{number}", Update(percent=1))
        pid = stopped.client.info("server")["process_id"]
        owner = {
            shard: cluster.owner(shard.feed).info("server")["process_id"]
            for shard in broker._layout.shards
        }
        jobs = broker.apart([f"job:{number}" for number in range(20)])
        hung, *others = sorted(jobs, key=lambda some: owner[broker._layout.shard(some[0])] != pid)
        stopped.process.send_signal(signal.SIGSTOP)
        async with trio.open_nursery() as nursery:
            for _ in range(3 * CALLS):
                nursery.start_soon(partial(broker.history, hung[0], after=UNSEEN))
            await trio.testing.wait_all_tasks_blocked(0.01)
            with trio.fail_after(TIMEOUT / 2):
                for some in others:
                    assert len(await broker.read(some)) == len(some)
            nursery.cancel_scope.cancel()
    finally:
        stopped.process.send_signal(signal.SIGCONT)
        broker.close()
        cluster.close()


async def test_minus_zero_is_zero(broker: RedisBroker) -> None:
    await broker.publish("a", Update(done=-0.0, total=-0.0, percent=-0.0))
    state = (await broker.read(["a"]))["a"].state
    assert msgspec.json.encode([state.done, state.total, state.percent]) == b"[0,0,0]"


async def test_prefixes_are_apart(broker: RedisBroker, server: Server) -> None:
    other = RedisBroker(f"{server.url}?prefix=other")
    await other.publish("a", Update())
    assert await broker.read(["a"]) == {}
    assert list(await other.read(["a"])) == ["a"]
    other.close()


async def test_no_reader_trips_over_what_others_wrote_into_a_log(
    broker: RedisBroker, server: Server
) -> None:
    for percent in (1, 2, 3, 4):
        await broker.publish("a", Update(percent=percent))
    server.client.xdel("progress:log:a", "1-0")
    after = await broker.history("a", after=UNSEEN)
    assert [event.position.seq for event in after] == [2, 3, 4]
    server.client.xdel("progress:log:a", "3-0")
    assert [event.position.seq for event in await broker.history("a", after=UNSEEN)] == [4]
    server.client.xadd("progress:log:a", {"event": "?"}, id="5-0")
    assert await broker.history("a", after=UNSEEN) == []


@pytest.mark.parametrize("url", ["", "http://x", "redis://h:x"])
def test_not_a_url(url: str) -> None:
    with pytest.raises(InvalidSettings):
        RedisBroker(url)
