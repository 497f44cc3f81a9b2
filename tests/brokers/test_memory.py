"""Properties that only the memory broker has: its limits. The contract is in tests/contract."""

from __future__ import annotations

import gc
import tracemalloc

import trio
import trio.testing
from msgspec import Raw

from gateway import Limits, MemoryBroker
from gateway.model.patterns import EVERY_JOB
from gateway.model.state import UNSEEN, Update
from gateway.protocol.commands import parse_update
from tests.contract.brokers import collect

KIB = 1024


def bulk(number: int) -> Raw:
    """Returns 8 KiB of data, as a worker sends it, different for each number."""
    data = parse_update(b'{"data": "%08000d"}' % number).data
    assert isinstance(data, Raw)
    return data


async def lengths(broker: MemoryBroker, count: int) -> list[int]:
    """Returns the number of stored events of each of the jobs 0, 1, …; 0 for a dropped job."""
    return [len(await broker.history(str(job), after=UNSEEN)) for job in range(count)]


async def test_memory_is_always_available_and_of_one_node() -> None:
    broker = MemoryBroker()
    await broker.publish("a", Update(percent=1))
    assert (broker.unreadable, broker.lag, broker.unavailable_reason) == (0, 0, None)
    assert (broker.ready, broker.shared) == (True, False)
    async with broker.feed():
        await broker.publish("a", Update(percent=2))
        assert broker.lag == 1


async def test_the_size_of_all_jobs_is_limited() -> None:
    broker = MemoryBroker(Limits(jobs_bytes=2_000 * KIB))
    await broker.publish("first", Update(data=bulk(0)))
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(5_000):
            await broker.publish(str(number % 50), Update(data=bulk(number)))
        gc.collect()
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 1_500 * KIB < grown < 2_200 * KIB  # of 40,000 that were published
    assert list(await broker.read(["first"])) == ["first"]
    assert sum(await lengths(broker, 50)) > 200


async def test_histories_are_dropped_before_jobs_and_the_oldest_first() -> None:
    broker = MemoryBroker(Limits(jobs_bytes=100 * KIB, history=3))
    for job in range(4):
        for number in range(4):
            await broker.publish(str(job), Update(data=bulk(10 * job + number)))
    assert await lengths(broker, 4) == [1, 3, 3, 3]  # eleven fit
    # The first job has a new event, so the last event of the second is the oldest.
    for number in (100, 101):
        await broker.publish("0", Update(data=bulk(number)))
    assert await lengths(broker, 4) == [3, 1, 3, 3]
    for job in (2, 1, 1):
        await broker.publish(str(job), Update(data=bulk(102)))
        await broker.publish(str(job), Update(data=bulk(103)))
    assert await lengths(broker, 4) == [3, 3, 3, 1]
    for job in range(4, 14):
        await broker.publish(str(job), Update(data=bulk(10 * job)))
    assert await lengths(broker, 14) == [0, 1, 0, 0, *[1] * 10]
    for number in range(20):
        await broker.publish("1", Update(data=bulk(200 + number)))
    assert await lengths(broker, 14) == [0, 1, 0, 0, *[1] * 10]
    assert (await broker.read(["1"]))["1"].state.data == bulk(219)


async def test_a_job_that_is_larger_than_the_limit_is_the_only_one() -> None:
    broker = MemoryBroker(Limits(jobs_bytes=4 * KIB))
    for job in range(3):
        await broker.publish(str(job), Update(data=bulk(job)))
    assert await lengths(broker, 3) == [0, 0, 1]


async def test_an_unchanged_text_is_counted_once() -> None:
    broker = MemoryBroker(Limits(jobs_bytes=120 * KIB))
    for job in range(2):
        await broker.publish(str(job), Update(data=bulk(job), message="m" * 1_000))
        for done in range(79):
            await broker.publish(str(job), Update(done=done))
    assert await lengths(broker, 2) == [80, 80]


async def test_dropped_jobs_are_not_counted() -> None:
    now = 0.0
    limits = Limits(jobs_bytes=100 * KIB, history=4, max_jobs=5, retention=60)
    broker = MemoryBroker(limits, monotonic=lambda: now)
    for round_ in range(50):
        for job in range(7):
            for number in range(3):
                await broker.publish(str(job), Update(data=bulk(1_000 * round_ + number)))
        now += 361  # lost after ten leases, and dropped after the retention
        await broker.expire_leases()
        assert await lengths(broker, 7) == [0] * 7
    for job in range(2):
        for number in range(9):
            await broker.publish(str(job), Update(data=bulk(number)))
    assert await lengths(broker, 2) == [4, 4]


