"""A server that may have lost writes begins a new generation: see `lua/failover.lua`.

The tests lose writes like a failover: earlier data of the server replaces the current data, and the
server gets another replication id (`REPLICAOF NO ONE`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import pytest
import trio
from msgspec import Raw
from msgspec.structs import astuple

from gateway import BrokerUnavailable, Node
from gateway.brokers.base import FEED_RESET
from gateway.brokers.redis import failover, poller
from gateway.brokers.redis.broker import RedisBroker
from gateway.brokers.redis.links import RedisConnector
from gateway.brokers.redis.servers import open_servers
from gateway.brokers.redis.url import parse_address
from gateway.model.patterns import EVERY_JOB
from gateway.model.state import (
    UNSEEN,
    Children,
    Event,
    Position,
    Request,
    RequestUpdate,
    State,
    Update,
)
from tests.brokers.redis.server import Server, redis_server
from tests.e2e.conftest import eventually
from tests.fakes import FakeSource, Sink

T = TypeVar("T")

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
    monkeypatch.setattr(poller, "CHECK_INTERVAL", 0.02)
    monkeypatch.setattr(poller, "BLOCK", 0.02)


class Failover:
    """Remember the server's current data as the replica's."""

    def __init__(self, server: Server, *more: str) -> None:
        self._client = server.client
        self._dumps = {key: server.client.dump(f"progress:{key}") for key in (*KEYS, *more)}

    def clear(self) -> None:
        """Lets the replica have no data."""
        self._dumps = dict.fromkeys(self._dumps)

    def happen(self) -> None:
        with self._client.pipeline() as pipeline:
            pipeline.execute_command("REPLICAOF", "127.0.0.1", "1")
            pipeline.execute_command("REPLICAOF", "NO", "ONE")
            for key, dump in self._dumps.items():
                pipeline.delete(f"progress:{key}")
                if dump is not None:
                    pipeline.restore(f"progress:{key}", 0, dump)
            pipeline.execute()


async def node_with_a_client(node: Node, nursery: trio.Nursery, mode: str) -> Sink:
    source, sink = FakeSource(), Sink()
    nursery.start_soon(node.serve, source, sink)
    await source.send(type="subscribe", jobs=["a"], mode=mode)
    return sink


async def until_last(sink: Sink, **wanted: object) -> None:
    def is_there() -> bool:
        states = [frame["state"] for frame in sink.frames_of("progress") if frame["state"]]
        return bool(states) and wanted.items() <= states[-1].items()

    await eventually(is_there)


@pytest.mark.parametrize("mode", ["latest", "every"])
@pytest.mark.parametrize("lost", [1, 3])
async def test_an_end_at_a_reused_position_is_shown(
    mode: str, lost: int, broker: RedisBroker, server: Server
) -> None:
    """The replica misses the last `lost` of 5 updates. Then the job ends at the same position that
    a client has seen, or a lower one, in the same epoch, because no node has detected the loss."""
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
        frames = sink.frames_of("progress")
        assert frames[-1]["snapshot"] is True
        assert frames[-1]["epoch"] > seen.epoch
        assert await broker.positions(["a"]) == {"a": (frames[-1]["epoch"], frames[-1]["seq"])}
        nursery.cancel_scope.cancel()


async def test_a_record_of_an_earlier_generation_gets_a_new_position_when_read(
    broker: RedisBroker, server: Server
) -> None:
    async with broker.feed():
        for done in (1, 2, 3):
            receipt = await broker.publish("a", Update(done=done))
        await broker.publish("b", Update(lease=30))
    failover = Failover(server)
    failover.happen()
    broker = RedisBroker(server.url)  # another node, which has seen nothing
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
    broker.close()


async def restore(server: Server, events: list[Event]) -> None:
    """Registers and sends the states that were seen, like a node's poller."""
    address = parse_address(server.url)
    connector = RedisConnector(open_servers(address, calls=1))
    limiter = trio.CapacityLimiter(1)
    link = await connector.connect("progress:feed", name="observer", limiter=limiter)
    await failover.restore(link, address.layout.shards[0], events)
    link.close()
    connector.close_idle_connections()


