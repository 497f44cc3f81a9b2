"""When the poller reads, checks, reconnects and restores. Virtual time, and a scripted Redis."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from random import Random
from typing import Any

import pytest
import trio
import trio.testing
from attrs import define, field
from redis import RedisError
from trio.testing import MockClock, wait_all_tasks_blocked

from gateway.brokers.base import FEED_RESET
from gateway.brokers.redis import failover, poller
from gateway.brokers.redis.calls import Calls
from gateway.brokers.redis.failover import POLL_INTERVAL, Registration
from gateway.brokers.redis.keys import Shard
from gateway.brokers.redis.links import Command
from gateway.brokers.redis.poller import (
    BACKOFF,
    BLOCK,
    CHECK_INTERVAL,
    MIN_REQUESTED_CHECK_INTERVAL,
    TICK,
    Poller,
)
from gateway.brokers.redis.scripts import FAILOVER, RESTORE
from gateway.model.state import Event, Position, State

from .scripted import ScriptedConnector, ScriptedLink

SHARD = Shard("progress")


@define(eq=False)
class Redis:
    """A server with a feed. Its entries are numbered from 1; the id of number 7 is 7-0."""

    run_id: str = "one"
    role: str = "master"
    repair: int = 1
    opens_at: float = 0.0
    """When all nodes have restored their states, on Trio's clock."""
    entries: list[bytes] = field(factory=list)
    reads: list[float] = field(factory=list)
    """When the feed was read."""
    registered: list[tuple[float, Any]] = field(factory=list)
    """When the node registered, and the repair for which it had restored its states."""
    newest_epochs: list[int] = field(factory=list)
    """The newest epochs that it knew then."""
    restored: list[list[Any]] = field(factory=list)
    """The jobs of each call that restores."""
    records: dict[str, list[bytes | None]] = field(factory=dict)
    """The fields `codec.COMPARED` of the jobs, by key."""
    added: trio.Event = field(factory=trio.Event)

    def add(self, job: str = "a", *, epoch: int = 5) -> None:
        number = len(self.entries) + 1
        self.entries.append(
            b'[%d,"%b",%d,%d,{"status":"running","health":"ok","attempt":1,"created_at":1.0,'
            b'"updated_at":1.0}]' % (number, job.encode(), epoch, number)
        )
        self.wake()

    @property
    def is_open(self) -> bool:
        return trio.current_time() >= self.opens_at

    @property
    def generation(self) -> int:
        """It moves when the server opens."""
        return self.repair + self.is_open

    def wake(self) -> None:
        self.added.set()
        self.added = trio.Event()

    def answer(self, command: Command) -> Any:
        match command:
            case ("INFO", "server"):
                return f"# Server\r\nrun_id:{self.run_id}\r\n".encode()
            case ("INFO", "replication"):
                return f"# Replication\r\nrole:{self.role}\r\n".encode()
            case ("EVALSHA", FAILOVER.sha, *more):
                self.registered.append((trio.current_time(), more[-4]))
                self.newest_epochs.append(more[-6])
                return [self.repair, self.generation, int(self.is_open)]
            case ("EVALSHA", RESTORE.sha, count, *more):
                keys = more[4 : int(count)]
                self.restored.append([key.removeprefix("progress:last:") for key in keys[::2]])
            case ("HGET", _, "generation"):
                return b"%d" % self.generation
            case ("HMGET", key, *_):
                return self.records.get(key, [None] * 8)
            case ("EXEC",):
                number = len(self.entries)
                return [[b"last-generated-id", b"%d-0" % number], b"%d" % number]
            case ("XREAD", _, most, *_, last):
                self.reads.append(trio.current_time())
                first_ms = int(last.partition("-")[0])
                entries = [
                    (b"%d-0" % number, [b"event", entry])
                    for number, entry in enumerate(
                        self.entries[first_ms : first_ms + most], first_ms + 1
                    )
                ]
                return [[b"progress:feed", entries]] if entries else None
        return b""


