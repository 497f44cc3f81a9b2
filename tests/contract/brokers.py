"""The brokers of the contract tests. A new broker gets a row in `BROKERS`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import trio
from attrs import define
from trio.abc import ReceiveChannel

from gateway import Broker, Limits, MemoryBroker
from gateway.brokers.redis.broker import RedisBroker
from gateway.brokers.redis.url import parse_address
from gateway.model.state import Event, Position, Update
from tests.brokers.redis.cluster import session_cluster
from tests.brokers.redis.server import CLOCK, session_server, using_test_clock
from tests.faults.stores import session_watched_store

__all__ = ["BROKERS", "LIMITS", "BrokerUnderTest", "collect"]

LIMITS = Limits(history=5, max_jobs=50, retention=3600, list_scan=30, list_bytes=20_000)
SETTINGS = {"history": LIMITS.history, "retention": LIMITS.retention}
"""The settings that a node's feed writes into Redis; most tests here have no feed."""


@define
class BrokerUnderTest:
    """A broker, and a function that advances its clock."""

    broker: Broker
    tick: Callable[[float], Awaitable[None]]

    async def publish(self, job: str, **fields: Any) -> Position:
        return (await self.broker.publish(job, Update(**fields))).position


@asynccontextmanager
async def memory() -> AsyncIterator[BrokerUnderTest]:
    now = 1_000_000.0

    async def tick(seconds: float) -> None:
        nonlocal now
        now += seconds

    yield BrokerUnderTest(MemoryBroker(LIMITS, clock=lambda: now, monotonic=lambda: now), tick)


@asynccontextmanager
async def redis() -> AsyncIterator[BrokerUnderTest]:
    server = session_server()
    server.client.set(CLOCK, 1_000_000)
    server.client.hset("progress:counters", mapping=SETTINGS)

    async def tick(seconds: float) -> None:
        server.client.incrbyfloat(CLOCK, seconds)
        pass_time(server.client, "progress", seconds)

    with using_test_clock():
        broker = RedisBroker(server.url, LIMITS)
    yield BrokerUnderTest(broker, tick)
    broker.close()


def pass_time(client: Any, prefix: str, seconds: float) -> None:
    """Checks leases all the time: a pause would count as a step of the clock."""
    if client.hexists(f"{prefix}:counters", "checked_at"):
        client.hincrbyfloat(f"{prefix}:counters", "checked_at", seconds)


@asynccontextmanager
async def sentinel() -> AsyncIterator[BrokerUnderTest]:
    store = session_watched_store()
    await store.command("FLUSHALL")
    await store.command("SET", CLOCK, 1_000_000)
    for name, value in SETTINGS.items():
        await store.command("HSET", "progress:counters", name, str(value))

    async def tick(seconds: float) -> None:
        await store.command("INCRBYFLOAT", CLOCK, str(seconds))
        if await store.command("HEXISTS", "progress:counters", "checked_at"):
            await store.command("HINCRBYFLOAT", "progress:counters", "checked_at", str(seconds))

    with using_test_clock():
        broker = RedisBroker(store.url, LIMITS)
    yield BrokerUnderTest(broker, tick)
    broker.close()


@asynccontextmanager
async def cluster() -> AsyncIterator[BrokerUnderTest]:
    cluster = session_cluster()
    url = f"{cluster.url}?shards=3"
    clocks = [f"{shard.feed}:clock" for shard in parse_address(url).layout.shards]
    for clock in clocks:
        cluster.owner(clock).set(clock, 1_000_000)
        counters = clock.replace(":feed:clock", ":counters")
        cluster.owner(clock).hset(counters, mapping=SETTINGS)

    async def tick(seconds: float) -> None:
        for clock in clocks:
            cluster.owner(clock).incrbyfloat(clock, seconds)
            pass_time(cluster.owner(clock), clock.removesuffix(":feed:clock"), seconds)

    with using_test_clock():
        broker = RedisBroker(url, LIMITS)
    yield BrokerUnderTest(broker, tick)
    broker.close()


BROKERS: dict[str, Callable[[], AbstractAsyncContextManager[BrokerUnderTest]]] = {
    "memory": memory,
    "redis": redis,
    "sentinel": sentinel,
    "cluster": cluster,
}


async def collect(feed: ReceiveChannel[Sequence[Event]], count: int) -> list[Event]:
    events: list[Event] = []
    with trio.fail_after(5):
        while len(events) < count:
            events += await feed.receive()
    return events