async def _register(
    server: Server, name: str, *, newest_epoch: int = 0, repaired: int | None = None
) -> tuple[int, int, bool]:
    """Registers a node that has followed no server before."""
    address = parse_address(server.url)
    connector = RedisConnector(open_servers(address, calls=1))
    link = await connector.connect("progress:feed", name=name, limiter=trio.CapacityLimiter(1))
    result = await failover.register(
        link,
        address.layout.shards[0],
        failover.Registration(name, 128, 86_400.0),
        server=link.server,
        followed=b"",
        newest_epoch=newest_epoch,
        repaired=repaired,
    )
    link.close()
    connector.close_idle_connections()
    return result


async def newest(broker: RedisBroker) -> State:
    return (await broker.read(["a"]))["a"].state


async def when_possible(call: Callable[[], Awaitable[T]]) -> T:
    """Returns the result of the call. It is repeated while the broker refuses it because a
    generation begins."""
    with trio.fail_after(30):
        while True:
            try:
                return await call()
            except BrokerUnavailable:
                await trio.sleep(0.02)


async def test_states_that_nodes_have_seen_are_restored(
    broker: RedisBroker, server: Server
) -> None:
    """The nodes have seen different states, and the one with the newest states reconnects last."""
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
    broker = RedisBroker(server.url)  # another node, which has seen nothing
    async with broker.feed():
        await restore(server, [some["a"]])
        assert (await newest(broker)).done == 1
        for seen, known in ((more, more), (some, more), (end, end), (more, end)):
            await restore(server, [seen["a"]])
            assert await newest(broker) == known["a"].state
        position = (await broker.positions(["a"]))["a"]
        assert position.epoch > end["a"].position.epoch
        assert (await broker.publish("a", Update(done=3))).reason == "final"
        again = await broker.publish("a", Update(start=True, run="s"))
        assert (again.attempt, again.position.epoch) == (2, position.epoch)
        await restore(server, [end["a"]])
        assert (await newest(broker)).status == "running"
    broker.close()


@pytest.mark.parametrize("status", ["running", "succeeded"])
async def test_a_flushed_job_is_restored(status: Any, broker: RedisBroker, server: Server) -> None:
    async with broker.feed():
        await broker.publish("a", Update(percent=40))
        before = await broker.read(["a"])
        await broker.publish("a", Update(status=status, percent=50))
        events_before = await broker.read(["a"])
        server.client.flushall()
        await restore(server, [before["a"]])
        await restore(server, [events_before["a"]])
        event = (await when_possible(partial(broker.read, ["a"])))["a"]
        assert event.state == events_before["a"].state
        assert event.position > events_before["a"].position
        page = await when_possible(partial(broker.recent, EVERY_JOB, limit=5, after=None))
        assert [event.job for event in page.events] == ["a"]
        assert server.client.zcard("progress:leases") == 1


async def test_a_run_that_begins_after_a_flush_is_the_next_attempt(
    broker: RedisBroker, server: Server
) -> None:
    """The run becomes the attempt after the last one that nodes have seen. The worker has an
    earlier number; the broker accepts updates with either number."""
    for _ in range(3):
        await broker.publish("a", Update(start=True, status="failed"))
    events_before = await broker.read(["a"])
    server.client.flushall()
    again = await broker.publish("a", Update(start=True, percent=1))
    assert again.attempt == 1
    await restore(server, [events_before["a"]])
    assert ((await newest(broker)).status, (await newest(broker)).attempt) == ("running", 4)
    for attempt in (1, 4):
        update = Update(attempt=attempt, percent=10 * attempt)
        assert (await broker.publish("a", update)).attempt == 4
    assert (await newest(broker)).percent == 40
    await restore(server, [events_before["a"]])
    assert (await newest(broker)).percent == 40


