"""What any broker must do: the promises of `gateway.broker.Broker`, one by one.

A broker joins by a row in `BROKERS`. Its time moves by `tick`, so nothing here waits.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import msgspec
import pytest
import trio
import trio.testing
from attrs import define
from msgspec.structs import replace
from trio.abc import ReceiveChannel

from gateway import Broker, InvalidInput, Limits, MemoryBroker
from gateway.auth.patterns import EVERY_JOB, Patterns
from gateway.brokers.redis import RedisBroker
from gateway.job import Event, Position, Update
from gateway.storage.address import parse_address
from tests.brokers.cluster import session_cluster
from tests.brokers.server import CLOCK, session_server, using_test_clock
from tests.faults.stores import session_watched_store
from tests.traceparents import OTHER, SPAN

LIMITS = Limits(history=5, max_jobs=50, retention=3600, page_looks=30, page_bytes=20_000)


@define
class Bench:
    """A broker, and a hand on its clock."""

    broker: Broker
    tick: Callable[[float], Awaitable[None]]

    async def publish(self, job: str, **fields: Any) -> Position:
        return (await self.broker.publish(job, Update(**fields))).position


@asynccontextmanager
async def memory() -> AsyncIterator[Bench]:
    now = 1_000_000.0

    async def tick(seconds: float) -> None:
        nonlocal now
        now += seconds

    yield Bench(MemoryBroker(LIMITS, clock=lambda: now, monotonic=lambda: now), tick)


@asynccontextmanager
async def redis() -> AsyncIterator[Bench]:
    server = session_server()
    server.client.set(CLOCK, 1_000_000)

    async def tick(seconds: float) -> None:
        server.client.incrbyfloat(CLOCK, seconds)

    with using_test_clock():
        broker = RedisBroker(server.url, LIMITS)
    yield Bench(broker, tick)
    broker.close()


@asynccontextmanager
async def sentinel() -> AsyncIterator[Bench]:
    store = session_watched_store()
    await store.command("FLUSHALL")
    await store.command("SET", CLOCK, 1_000_000)

    async def tick(seconds: float) -> None:
        await store.command("INCRBYFLOAT", CLOCK, str(seconds))

    with using_test_clock():
        broker = RedisBroker(store.url, LIMITS)
    yield Bench(broker, tick)
    broker.close()


@asynccontextmanager
async def cluster() -> AsyncIterator[Bench]:
    cluster = session_cluster()
    url = f"{cluster.url}?shards=3"
    clocks = [f"{shard.feed}:clock" for shard in parse_address(url).layout.shards]
    for clock in clocks:
        cluster.owner(clock).set(clock, 1_000_000)

    async def tick(seconds: float) -> None:
        for clock in clocks:
            cluster.owner(clock).incrbyfloat(clock, seconds)

    with using_test_clock():
        broker = RedisBroker(url, LIMITS)
    yield Bench(broker, tick)
    broker.close()


BROKERS: dict[str, Callable[[], AbstractAsyncContextManager[Bench]]] = {
    "memory": memory,
    "redis": redis,
    "sentinel": sentinel,
    "cluster": cluster,
}


@pytest.fixture(params=sorted(BROKERS))
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    async with BROKERS[request.param]() as bench:
        yield bench


async def collect(feed: ReceiveChannel[Sequence[Event]], count: int) -> list[Event]:
    events: list[Event] = []
    with trio.fail_after(5):
        while len(events) < count:
            events += await feed.receive()
    return events


async def test_publish_read_and_history_agree(bench: Bench) -> None:
    assert await bench.broker.read(["a"]) == {}
    assert await bench.broker.history("a", after=Position(0, 0)) == []
    receipt = await bench.broker.publish("a", Update(start=True, total=4, done=1))
    assert (receipt.applied, receipt.attempt, receipt.position.seq) == (True, 1, 1)
    second = await bench.publish("a", done=2)
    assert second == (receipt.position.epoch, 2)

    assert await bench.broker.positions(["b", "a"]) == {"a": second}
    assert await bench.broker.positions([]) == {}
    event = (await bench.broker.read(["b", "a"]))["a"]
    assert (event.job, event.position, event.state.percent) == ("a", second, 50)
    history = await bench.broker.history("a", after=Position(0, 0))
    assert [one.state.done for one in history] == [1, 2]
    assert await bench.broker.history("a", after=receipt.position) == [event]


async def test_rejections_say_why_and_change_nothing(bench: Bench) -> None:
    await bench.publish("a", attempt=2, percent=5)
    before = await bench.broker.read(["a"])
    stale = await bench.broker.publish("a", Update(attempt=1, percent=50))
    same = await bench.broker.publish("a", Update(percent=5))
    assert (stale.reason, same.reason) == ("stale_attempt", "unchanged")
    assert (stale.attempt, stale.position) == (2, before["a"].position)
    assert await bench.broker.read(["a"]) == before
    await bench.publish("a", status="succeeded")
    assert (await bench.broker.publish("a", Update(percent=50))).reason == "final"


async def test_what_it_knows_it_need_not_be_told(bench: Bench) -> None:
    await bench.publish("a", percent=1)
    before = await bench.broker.read(["a"])
    await bench.publish("a", percent=2)
    now = await bench.broker.read(["a"])
    for seen in (before, now):
        await bench.broker.restore([seen["a"]])
        assert await bench.broker.read(["a"]) == now
    await bench.broker.restore([])


async def test_history_is_bounded_and_keeps_the_newest(bench: Bench) -> None:
    for percent in range(1, 10):
        await bench.publish("a", percent=percent)
    history = await bench.broker.history("a", after=Position(0, 0))
    assert [event.position.seq for event in history] == [5, 6, 7, 8, 9]


async def test_the_feed_has_all_from_its_opening_on_in_order(bench: Bench) -> None:
    await bench.publish("a", percent=1)
    async with bench.broker.feed() as feed, bench.broker.feed() as other:
        for percent in (2, 3, 3, 4):
            await bench.publish("a", percent=percent)
            await bench.publish("b", percent=percent)
        for each in (feed, other):
            events = await collect(each, 6)
            assert [e.state.percent for e in events if e.job == "a"] == [2, 3, 4]
            assert [e.position.seq for e in events if e.job == "b"] == [1, 2, 3]


async def test_a_traceparent_goes_through_the_feeds_and_is_kept_nowhere(bench: Bench) -> None:
    async with bench.broker.feed() as feed, bench.broker.feed() as other:
        await bench.publish("a", percent=1, lease=1, traceparent=SPAN)
        again = await bench.broker.publish("a", Update(percent=1, traceparent=OTHER))
        assert again.reason == "unchanged"
        await bench.publish("a", percent=2, traceparent=OTHER)
        await bench.publish("a", percent=3)
        await bench.tick(2)
        await bench.broker.reap()
        for each in (feed, other):
            events = await collect(each, 4)
            assert [event.traceparent for event in events] == [SPAN, OTHER, None, None]
    untraced = [replace(event, traceparent=None) for event in events]
    assert await bench.broker.history("a", after=Position(0, 0)) == untraced
    await bench.broker.restore(events)
    assert await bench.broker.read(["a"]) == {"a": untraced[-1]}
    assert (await bench.broker.recent(EVERY_JOB, limit=5, after=None)).events == untraced[-1:]


async def test_leases_stalled_lost_and_back(bench: Bench) -> None:
    await bench.publish("a", lease=10, percent=5)
    await bench.tick(9)
    assert (await bench.broker.publish("a", Update())).reason == "unchanged"
    await bench.tick(9)
    assert await bench.broker.reap() == 0

    async with bench.broker.feed() as feed:
        await bench.tick(2)
        assert await bench.broker.reap() == 1
        assert await bench.broker.reap() == 0
        await bench.tick(88)
        assert await bench.broker.reap() == 0
        await bench.tick(2)
        assert await bench.broker.reap() == 1
        await bench.tick(1000)
        assert await bench.broker.reap() == 0
        await bench.publish("a")
        events = await collect(feed, 3)
    assert [event.state.health for event in events] == ["stalled", "lost", "ok"]
    assert [event.position.seq for event in events] == [2, 3, 4]
    assert all(event.state.percent == 5 for event in events)


async def test_after_an_outage_of_all_nodes_both_lapses_come(bench: Bench) -> None:
    await bench.publish("a", lease=1)
    await bench.tick(100)
    assert [await bench.broker.reap() for _ in range(3)].count(0) >= 1
    assert (await bench.broker.read(["a"]))["a"].state.health == "lost"
    assert (await bench.broker.read(["a"]))["a"].position.seq == 3


@pytest.mark.parametrize("status", ["queued", "succeeded", "failed", "cancelled"])
async def test_no_lease_when_nobody_works_on_it(bench: Bench, status: Any) -> None:
    await bench.publish("a", status=status, lease=1)
    await bench.tick(1000)
    assert await bench.broker.reap() == 0


async def test_a_shorter_lease_counts_at_once(bench: Bench) -> None:
    await bench.publish("a", lease=1000)
    await bench.publish("a", lease=1)
    await bench.tick(2)
    assert await bench.broker.reap() == 1


async def test_a_job_is_forgotten_after_its_retention_and_then_is_a_new_one(bench: Bench) -> None:
    first = await bench.publish("a", status="succeeded")
    await bench.tick(3500)
    await bench.publish("b", lease=600)
    await bench.tick(200)
    await bench.broker.reap()
    assert list(await bench.broker.read(["a", "b"])) == ["b"]
    again = await bench.publish("a")
    assert again.seq == 1
    assert again.epoch > first.epoch


async def test_recent_pages_newest_first_with_filters(bench: Bench) -> None:
    for number in range(5):
        await bench.publish(f"x:{number}", percent=1)
        await bench.publish(f"y:{number}", status="failed")
        await bench.tick(1)
    await bench.publish("x:1", percent=2)

    async def names(prefix: str = "", **query: Any) -> list[list[str]]:
        pages = []
        after = None
        while True:
            page = await bench.broker.recent(EVERY_JOB.within(prefix), after=after, **query)
            pages.append([event.job for event in page.events])
            after = page.next
            if after is None:
                return pages

    assert await names(limit=4, prefix="x:") == [["x:1", "x:4", "x:3", "x:2"], ["x:0"]]
    assert await names(limit=9, status="failed") == [["y:4", "y:3", "y:2", "y:1", "y:0"]]
    assert await names(limit=5, prefix="z") == [[]]
    assert await names(limit=5, prefix="y", status="running") == [[]]
    assert await names(limit=1, prefix="x:0") == [["x:0"]]


async def test_what_is_not_asked_for_makes_no_page(bench: Bench) -> None:
    for number in range(5):
        await bench.publish(f"user:7:{number}", percent=1)
        await bench.publish(f"user:9:{number}", percent=1)
        await bench.tick(1)
    mine = Patterns.parse(["user:7:*", "user:9:0"])
    page = await bench.broker.recent(mine, limit=5, after=None)
    assert page.next is not None
    rest = await bench.broker.recent(mine, limit=5, after=page.next)
    assert rest.next is None
    found = [event.job for event in [*page.events, *rest.events]]
    assert sorted(found) == [*(f"user:7:{number}" for number in range(5)), "user:9:0"]
    for others in (["user:8:*"], ["user:9"], []):
        page = await bench.broker.recent(Patterns.parse(others), limit=1, after=None)
        assert (list(page.events), page.next) == ([], None)


async def test_a_page_ends_when_it_has_looked_far_enough(bench: Bench) -> None:
    await bench.publish("x:old", percent=1)
    await bench.publish("x:older", status="failed")
    for number in range(45):
        await bench.publish(f"y:{number}", percent=1)
        await bench.tick(1)
    for query in ({"jobs": EVERY_JOB.within("x:")}, {"jobs": EVERY_JOB, "status": "failed"}):
        page = await bench.broker.recent(**query, limit=5, after=None)
        assert (list(page.events), page.next is None) == ([], False)
        found, pages = [], 1
        while page.next is not None:
            page = await bench.broker.recent(**query, limit=5, after=page.next)
            found += [event.job for event in page.events]
            pages += 1
        assert sorted(found) == (["x:older"] if "status" in query else ["x:old", "x:older"])
        assert pages <= 47 / 10 + 1  # of each of three shards, a third


async def test_a_page_ends_when_it_is_long_enough(bench: Bench) -> None:
    for number in range(6):
        await bench.publish(f"big:{number}", data=msgspec.Raw(b'"%s"' % (b"x" * 8_000)))
    lengths, after = [], None
    while True:
        page = await bench.broker.recent(EVERY_JOB, limit=50, after=after)
        lengths.append(len(page.events))
        after = page.next
        if after is None:
            break
    assert lengths == [3, 3]  # the first that is over 20,000 bytes is the last


async def test_a_job_of_a_nodes_own_is_like_any_other_but_in_no_list(bench: Bench) -> None:
    async with bench.broker.feed() as feed:
        position = await bench.publish("!canary:x", status="queued")
        assert [event.job for event in await collect(feed, 1)] == ["!canary:x"]
    assert await bench.broker.positions(["!canary:x"]) == {"!canary:x": position}
    await bench.publish("a")
    page = await bench.broker.recent(EVERY_JOB, limit=5, after=None)
    assert [event.job for event in page.events] == ["a"]


@pytest.mark.parametrize("after", ["", "x", "-1", "1e9", "9" * 30])
async def test_a_wrong_page_is_named(bench: Bench, after: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        await bench.broker.recent(EVERY_JOB, limit=5, after=after)
    assert caught.value.field == "after"