@define(eq=False)
class FeedLink(ScriptedLink):
    """A link to such a server, which blocks while there are no entries."""

    redis: Redis = field(kw_only=True)

    async def execute(self, commands: Sequence[Command], *convert: Any) -> Any:
        answers = await ScriptedLink.execute(self, commands, *convert)
        if commands[0][0] == "XREAD" and answers == [None]:
            with trio.move_on_after(commands[0][4] / 1000):
                await self.redis.added.wait()
            self.redis.reads.pop()
            answers = await ScriptedLink.execute(self, commands, *convert)
        return answers

    def close(self) -> None:
        ScriptedLink.close(self)
        self.redis.wake()


class Following:
    """A poller that is running, and what it has delivered."""

    def __init__(self, redis: Redis, *, links: int) -> None:
        self.redis = redis
        self.links = [FeedLink(redis.answer, redis=redis) for _ in range(links)]
        self.connector = ScriptedConnector(list[ScriptedLink](self.links))
        self.calls = Calls(
            self.connector, SHARD, trio.CapacityLimiter(1), on_wrong_server=lambda shard: None
        )
        self.observed: list[Event] = []
        self.recorded = 0
        self.batches: list[list[int]] = []
        """The numbers of the delivered events; empty for a reset."""
        self.poller = Poller(
            self.connector,
            SHARD,
            calls=[self.calls],
            registration=Registration("n", history=5, retention=60.0),
            observed=lambda: self.observed,
            record_observed=self.record,
            random=Random(1),
        )

    def record(self, events: Any) -> None:
        self.recorded += len(events)

    @property
    def delivered(self) -> int:
        return sum(map(len, self.batches))

    @property
    def resets(self) -> int:
        return self.batches.count([])

    async def run(self) -> None:
        await self.poller.open()
        send, received = trio.open_memory_channel[Sequence[Event]](0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.poller.follow, send)
            async for batch in received:
                assert (batch == FEED_RESET) == (not batch)
                self.batches.append([event.position.seq for event in batch])
                assert self.recorded == self.delivered, "recorded before they are delivered"


@asynccontextmanager
async def following(redis: Redis, *, links: int = 1) -> AsyncIterator[Following]:
    setup = Following(redis, links=links)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(setup.run)
        await wait_all_tasks_blocked()
        yield setup
        nursery.cancel_scope.cancel()


async def test_events_before_the_start_are_not_delivered(autojump_clock: MockClock) -> None:
    redis = Redis()
    redis.add()
    async with following(redis) as setup:
        redis.add()
        await trio.sleep(1)
        assert setup.batches == [[2]]


async def test_while_there_are_no_events_a_read_blocks(autojump_clock: MockClock) -> None:
    redis = Redis()
    async with following(redis):
        await trio.sleep(20 * BLOCK)
        assert 19 <= len(redis.reads) <= 21


@pytest.mark.parametrize(("batch", "pause"), [(10, TICK), (1, 0.0)])
async def test_reads_are_a_tick_apart_unless_a_batch_is_full(
    batch: int, pause: float, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poller, "BATCH", batch)
    redis = Redis()
    async with following(redis) as setup:
        for _ in range(5):
            redis.add()
        await trio.sleep(0.001)
        for _ in range(5):
            redis.add()
        await trio.sleep(5 * TICK)
        assert setup.delivered == 10
        assert len(setup.batches) == (2 if batch == 10 else 10)
        began = redis.reads[:-1]
        assert all(later - earlier >= pause for earlier, later in pairwise(began))
        assert began[-1] - began[0] == pytest.approx(pause, abs=0.001 if batch == 1 else 1e-9)


async def test_the_server_is_checked_every_interval(autojump_clock: MockClock) -> None:
    redis = Redis()
    async with following(redis) as setup:
        before = len(redis.registered)
        await trio.sleep(10 * CHECK_INTERVAL)
        assert 9 <= len(redis.registered) - before <= 10
        assert (setup.resets, setup.poller.statistics().losses) == (0, 0)


async def test_a_primary_that_the_sentinels_have_replaced_is_left(
    autojump_clock: MockClock,
) -> None:
    redis = Redis()
    async with following(redis, links=2) as setup:
        setup.links[0].current = False
        await trio.sleep(CHECK_INTERVAL + BLOCK + BACKOFF[0])
        assert (setup.links[0].closed, setup.links[1].closed) == (True, False)
        assert setup.batches == [[]]  # after an outage all jobs are compared