@pytest.mark.parametrize("status", ["queued", "running"])
async def test_a_run_of_which_only_the_start_was_shown_is_the_same_attempt(
    status: Any, broker: RedisBroker, server: Server
) -> None:
    """Redis was restarted and has newer states than any node has read before."""
    await broker.publish("a", Update(start=True, run="r", status=status))
    events_before = await broker.read(["a"])
    await restore(server, [events_before["a"]])
    await broker.publish("a", Update(attempt=1, run="r", done=1))
    await restore(server, [events_before["a"]])
    assert ((await newest(broker)).done, (await newest(broker)).attempt) == (1, 1)


async def event_of(broker: RedisBroker, update: Update | RequestUpdate) -> Event:
    """Publishes an update of the job and returns the event, as a node would show it."""
    await broker.publish("a", update)
    return (await broker.read(["a"]))["a"]


async def test_a_queued_job_that_has_begun_since_it_was_shown_keeps_its_attempt(
    broker: RedisBroker, server: Server
) -> None:
    shown_event = await event_of(broker, Update(status="queued"))
    await trio.sleep(0.002)  # so that it begins in another millisecond
    begun_event = await event_of(broker, Update(start=True, run="r"))
    await restore(server, [shown_event])
    assert await broker.read(["a"]) == {"a": begun_event}
    assert begun_event.state.attempt == 1


async def test_a_worker_whose_number_was_raised_continues_after_another_loss(
    broker: RedisBroker, server: Server
) -> None:
    shown_event = await event_of(broker, Update(start=True, status="failed"))
    server.client.flushall()
    await trio.sleep(0.002)
    assert (await broker.publish("a", Update(start=True, run="r"))).attempt == 1
    before = Failover(server)
    await restore(server, [shown_event])
    raised = Failover(server)
    raised_event = await event_of(broker, Update(attempt=1, run="r", percent=50))
    assert raised_event.state.attempt == 2
    for replica in (raised, before):
        replica.happen()
        await restore(server, [raised_event])
        result = await broker.publish("a", Update(attempt=1, run="r", percent=60))
        assert (result.attempt, result.reason) == (2, None)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
async def test_the_order_in_which_nodes_restore_a_run_does_not_matter(
    order: tuple[int, int], broker: RedisBroker, server: Server
) -> None:
    update = Update(start=True, status="failed")
    shown_events = [await event_of(broker, update), await event_of(broker, update)]
    server.client.flushall()
    await trio.sleep(0.002)
    assert (await broker.publish("a", Update(start=True, run="r"))).attempt == 1
    for index in order:
        await restore(server, [shown_events[index]])
    result = await broker.publish("a", Update(attempt=1, run="r", percent=5))
    assert (result.attempt, result.reason) == (3, None)


async def test_an_end_is_restored_if_its_position_was_used_again(
    broker: RedisBroker, server: Server
) -> None:
    """Until a node has registered, workers can write to the server that has lost events."""
    await broker.publish("a", Update(percent=10))
    replica = Failover(server)
    shown_event = await event_of(broker, Update(status="cancelled"))
    replica.happen()
    result = await broker.publish("a", Update(percent=20))
    assert result.position == shown_event.position
    await restore(server, [shown_event])
    assert await newest(broker) == shown_event.state


async def test_a_larger_count_of_parts_is_restored(broker: RedisBroker, server: Server) -> None:
    await broker.publish("a", Update(done=80, part="x"))
    replica = Failover(server)
    shown_event = await event_of(broker, Update(done=21, part="y"))
    replica.happen()
    await trio.sleep(0.002)
    await broker.publish("a", Update(done=81, part="x"))
    await restore(server, [shown_event])
    assert (await newest(broker)).done == 101