async def test_lists_run_one_at_a_time_with_other_tasks_between() -> None:
    broker = MemoryBroker()
    list_count = 0

    async def make_one() -> None:
        nonlocal list_count
        await broker.recent(EVERY_JOB, limit=5, after=None)
        list_count += 1

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(make_one)
        before = 0
        with trio.fail_after(5):
            while list_count < 10:
                await trio.lowlevel.checkpoint()
                assert (
                    list_count - before <= 2
                )  # one list a pass: one before this in the first pass, one after it in the last
                before = list_count


async def test_a_feed_that_is_not_read_delays_publishers_and_loses_no_events() -> None:
    broker = MemoryBroker()
    published = 0

    async def publish_for_ever() -> None:
        nonlocal published
        while True:
            published += 1
            await broker.publish("a", Update(done=published))

    async with trio.open_nursery() as nursery, broker.feed() as feed:
        nursery.start_soon(publish_for_ever)
        await trio.testing.wait_all_tasks_blocked()
        stuck_at = published
        assert stuck_at < 20_000
        events = await collect(feed, stuck_at - 1)
        assert [e.position.seq for e in events] == list(range(1, stuck_at))
        await trio.testing.wait_all_tasks_blocked()
        assert published > stuck_at
        nursery.cancel_scope.cancel()


async def test_the_lag_of_the_feed_is_reported() -> None:
    broker = MemoryBroker()
    assert broker.lag == 0
    async with broker.feed() as feed:
        for percent in range(3):
            await broker.publish("a", Update(percent=percent))
        assert broker.lag == 3
        await feed.receive()
        assert broker.lag == 0


async def test_the_number_of_jobs_is_limited() -> None:
    broker = MemoryBroker(Limits(max_jobs=3))
    for number in range(5):
        await broker.publish(f"j{number}", Update(lease=30))
    await broker.publish("j2", Update(percent=1))
    await broker.publish("j9", Update(lease=30))
    page = await broker.recent(EVERY_JOB, limit=10, after=None)
    assert [event.job for event in page.events] == ["j9", "j2", "j4"]


async def test_a_publisher_of_many_jobs_displaces_only_its_own() -> None:
    broker = MemoryBroker(Limits(max_jobs=50))
    for number in range(5):
        await broker.publish(f"mine:{number}", Update(status="succeeded"), publisher="me")
    for number in range(500):
        await broker.publish(f"junk:{number}", Update(percent=1), publisher="other")
    assert len(await broker.read([f"mine:{number}" for number in range(5)])) == 5
    newest = await broker.read([f"junk:{number}" for number in range(500)])
    assert sorted(newest) == sorted(f"junk:{number}" for number in range(455, 500))
    for number in range(40):  # a later publisher displaces jobs of the one that has most
        await broker.publish(f"new:{number}", Update(percent=1), publisher="third")
    kept_counts = dict.fromkeys(("mine", "junk", "new"), 0)
    page = await broker.recent(EVERY_JOB, limit=99, after=None)
    for event in page.events:
        kept_counts[event.job.partition(":")[0]] += 1
    assert kept_counts == {"mine": 5, "junk": 28, "new": 17}  # a third, as long as others use less


async def test_a_publisher_of_much_data_displaces_only_its_own_histories() -> None:
    broker = MemoryBroker(Limits(jobs_bytes=300 * KIB))
    for number in range(10):
        await broker.publish("mine", Update(data=bulk(number)), publisher="me")
    for number in range(300):
        await broker.publish(f"big:{number % 9}", Update(data=bulk(number)), publisher="other")
    assert len(await broker.history("mine", after=UNSEEN)) == 10


async def test_many_leases_that_expire_at_once_do_not_block_other_tasks() -> None:
    now = 0.0
    broker = MemoryBroker(Limits(max_jobs=20_000), monotonic=lambda: now)
    for number in range(10_000):
        await broker.publish(f"j{number}", Update(lease=1))
    now = 2.0
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with broker.feed() as feed, trio.open_nursery() as nursery:
        nursery.start_soon(others)
        longest = 0

        async def read() -> None:
            nonlocal longest
            async for events in feed:
                longest = max(longest, len(events))

        nursery.start_soon(read)
        assert await broker.expire_leases() == 10_000
        nursery.cancel_scope.cancel()
    assert turns >= 40
    assert longest <= 1_000