async def test_pauses_between_attempts_to_connect_grow_up_to_the_longest(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gateway.brokers.redis")
    redis = Redis()
    async with following(redis) as setup:
        assert setup.poller.statistics().connected
        for _ in range(2):
            setup.connector.links.clear()
            attempts = len(setup.connector.connected_at)
            began = trio.current_time()
            setup.poller._link.close()  # type: ignore[union-attr]  # it is connected
            await trio.sleep(10)
            statistics = setup.poller.statistics()
            assert (statistics.connected, bool(statistics.error)) == (False, True)
            at = [began, *setup.connector.connected_at[attempts:]]
            pauses = [later - earlier for earlier, later in pairwise(at)]
            for number, pause in enumerate(pauses[1:], start=1):
                longest = min(BACKOFF[0] * 2**number, BACKOFF[1])
                assert longest / 2 <= pause <= longest
            assert 20 <= len(pauses) <= 45
            setup.connector.links.append(FeedLink(redis.answer, redis=redis))
            await trio.sleep(1)
            assert setup.poller.statistics().connected
            assert setup.poller.statistics().error is None
    messages = [record.getMessage().split(": ")[1] for record in caplog.records]
    assert messages == ["unavailable", "reconnected"] * 2


async def test_an_outage_closes_the_idle_connections_of_calls(autojump_clock: MockClock) -> None:
    redis = Redis()
    async with following(redis) as setup:
        idle = FeedLink(redis.answer, redis=redis)
        idle.server = b"one "
        setup.connector.links.append(idle)
        await setup.calls.read([("PING",)], lambda answers: answers)
        setup.links[0].close()
        await trio.sleep(1)
        assert idle.closed


async def test_events_that_arrive_during_an_outage_are_read_afterwards(
    autojump_clock: MockClock,
) -> None:
    redis = Redis()
    async with following(redis, links=2) as setup:
        setup.links[0].close()
        redis.add()
        await trio.sleep(1)
        assert setup.batches == [[], [1]]
        assert setup.poller.statistics().losses == 0


async def test_a_loss_is_counted_logged_and_delivered_after_the_events(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    redis = Redis()
    async with following(redis) as setup:
        redis.entries.append(b"?")
        redis.add()
        await trio.sleep(1)
        assert setup.batches == [[2], []]
        statistics = setup.poller.statistics()
        assert (statistics.losses, statistics.number, statistics.cursor) == (1, 2, "2-0")
    assert [record.levelname for record in caplog.records] == ["WARNING"]


async def test_a_server_with_the_same_generation_is_checked_soon_if_a_call_suspects_it(
    autojump_clock: MockClock,
) -> None:
    redis = Redis()
    async with following(redis, links=3) as setup:
        await trio.sleep(1)
        attempts = setup.connector.connected_at
        setup.poller.check_server_soon()
        await trio.sleep(0.1)
        assert len(attempts) == 2
        for _ in range(5):
            setup.poller.check_server_soon()  # too soon after the last one
        await trio.sleep(MIN_REQUESTED_CHECK_INTERVAL - 0.1)
        assert len(attempts) == 2
        setup.poller.check_server_soon()
        await trio.sleep(0.1)
        assert len(attempts) == 3


async def test_a_check_that_is_running_is_not_disturbed(autojump_clock: MockClock) -> None:
    redis = Redis()
    async with following(redis, links=2) as setup:
        redis.run_id, redis.repair = "two", 7
        redis.opens_at = trio.current_time() + 10
        await trio.sleep(CHECK_INTERVAL + BLOCK)
        setup.poller.check_server_soon()
        await trio.sleep(1)
        assert not setup.links[0].closed


async def test_states_are_restored_once_and_calls_wait_until_all_nodes_have_done_so(
    autojump_clock: MockClock,
) -> None:
    redis = Redis()
    async with following(redis) as setup:
        for job in ("g/s/a", "g", "x", "g/s", "same"):
            state = State(status="running", attempt=1, created_at=1.0, updated_at=1.0)
            setup.observed.append(Event(job, Position(5, 1), state))
        redis.records["progress:last:same"] = [b"5", b"1", b"1", None, None, b"1", b"running", None]
        redis.run_id, redis.repair = "two", 7
        redis.opens_at = opens_at = trio.current_time() + 5
        redis.registered.clear()
        await trio.sleep(CHECK_INTERVAL + BLOCK)
        assert not setup.calls.ready
        redis.add(epoch=7)
        await trio.sleep(opens_at - trio.current_time() - 0.001)
        assert (setup.calls.ready, setup.batches) == (False, [])
        await trio.sleep(POLL_INTERVAL + 0.001)
        assert redis.restored == [["g", "x", "g/s", "g/s/a"]]  # groups come first
        assert [restored for _, restored in redis.registered[:2]] == [1, 7]
        pauses = [b - a for (a, _), (b, _) in pairwise(redis.registered[1:])]
        assert pauses == pytest.approx([POLL_INTERVAL] * len(pauses))
        await trio.sleep(1)
        assert setup.batches == [[]]  # events of the repair are of no use
        redis.add(epoch=8)
        await trio.sleep(1)
        assert setup.batches == [[], [2]]


async def test_a_server_learns_the_newest_epoch_that_the_node_knows(
    autojump_clock: MockClock,
) -> None:
    redis = Redis()
    async with following(redis) as setup:
        redis.add(epoch=9)
        await trio.sleep(CHECK_INTERVAL + BLOCK)
        assert redis.newest_epochs[-1] == 9
        redis.repair = 12
        await trio.sleep(2 * CHECK_INTERVAL + BLOCK)
        assert redis.newest_epochs[-1] == 13  # the generation of repair 12
        assert setup.resets == 1


async def test_a_node_is_not_connected_until_the_others_have_restored_their_states(
    autojump_clock: MockClock,
) -> None:
    redis = Redis()
    async with following(redis, links=2) as setup:
        redis.run_id, redis.repair = "two", 7
        redis.opens_at = trio.current_time() + 5
        setup.links[0].close()
        await trio.sleep(3)
        assert not setup.poller.statistics().connected
        await trio.sleep(3)
        assert setup.poller.statistics().connected


async def test_a_link_is_not_closed_while_it_is_set_up(autojump_clock: MockClock) -> None:
    redis = Redis()
    async with following(redis, links=2) as setup:
        await trio.sleep(1)
        setup.links[1].takes = 0.5
        setup.links[0].close()
        await trio.sleep(BACKOFF[0] + 0.1)
        setup.poller.check_server_soon()
        await trio.sleep(10)
        assert not setup.links[1].closed


@pytest.mark.parametrize("wrong", ["replica", "cancelled"])
async def test_a_poller_that_cannot_be_opened_leaves_no_connection(
    wrong: str, autojump_clock: MockClock
) -> None:
    redis = Redis(role="slave" if wrong == "replica" else "master")
    setup = Following(redis, links=1)
    assert not setup.poller.statistics().connected
    if wrong == "replica":
        with pytest.raises(RedisError, match="replica"):
            await setup.poller.open()
    else:
        setup.links[0].takes = 5.0
        with trio.move_on_after(7) as scope:
            await setup.poller.open()
        assert scope.cancelled_caught
    assert setup.links[0].closed


async def test_following_leaves_no_connection(autojump_clock: MockClock) -> None:
    async with following(Redis()) as setup:
        await trio.sleep(1)
        assert not setup.links[0].closed
    assert setup.links[0].closed


async def test_many_states_are_compared_and_restored_in_parts(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failover, "COMPARE_BATCH", 3)
    monkeypatch.setattr(failover, "RESTORE_BATCH", 2)
    redis = Redis()
    async with following(redis) as setup:
        state = State(status="running", attempt=1, created_at=1.0, updated_at=1.0)
        setup.observed += [Event(job, Position(5, 1), state) for job in "abcdefg"]
        redis.repair = 7
        await trio.sleep(CHECK_INTERVAL + BLOCK)
        assert redis.restored == [["a", "b"], ["c"], ["d", "e"], ["f"], ["g"]]