@pytest.mark.parametrize("later", [None, Update(percent=5)])
async def test_a_request_that_was_lost_is_restored(
    later: Update | None, broker: RedisBroker, server: Server
) -> None:
    await broker.publish("a", Update(accepts=("cancel",)))
    replica = Failover(server)
    request = RequestUpdate(request=Request(id="r1", verb="cancel"))
    shown_event = await event_of(broker, request)
    replica.happen()
    if later is not None:
        await broker.publish("a", later)
    await restore(server, [shown_event])
    state = await newest(broker)
    assert (state.request, state.percent) == (shown_event.state.request, later and 5)
    assert (await broker.publish("a", request)).reason == "unchanged"


async def test_a_lost_job_whose_retention_is_over_is_not_restored(
    broker: RedisBroker, server: Server
) -> None:
    state = State(status="running", attempt=1, health="lost", created_at=1.0, updated_at=1.0)
    await restore(server, [Event("a", Position(5, 1), state)])
    assert await broker.read(["a"]) == {}


async def test_a_new_node_that_is_first_does_not_prevent_the_repair(
    broker: RedisBroker, server: Server
) -> None:
    """Redis has lost everything and is another server. A node that has followed no server before
    registers first."""
    async with broker.feed() as feed:
        shown_event = await event_of(broker, Update(status="succeeded"))
        new_broker = RedisBroker(server.url)
        replica = Failover(server)
        replica.clear()
        replica.happen()
        await _register(server, "new")
        with trio.fail_after(10):
            while await feed.receive() != FEED_RESET:
                pass
        for each in (broker, new_broker):
            event = (await when_possible(partial(each.read, ["a"])))["a"]
            assert event.state == shown_event.state
        new_broker.close()


async def test_a_second_feed_that_cannot_be_opened_does_not_affect_the_first(
    broker: RedisBroker, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: Any, **__: Any) -> Any:
        raise ConnectionError("refused")

    async with broker.feed():
        with monkeypatch.context() as patched:
            patched.setattr(poller, "register", refuse)
            with pytest.raises(BrokerUnavailable):
                async with broker.feed():
                    pass
        await eventually(lambda: broker.ready and broker.unavailable_reason is None)


async def test_a_record_that_cannot_get_a_new_position_is_not_shown(
    broker: RedisBroker, server: Server
) -> None:
    """Its log is another program's data, so nothing can be written for the job."""
    await broker.publish("a", Update(percent=5))
    Failover(server).happen()
    server.client.delete("progress:log:a")
    server.client.set("progress:log:a", "a text")
    async with broker.feed():
        await _begin_generation(server)
        assert await when_possible(partial(broker.read, ["a"])) == {}


async def test_an_event_that_was_read_from_the_history_is_restored(
    broker: RedisBroker, server: Server
) -> None:
    """A history may be ahead of the feed and of the record that was read before it."""
    await broker.publish("a", Update(percent=5))
    replica = Failover(server)
    shown_position = (await broker.publish("a", Update(status="succeeded"))).position
    assert (await broker.history("a", after=UNSEEN))[-1].position == shown_position
    replica.happen()
    async with broker.feed():
        await _begin_generation(server)
        assert (await when_possible(partial(broker.read, ["a"])))["a"].state.status == "succeeded"


async def _begin_generation(server: Server) -> None:
    """Lets another node begin a repair, and complete its part of it."""
    server.client.hset("progress:counters", "server", "another one")
    repair, _, _ = await _register(server, "other")
    await _register(server, "other", repaired=repair)


async def test_no_epoch_is_used_again_whichever_node_comes_first(server: Server) -> None:
    far = 2**52  # an epoch of the year 2112: so this server's clock is behind
    server.client.hset("progress:counters", mapping={"server": "old", "epoch": far})
    repair, _, _ = await _register(server, "one", newest_epoch=far + 1, repaired=0)
    await _register(server, "two", newest_epoch=far + 50, repaired=0)
    await trio.sleep(failover.MIN_RESTORE_TIME)
    for name in ("one", "two"):
        _, generation, is_open = await _register(server, name, repaired=repair)
    assert is_open
    assert generation > far + 50


