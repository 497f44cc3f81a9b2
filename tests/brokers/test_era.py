"""A server that may have lost writes begins a new era; see `storage/lua/takeover.lua`.

Losing writes is done here as a failover does it: what a server had is put back in place of
what it has, and it says that it is another one (`REPLICAOF NO ONE` gives it another
replication id).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import trio
from msgspec import Raw

from gateway import Node
from gateway.auth.patterns import EVERY_JOB
from gateway.broker import LOST
from gateway.brokers import poller
from gateway.brokers.redis import RedisBroker
from gateway.job import UNSEEN, State, Update
from tests.brokers.server import Server, redis_server
from tests.e2e.conftest import eventually
from tests.fakes import FakeSource, Sink

KEYS = ("last:a", "log:a", "feed", "counters", "leases", "recent")


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(redis_server())
    yield server
    server.close()


@pytest.fixture
async def broker(server: Server) -> AsyncIterator[RedisBroker]:
    broker = RedisBroker(server.url)
    yield broker
    broker.close()


@pytest.fixture(autouse=True)
def looking_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poller, "CHECK_EVERY", 0.02)
    monkeypatch.setattr(poller, "BLOCK", 0.02)


class Failover:
    """What the server has now is what the replica has got."""

    def __init__(self, server: Server) -> None:
        self._client = server.client
        self._dumps = {key: server.client.dump(f"progress:{key}") for key in KEYS}

    def happen(self) -> None:
        with self._client.pipeline() as pipeline:
            pipeline.execute_command("REPLICAOF", "127.0.0.1", "1")
            pipeline.execute_command("REPLICAOF", "NO", "ONE")
            for key, dump in self._dumps.items():
                pipeline.restore(f"progress:{key}", 0, dump, replace=True)
            pipeline.execute()


async def node_with_a_client(node: Node, nursery: trio.Nursery, mode: str) -> Sink:
    source, sink = FakeSource(), Sink()
    nursery.start_soon(node.serve, source, sink)
    await source.say(type="subscribe", jobs=["a"], mode=mode)
    return sink


async def until_last(sink: Sink, **wanted: object) -> None:
    def is_there() -> bool:
        states = [frame["state"] for frame in sink.of("progress") if frame["state"]]
        return bool(states) and wanted.items() <= states[-1].items()

    await eventually(is_there)


@pytest.mark.parametrize("mode", ["latest", "every"])
@pytest.mark.parametrize("lost", [1, 3])
async def test_an_end_at_a_position_that_was_seen_before_is_shown(
    mode: str, lost: int, broker: RedisBroker, server: Server
) -> None:
    """Of 5 updates the replica misses the last `lost`; then the job ends at a lower, or
    the same, position as a client has seen. It has no new epoch yet: no node has noticed."""
    node = Node(broker)
    async with trio.open_nursery() as nursery:
        await nursery.start(node.run)
        sink = await node_with_a_client(node, nursery, mode)
        for done in range(1, 6):
            if done == 6 - lost:
                failover = Failover(server)
            seen = (await broker.publish("a", Update(done=done))).position
        await until_last(sink, done=5)
        failover.happen()
        await broker.publish("a", Update(status="failed", error="x"))
        await until_last(sink, status="failed")
        frames = sink.of("progress")
        assert frames[-1]["snapshot"] is True
        assert frames[-1]["epoch"] > seen.epoch
        assert await broker.positions(["a"]) == {"a": (frames[-1]["epoch"], frames[-1]["seq"])}
        nursery.cancel_scope.cancel()


async def test_whoever_reads_a_record_of_the_past_gets_a_new_position(
    broker: RedisBroker, server: Server
) -> None:
    async with broker.feed():
        for done in (1, 2, 3):
            receipt = await broker.publish("a", Update(done=done))
        await broker.publish("b", Update())
    failover = Failover(server)
    failover.happen()
    async with broker.feed() as feed:
        assert (await broker.positions(["a"]))["a"].epoch == 0
        event = (await broker.read(["a", "b"]))["a"]
        assert event.position.epoch > receipt.position.epoch
        assert (event.position.seq, event.state.done) == (1, 3)
        assert await broker.read(["a"]) == {"a": event}
        assert await broker.history("a", after=UNSEEN) == [event]
        with trio.fail_after(5):
            assert event in await feed.receive()
        assert (await broker.publish("a", Update(done=4))).position == (event.position.epoch, 2)


async def newest(broker: RedisBroker) -> State:
    return (await broker.read(["a"]))["a"].state


async def test_what_nodes_have_seen_is_brought_back(broker: RedisBroker, server: Server) -> None:
    """Each has seen something else, and the one that has seen most comes last."""
    data = Raw(b'{"a":[1.50]}')
    async with broker.feed():
        await broker.publish("a", Update(done=1, total=9, lease=7, run="r", start=True))
        failover = Failover(server)
        some = await broker.read(["a"])
        await broker.publish("a", Update(done=2.5, phase="é", data=data))
        more = await broker.read(["a"])
        await broker.publish("a", Update(status="failed", error="x"))
        end = await broker.read(["a"])
    failover.happen()
    async with broker.feed():
        await broker.restore([some["a"]])
        assert (await newest(broker)).done == 1
        for seen, known in ((more, more), (some, more), (end, end), (more, end)):
            await broker.restore([seen["a"]])
            assert await newest(broker) == known["a"].state
        position = (await broker.positions(["a"]))["a"]
        assert position.epoch > end["a"].position.epoch
        assert (await broker.publish("a", Update(done=3))).reason == "final"
        again = await broker.publish("a", Update(start=True, run="s"))
        assert (again.attempt, again.position.epoch) == (2, position.epoch)
        await broker.restore([end["a"]])
        assert (await newest(broker)).status == "running"


@pytest.mark.parametrize("status", ["running", "succeeded"])
async def test_a_job_that_was_flushed_is_brought_back(
    status: Any, broker: RedisBroker, server: Server
) -> None:
    async with broker.feed():
        await broker.publish("a", Update(percent=40))
        before = await broker.read(["a"])
        await broker.publish("a", Update(status=status, percent=50))
        seen = await broker.read(["a"])
        server.client.flushall()
        await broker.restore([before["a"]])
        await broker.restore([seen["a"]])
        event = (await broker.read(["a"]))["a"]
        assert event.state == seen["a"].state
        assert event.position > seen["a"].position
        page = await broker.recent(EVERY_JOB, limit=5, after=None)
        assert [event.job for event in page.events] == ["a"]
        assert server.client.zcard("progress:leases") == 1


async def test_what_a_worker_says_after_a_flush_is_not_overruled(
    broker: RedisBroker, server: Server
) -> None:
    async with broker.feed():
        await broker.publish("a", Update(status="succeeded"))
        seen = await broker.read(["a"])
        server.client.flushall()
        again = await broker.publish("a", Update(start=True, percent=1))
        await broker.restore([seen["a"]])
        assert again.attempt == 1
        assert (await newest(broker)).status == "running"


async def test_an_end_that_the_replica_missed_is_not_taken_back(
    broker: RedisBroker, server: Server
) -> None:
    node = Node(broker)
    async with trio.open_nursery() as nursery:
        await nursery.start(node.run)
        sink = await node_with_a_client(node, nursery, "every")
        await broker.publish("a", Update(done=1))
        failover = Failover(server)
        seen = (await broker.publish("a", Update(status="succeeded"))).position
        await until_last(sink, status="succeeded")
        failover.happen()
        await eventually(lambda: sink.of("progress")[-1]["epoch"] > seen.epoch)
        assert [frame["state"]["status"] for frame in sink.of("progress")[-2:]] == ["succeeded"] * 2
        nursery.cancel_scope.cancel()


async def test_the_same_server_is_no_other_era(broker: RedisBroker, server: Server) -> None:
    position = (await broker.publish("a", Update())).position
    for _ in range(2):
        async with broker.feed():
            assert (await broker.publish("a", Update(done=1))).position >= position
            assert (await broker.read(["a"]))["a"].position.epoch == position.epoch
        server.client.client_kill_filter(_type="normal", skipme=True)
        broker.close()


async def test_a_flushed_server_whose_clock_is_behind_gives_no_epoch_again(
    broker: RedisBroker, server: Server
) -> None:
    far = 2**52  # an epoch of the year 2112: so this server's clock is behind
    async with broker.feed() as feed:
        server.client.hset("progress:counters", "epoch", far)
        seen = (await broker.publish("a", Update())).position
        with trio.fail_after(5):
            while not await feed.receive():
                pass
        server.client.flushall()
        await broker.publish("a", Update(done=5))
        with trio.fail_after(5):
            while not server.client.hexists("progress:counters", "era"):  # the look's own pace
                await feed.receive()
        event = (await broker.read(["a"]))["a"]
    assert seen.epoch > far
    assert event.position.epoch > seen.epoch
    assert event.state.done == 5


async def test_a_replica_takes_no_updates_so_the_node_is_away(
    broker: RedisBroker, server: Server
) -> None:
    async with broker.feed() as feed:
        server.client.execute_command("REPLICAOF", "127.0.0.1", "1")
        await eventually(lambda: "replica" in (broker.away or ""))
        server.client.execute_command("REPLICAOF", "NO", "ONE")
        with trio.fail_after(5):
            assert await feed.receive() == LOST
        assert broker.away is None
