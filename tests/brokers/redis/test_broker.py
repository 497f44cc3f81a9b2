"""Properties that only the Redis broker has. The contract of all brokers is in tests/contract."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from functools import partial

import msgspec
import pytest
import trio
import trio.testing
from msgspec import Raw

from gateway import Limits
from gateway.brokers.redis.broker import MAX_CALLS, RedisBroker
from gateway.brokers.redis.servers import TIMEOUT
from gateway.model.errors import BrokerUnavailable, InvalidSettings
from gateway.model.patterns import EVERY_JOB
from gateway.model.state import UNSEEN, Update
from tests.brokers.redis.cluster import Cluster
from tests.brokers.redis.server import CLOCK, Server, using_test_clock


@pytest.fixture
async def broker(server: Server) -> AsyncIterator[RedisBroker]:
    broker = RedisBroker(server.url, Limits(history=5, retention=3600))
    yield broker
    broker.close()


async def test_the_fields_of_a_record_are_the_fields_of_the_state(
    broker: RedisBroker, server: Server
) -> None:
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
        "epoch": fields["epoch"], "seq": "1", "pace": f"{now} {now} 33.33 0", "reported_at": now,
        "wakes_at": fields["wakes_at"], "v": "1",
    }  # fmt: skip


async def test_all_keys_expire_without_a_running_node(server: Server) -> None:
    server.client.set(CLOCK, 1000)
    with using_test_clock():
        broker = RedisBroker(server.url, Limits(retention=3600))
    keys = ("progress:last:a", "progress:log:a")
    server.client.hset("progress:counters", "retention", 3600)
    await broker.publish("a", Update(lease=600))
    await broker.publish("a", Update(percent=1))
    # Kept for longer than the retention after the last report before the next check.
    assert [server.client.ttl(key) for key in keys] == [4200, 4200]
    for key in keys:
        server.client.persist(key)
    server.client.set(CLOCK, 1599)
    await broker.publish("a", Update(percent=5))
    assert [server.client.ttl(key) for key in keys] == [-1, -1]  # no check is due: nothing to do
    server.client.set(CLOCK, 1601)
    await broker.publish("a", Update())  # unchanged, but it is a report
    assert [server.client.ttl(key) for key in keys] == [4200, 4200]
    broker.close()


async def test_a_dropped_job_leaves_no_keys(server: Server) -> None:
    server.client.set(CLOCK, 1000)
    with using_test_clock():
        broker = RedisBroker(server.url, Limits(retention=60))
    server.client.hset("progress:counters", "retention", 60)
    await broker.publish("a", Update(status="failed"))
    server.client.set(CLOCK, 1060)
    await broker.expire_leases()
    assert {key.decode() for key in server.client.scan_iter()} == {
        CLOCK, "progress:feed", "progress:counters", "progress:leases",
    }  # fmt: skip
    broker.close()


async def test_a_log_of_an_older_job_is_replaced(broker: RedisBroker, server: Server) -> None:
    for percent in (1, 2, 3):
        await broker.publish("a", Update(percent=percent))
    server.client.delete("progress:last:a")
    receipt = await broker.publish("a", Update(percent=4))
    assert receipt.position.seq == 1
    assert [e.position for e in await broker.history("a", after=UNSEEN)] == [receipt.position]


async def test_many_nodes_expire_a_lease_only_once(server: Server) -> None:
    server.client.set(CLOCK, 1000)
    with using_test_clock():
        brokers = [RedisBroker(server.url) for _ in range(4)]
    for number in range(250):
        await brokers[0].publish(f"j{number}", Update(lease=1))
    expired_counts: list[int] = []

    async def expire_leases(broker: RedisBroker) -> None:
        expired_counts.append(await broker.expire_leases())

    for now, expected in ((1002, 250), (1009, 0), (1011, 250), (2000, 0)):
        server.client.set(CLOCK, now)
        expired_counts.clear()
        async with trio.open_nursery() as nursery:
            for broker in brokers:
                nursery.start_soon(expire_leases, broker)
        assert sum(expired_counts) == expected
    for broker in brokers:
        broker.close()


async def test_a_failed_shard_does_not_block_lease_checks_of_others(server: Server) -> None:
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
        await broker.expire_leases()
    events = await broker.read(list(jobs.values()))
    assert [events[jobs[shard]].state.health for shard in shards] == ["ok", "stalled", "stalled"]
    server.client.restore(leases, 0, kept, replace=True)
    assert await broker.expire_leases() == 1
    broker.close()


async def test_leases_that_were_evicted_are_found_again(server: Server) -> None:
    server.client.set(CLOCK, 1000)
    with using_test_clock():
        broker = RedisBroker(server.url)
    await broker.publish("a", Update(percent=40, lease=1))
    await broker.publish("b", Update(percent=40, lease=60))
    await broker.publish("c", Update(status="succeeded"))
    assert await broker.expire_leases() == 0
    server.client.delete("progress:leases")
    await broker.publish("d", Update(percent=40, lease=1))  # the key exists again
    server.client.set(CLOCK, 1002)
    assert await broker.expire_leases() == 2
    states = {job: event.state for job, event in (await broker.read(list("abcd"))).items()}
    assert [states[job].health for job in "abcd"] == ["stalled", "ok", "ok", "stalled"]
    server.client.set(CLOCK, 1005)
    assert await broker.expire_leases() == 0
    server.client.set(CLOCK, 1008)
    broker.close()


async def test_a_change_of_the_clock_expires_no_lease(server: Server) -> None:
    """Healthy workers get a whole lease to report again; a worker that has died is detected."""
    server.client.set(CLOCK, 1_000_000)
    with using_test_clock():
        broker = RedisBroker(server.url)
    for job in ("healthy", "dead"):
        await broker.publish(job, Update(lease=30))
    assert await broker.expire_leases() == 0
    for step in (3600, -7200, 86_400, 31, -40):
        now = server.client.incrbyfloat(CLOCK, step)
        for second in range(60):
            server.client.set(CLOCK, now + second)
            await broker.publish("healthy", Update(status="running")) if second % 20 == 19 else None
            await broker.expire_leases()
            assert (await health(broker, "healthy")) == "ok"
    assert (await health(broker, "dead")) in ("stalled", "lost")
    broker.close()


async def test_the_first_lease_check_after_an_hour_counts_as_a_clock_step(server: Server) -> None:
    server.client.set(CLOCK, 1_000_000)
    with using_test_clock():
        broker = RedisBroker(server.url)
    await broker.publish("a", Update(lease=30))
    await broker.expire_leases()
    for second in range(3600, 3640):
        server.client.set(CLOCK, 1_000_000 + second)
        await broker.expire_leases()
        assert await health(broker, "a") == ("ok" if second < 3630 else "stalled")
    broker.close()


async def health(broker: RedisBroker, job: str) -> str:
    return (await broker.read([job]))[job].state.health


async def test_scripts_are_sent_again_to_a_server_without_them(
    broker: RedisBroker, server: Server
) -> None:
    await broker.publish("a", Update(lease=30))
    server.client.script_flush()
    assert (await broker.publish("a", Update(percent=1))).position.seq == 2
    server.client.script_flush()
    assert await broker.expire_leases() == 0


REFUSALS = {
    "OOM": (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0")),
    "NOREPLICAS": (
        ("CONFIG", "SET", "min-replicas-to-write", "1"),
        ("CONFIG", "SET", "min-replicas-to-write", "0"),
    ),
    "NOPERM": (
        ("ACL", "SETUSER", "default", "-evalsha", "-eval"),
        ("ACL", "SETUSER", "default", "+evalsha", "+eval"),
    ),
    "NOPERM of a key": (
        ("ACL", "SETUSER", "default", "resetkeys", "~other:*"),
        ("ACL", "SETUSER", "default", "allkeys"),
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
async def test_the_reason_of_a_refusal_is_in_errors_and_logged_once(
    name: str, broker: RedisBroker, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    kind, (refuse, allow) = name.split()[0], REFUSALS[name]
    caplog.set_level("INFO", "gateway.brokers.redis")
    await broker.publish("a", Update(percent=1))
    server.client.execute_command(*refuse)
    try:
        for _ in range(3):
            with pytest.raises(BrokerUnavailable, match=kind):
                await broker.publish("a", Update(percent=2))
        assert kind in str(broker.unavailable_reason)
    finally:
        server.client.execute_command(*allow)
    await broker.publish("a", Update(percent=2))
    assert broker.unavailable_reason is None
    logged = [record.getMessage() for record in caplog.records]
    assert [kind in text for text in logged] == [True, False]
    assert logged[1] == "Redis accepts updates again"


async def test_lists_do_not_delay_updates(broker: RedisBroker, server: Server) -> None:
    async def make_one() -> None:
        await broker.recent(EVERY_JOB, limit=5, after=None)

    await make_one()
    async with trio.open_nursery() as nursery:
        server.client.client_pause(200)  # during these milliseconds Redis answers no client
        for _ in range(40):
            nursery.start_soon(make_one)
        await trio.testing.wait_all_tasks_blocked()
        assert "0 calls" in repr(broker)


@pytest.mark.parametrize(
    "url",
    ["redis://127.0.0.1:9", "redis+cluster://127.0.0.1:9", "redis+sentinel://127.0.0.1:9/mymaster"],
)
async def test_an_unreachable_server_raises_broker_unavailable(url: str) -> None:
    broker = RedisBroker(url)
    with pytest.raises(BrokerUnavailable):
        await broker.read(["a"])
    with pytest.raises(BrokerUnavailable):
        async with broker.feed():
            pass


async def test_calls_to_a_hanging_redis_fail_within_the_call_timeout(
    broker: RedisBroker, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.brokers.redis.broker.CALL_TIMEOUT", 0.3)
    refusals: list[str] = []

    async def publish(number: int) -> None:
        with pytest.raises(BrokerUnavailable) as caught:
            await broker.publish(f"job:{number}", Update(percent=1))
        refusals.append(str(caught.value))

    await broker.publish("a", Update(percent=1))
    server.process.send_signal(signal.SIGSTOP)
    try:
        with trio.fail_after(TIMEOUT - 1):  # before any thread ends
            async with trio.open_nursery() as nursery:
                for number in range(3 * MAX_CALLS):
                    nursery.start_soon(publish, number)
    finally:
        server.process.send_signal(signal.SIGCONT)
    assert refusals == ["Redis: too many calls wait for an answer"] * 3 * MAX_CALLS
    monkeypatch.undo()
    assert (await broker.publish("a", Update(percent=2))).position.seq == 2


async def test_a_hanging_primary_does_not_delay_others() -> None:
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
        jobs = broker.partition([f"job:{number}" for number in range(20)])
        hung, *others = sorted(jobs, key=lambda some: owner[broker._layout.shard(some[0])] != pid)
        stopped.process.send_signal(signal.SIGSTOP)
        async with trio.open_nursery() as nursery:
            for _ in range(3 * MAX_CALLS):
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


async def test_minus_zero_is_stored_as_zero(broker: RedisBroker) -> None:
    await broker.publish("a", Update(done=-0.0, total=-0.0, percent=-0.0))
    state = (await broker.read(["a"]))["a"].state
    assert msgspec.json.encode([state.done, state.total, state.percent]) == b"[0,0,0]"


async def test_key_prefixes_are_independent(broker: RedisBroker, server: Server) -> None:
    other_broker = RedisBroker(f"{server.url}?prefix=other")
    await other_broker.publish("a", Update(lease=30))
    assert await broker.read(["a"]) == {}
    assert list(await other_broker.read(["a"])) == ["a"]
    other_broker.close()


async def test_a_job_with_one_event_has_no_log(broker: RedisBroker, server: Server) -> None:
    """The record alone is the history. The second event creates the log, which then has the first
    event too."""
    first_result = await broker.publish(
        "a", Update(status="succeeded", message="m", data=Raw(b"[1.0]"))
    )
    assert not server.client.exists("progress:log:a")
    event = (await broker.read(["a"]))["a"]
    assert await broker.history("a", after=UNSEEN) == [event]
    assert await broker.history("a", after=first_result.position) == []

    await broker.publish("a", Update(start=True, message="again"))
    assert 0 < server.client.ttl("progress:log:a") <= server.client.ttl("progress:last:a")
    again = (await broker.read(["a"]))["a"]
    assert await broker.history("a", after=UNSEEN) == [event, again]
    assert await broker.history("a", after=first_result.position) == [again]

    server.client.set("progress:last:a", "not a record")
    server.client.delete("progress:log:a")
    assert await broker.history("a", after=UNSEEN) == []


async def test_many_jobs_with_one_event_use_little_memory(
    broker: RedisBroker, server: Server
) -> None:
    """The feed is not counted, because its length is limited."""
    jobs = [f"import:{number}" for number in range(1000)]
    await broker.publish(
        jobs[0], Update(status="succeeded")
    )  # memory that does not depend on the number of jobs
    server.client.delete("progress:feed")
    before = server.client.info("memory")["used_memory_dataset"]
    for job in jobs[1:]:
        await broker.publish(job, Update(percent=100, message="imported", status="succeeded"))
    server.client.delete("progress:feed")
    taken = server.client.info("memory")["used_memory_dataset"] - before
    assert taken / len(jobs) <= 1200


async def test_foreign_entries_in_a_log_are_ignored(broker: RedisBroker, server: Server) -> None:
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
def test_an_invalid_url_is_rejected(url: str) -> None:
    with pytest.raises(InvalidSettings):
        RedisBroker(url)


async def test_a_second_feed_does_not_affect_calls(server: Server) -> None:
    """The demo has such a second feed, in the process of its node."""
    broker = RedisBroker(server.url)
    async with broker.feed():
        await broker.publish("a", Update(done=1))
        async with trio.open_nursery() as nursery:

            async def read() -> None:
                while True:
                    assert await broker.read(["a"])

            nursery.start_soon(read)
            for _ in range(3):
                async with broker.feed():
                    assert broker.ready
            nursery.cancel_scope.cancel()
    broker.close()