async def test_a_broker_whose_feed_could_not_be_opened_refuses_calls(
    broker: RedisBroker, server: Server
) -> None:
    """Another node may have shown newer states than the server has."""
    await broker.publish("a", Update(percent=5))
    server.client.config_set("min-replicas-to-write", 1)
    waiting = RedisBroker(server.url)
    with pytest.raises(BrokerUnavailable):
        async with waiting.feed():
            pass
    assert not waiting.ready
    with pytest.raises(BrokerUnavailable, match="NOREPLICAS"):
        await waiting.read(["a"])
    server.client.config_set("min-replicas-to-write", 0)
    async with waiting.feed():
        assert (await waiting.read(["a"]))["a"].state.percent == 5
    waiting.close()


async def test_an_end_that_the_replica_has_missed_is_restored(
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
        await eventually(lambda: sink.frames_of("progress")[-1]["epoch"] > seen.epoch)
        assert [frame["state"]["status"] for frame in sink.frames_of("progress")[-2:]] == [
            "succeeded"
        ] * 2
        nursery.cancel_scope.cancel()


async def test_what_a_worker_writes_during_the_repair_is_not_in_the_history(
    broker: RedisBroker, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker writes to Redis directly, and is behind what clients have seen until its second
    update. So only the second one may be shown."""

    async def restore_after_the_worker(*arguments: Any) -> None:
        for percent in (20, 60):
            await worker.publish("a", Update(percent=percent))
        await failover.restore(*arguments)

    worker = RedisBroker(server.url)
    node = Node(broker)
    async with trio.open_nursery() as nursery:
        await nursery.start(node.run)
        sink = await node_with_a_client(node, nursery, "every")
        await broker.publish("a", Update(percent=10))
        replica = Failover(server)
        seen = (await broker.publish("a", Update(percent=50))).position
        await until_last(sink, percent=50)
        monkeypatch.setattr(poller, "restore", restore_after_the_worker)
        replica.happen()
        await until_last(sink, percent=60)
        source, again = FakeSource(), Sink()  # a client that returns
        nursery.start_soon(node.serve, source, again)
        await source.send(type="hello", positions={"a": list(seen)})
        await source.send(type="subscribe", jobs=["a"], mode="every")
        await until_last(again, percent=60)
        for frames in (sink.frames_of("progress"), again.frames_of("progress")):
            percents = [frame["state"]["percent"] for frame in frames if frame["state"]]
            assert percents == sorted(percents)
        nursery.cancel_scope.cancel()
    worker.close()


async def test_a_reconnect_to_the_same_server_begins_no_generation(
    broker: RedisBroker, server: Server
) -> None:
    position = (await broker.publish("a", Update(lease=30))).position
    for _ in range(2):
        async with broker.feed():
            assert (await broker.publish("a", Update(done=1))).position >= position
            assert (await broker.read(["a"]))["a"].position.epoch == position.epoch
        server.client.client_kill_filter(_type="normal", skipme=True)
        broker.close()


async def test_a_flushed_server_with_a_slow_clock_reuses_no_epoch(
    broker: RedisBroker, server: Server
) -> None:
    far = 2**52  # an epoch of the year 2112: so this server's clock is behind
    async with broker.feed() as feed:
        server.client.hset("progress:counters", "epoch", far)
        position_before = (await broker.publish("a", Update(lease=30))).position
        with trio.fail_after(5):
            while not await feed.receive():
                pass
        server.client.flushall()
        await when_possible(partial(broker.publish, "a", Update(done=5)))
        with trio.fail_after(5):
            while not server.client.hexists(
                "progress:counters", "generation"
            ):  # the interval of the poller's checks
                await feed.receive()
        event = (await when_possible(partial(broker.read, ["a"])))["a"]
    assert position_before.epoch > far
    assert event.position.epoch > position_before.epoch
    assert event.state.done == 5


async def test_a_replica_older_than_the_first_node_begins_a_generation(
    broker: RedisBroker, server: Server
) -> None:
    """The replica has no identity of a server yet. Its epochs are newer, because a worker has
    written to the replica since."""
    server.client.hset("progress:counters", "epoch", 2**52)
    written = await broker.publish("a", Update(start=True))
    failover = Failover(server)
    server.client.flushall()
    async with broker.feed() as feed:
        for _ in range(2):
            result_before = await broker.publish("a", Update(start=True))
        assert result_before.attempt == 2
        shown_position = UNSEEN
        with trio.fail_after(5):
            while shown_position != result_before.position:
                for event in await feed.receive():
                    shown_position = event.position
        failover.happen()
        await eventually(lambda: server.client.hexists("progress:counters", "generation"))
        with trio.fail_after(10):
            while await feed.receive() != FEED_RESET:
                pass
        event = (await broker.read(["a"]))["a"]
    assert result_before.position < written.position < event.position
    assert event.state.attempt == 2


async def test_a_replica_makes_the_broker_unavailable(broker: RedisBroker, server: Server) -> None:
    async with broker.feed() as feed:
        server.client.execute_command("REPLICAOF", "127.0.0.1", "1")
        await eventually(lambda: "replica" in (broker.unavailable_reason or ""))
        server.client.execute_command("REPLICAOF", "NO", "ONE")
        with trio.fail_after(5):
            assert await feed.receive() == FEED_RESET
        assert broker.unavailable_reason is None


@pytest.mark.parametrize("stage", ["open", "seen", "refused"])
async def test_a_restored_request_is_delivered_only_if_it_was_not_acknowledged(
    stage: str, broker: RedisBroker, server: Server
) -> None:
    await broker.publish("a", Update(accepts=("cancel",)))
    await broker.publish("a", RequestUpdate(request=Request(id="r", verb="cancel")))
    if stage != "open":
        refused = "not now" if stage == "refused" else None
        await broker.publish("a", Update(attempt=1, ack="r", refused=refused))
    event_before = (await broker.read(["a"]))["a"]
    server.client.flushall()
    await restore(server, [event_before])
    assert await newest(broker) == event_before.state
    result = await broker.publish("a", Update(attempt=1))
    assert (result.request is not None) == (stage == "open")
    for id_, applied in (("r", False), ("s", stage == "refused")):  # only a refused cancel ends
        request_update = RequestUpdate(request=Request(id=id_, verb="cancel"))
        assert (await broker.publish("a", request_update)).applied == applied


async def test_a_restored_request_of_a_sender_who_may_not_ask_all_below_is_not_passed_on(
    broker: RedisBroker, server: Server
) -> None:
    await broker.publish("a", Update(children=2, accepts=("cancel",)))
    await broker.publish("a", RequestUpdate(request=Request(id="r", verb="cancel", alone=True)))
    seen = (await broker.read(["a"]))["a"]
    server.client.flushall()
    await restore(server, [seen])
    assert (await newest(broker)).request is not None
    assert (await broker.publish("a/x", Update(accepts=("cancel",)))).request is None


async def test_a_group_continues_after_its_server_has_lost_children(
    broker: RedisBroker, server: Server
) -> None:
    """The replica has missed the end of one child and all of another."""
    node = Node(broker)
    async with trio.open_nursery() as nursery:
        await nursery.start(node.run)
        await broker.publish("a", Update(children=2))
        await broker.publish("a/x", Update(percent=10))
        keys = [f"{kind}:a/{name}" for kind in ("last", "log") for name in "xy"]
        failover = Failover(server, *keys, "children:a")
        await broker.publish("a/x", Update(status="succeeded"))
        await broker.publish("a/y", Update(percent=50))
        _, before, shown_state, _ = astuple((await broker.read(["a"]))["a"])
        assert (shown_state.percent, shown_state.children) == (
            75,
            Children(2, running=1, succeeded=1),
        )
        observed = broker._observed
        await eventually(
            lambda: "a/y" in observed._events and observed._events["a"].state == shown_state
        )
        failover.happen()

        with trio.fail_after(30):
            while True:
                await trio.sleep(0.02)
                with suppress(BrokerUnavailable):
                    event = (await broker.read(["a"]))["a"]
                    if event.position.epoch != before.epoch:
                        break
        assert (event.state.percent, event.state.children) == (75, shown_state.children)
        await broker.publish("a/y", Update(status="failed"))
        state = (await broker.read(["a"]))["a"].state
        assert (state.status, state.children) == ("failed", Children(2, succeeded=1, failed=1))
        nursery.cancel_scope.cancel()


async def test_a_restored_group_counts_the_reports_of_its_children_since_then(
    broker: RedisBroker, server: Server
) -> None:
    await broker.publish("a", Update(children=2))
    await broker.publish("a/x", Update(percent=10))
    await broker.publish("a/y", Update(percent=50))
    event_before = (await broker.read(["a"]))["a"]
    server.client.flushall()
    await broker.publish("a/x", Update(status="failed"))
    await restore(server, [event_before])
    state = await newest(broker)
    assert (state.status, state.children) == ("running", Children(2, failed=1))

    server.client.flushall()
    await broker.publish("a/x", Update(status="succeeded"))
    await broker.publish("a/y", Update(status="succeeded"))
    await restore(server, [event_before])
    state = await newest(broker)
    assert (state.status, state.children) == ("succeeded", Children(2, succeeded=2))


async def test_a_restored_group_counts_children_that_another_node_restores_later(
    broker: RedisBroker, server: Server
) -> None:
    await broker.publish("a", Update(children=2))
    seen = (await broker.read(["a"]))["a"]
    await broker.publish("a/x", Update(status="failed"))
    await broker.publish("a/y", Update(percent=50))
    children = await broker.read(["a/x", "a/y"])
    server.client.flushall()
    await restore(server, [seen])
    await restore(server, list(children.values()))
    state = await newest(broker)
    assert (state.percent, state.children) == (75, Children(2, running=1, failed=1))


async def test_a_group_in_a_restored_group_may_end_when_its_children_are_counted_again(
    broker: RedisBroker, server: Server
) -> None:
    """Its child had ended before a `start` opened its attempt. No state that was shown says it."""
    await broker.publish("a/n/x", Update(status="failed"))
    await broker.publish("a", Update(children=3))
    jobs = ("a/n", "a/b", "a/n/x")
    keys = [f"{kind}:{job}" for kind in ("last", "log") for job in jobs]
    replica = Failover(server, *keys, "children:a", "children:a/n")
    for run in ("r1", "r2"):
        await broker.publish("a/n", Update(children=1, start=True, run=run))
    await broker.publish("a/b", Update(status="succeeded"))
    events = await broker.read(["a", "a/n", "a/b"])
    assert events["a/n"].state.status == "running"
    replica.happen()
    await restore(server, list(events.values()))
    assert (await newest(broker)).children == Children(3, succeeded=1, failed=1)


async def test_a_restored_end_of_a_group_is_the_one_that_was_shown(
    broker: RedisBroker, server: Server
) -> None:
    """The server had lost the retry of a child, which had opened the group's attempt."""
    await broker.publish("a", Update(children=1))
    await broker.publish("a/x", Update(status="failed"))
    failover = Failover(server, "last:a/x", "log:a/x", "children:a")
    await broker.publish("a/x", Update(start=True, status="running"))
    await broker.publish("a/x", Update(status="succeeded"))
    events_before = await broker.read(["a", "a/x"])
    assert (events_before["a"].state.attempt, events_before["a"].state.status) == (2, "succeeded")
    failover.happen()
    await restore(server, [events_before["a/x"], events_before["a"]])
    assert await newest(broker) == events_before["a"].state
    await broker.publish("a/x", Update(start=True))
    assert (await newest(broker)).attempt == 3
