"""A set that no longer changes equals the list that its filter gives, after any events.

Jobs start, end, are tried again and forgotten; the feed loses events, with and without saying so;
the broker's lists fail; clients are slow, change what they watch, and get other rights. Each seed
is another history. Then all is left alone for a while, and each client's picture is compared with
the broker's. `Replica` holds its client to the rules of the protocol.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import msgspec
import pytest
import trio
import trio.testing
from attrs import define, field
from trio.testing import MockClock

from gateway import Limits, MemoryBroker, Node
from gateway.auth.authenticator import Authenticator
from gateway.auth.key_sources import KeySources
from gateway.auth.permissions import LEEWAY
from gateway.brokers.base import FEED_RESET, JobFilter, Page
from gateway.model.errors import BrokerUnavailable
from gateway.model.patterns import EVERY_JOB
from gateway.model.state import Event, State, Status, Update
from gateway.model.statuses import FINAL, STATUSES
from tests.auth.signing import NOW, SECRET, sign

from ..fakes import FakeSource, PromptSink, Sink, SlowSink

SEEDS = range(12)
STEPS = 120
PREFIXES = ("", "a:", "a:1", "b:", "b:x/")
ALL_ALONG = 9
"""The id of a set that each client watches from the beginning to the end."""
RIGHTS = (["*"], ["a:*"], ["a:*", "b:*"], ["a:1*", "b:x/1"])


def wall() -> float:
    return NOW + trio.current_time()


class UnreliableBroker(MemoryBroker):
    """A broker whose feed loses events while `losing`, and afterwards reports the loss unless it is
    `silent`. It refuses lists while `away`, and `forget` drops a job."""

    losing = silent = away = lost = False

    async def recent(
        self, jobs: JobFilter, *, status: Status | None = None, limit: int, after: str | None
    ) -> Page:
        if self.away:
            await trio.lowlevel.checkpoint()
            raise BrokerUnavailable("away")
        return await super().recent(jobs, status=status, limit=7, after=after)

    @asynccontextmanager
    async def feed(
        self, *, observed: Callable[[], Iterable[Event]] = tuple
    ) -> AsyncIterator[trio.abc.ReceiveChannel[Sequence[Event]]]:
        async with super().feed(observed=observed) as channel:
            yield _Lossy(channel, self)

    def forget(self, job: str) -> None:
        if job in self._jobs:
            self._drop(job)


@define
class _Lossy(trio.abc.ReceiveChannel[Sequence[Event]]):
    channel: trio.abc.ReceiveChannel[Sequence[Event]]
    broker: UnreliableBroker
    kept: Sequence[Event] | None = None

    async def receive(self) -> Sequence[Event]:
        if self.kept is not None:
            kept, self.kept = self.kept, None
            await trio.lowlevel.checkpoint()
            return kept
        while True:
            batch = await self.channel.receive()
            if not self.broker.losing:
                break
            self.broker.lost = True
        if self.broker.lost:
            self.broker.lost = False
            if not self.broker.silent:
                self.kept = batch
                return FEED_RESET
        return batch

    async def aclose(self) -> None:
        await self.channel.aclose()


@define
class Replica:
    """What a client knows from its frames alone."""

    sink: Sink
    source: FakeSource = field(factory=FakeSource)
    watched: dict[Any, tuple[str, list[Status], int]] = field(factory=dict)
    rights: list[str] = field(factory=list)
    sets: dict[Any, dict[str, Any]] = field(factory=dict)
    states: dict[str, dict[str, Any]] = field(factory=dict)
    owed: set[str] = field(factory=set)
    """What the set that it watches all along shows, or has shown since its snapshot and has not
    ended yet: the client is owed their ends."""
    read: int = 0

    def follow(self) -> None:
        frames, self.read = self.sink.frames[self.read :], len(self.sink.frames)
        for frame in frames:
            if frame["type"] == "set":
                before = self.sets.get(frame["id"])
                if frame["prev"] is None:
                    assert frame["snapshot"]
                else:
                    assert before is not None
                    assert (before["epoch"], before["seq"]) == (frame["epoch"], frame["prev"])
                    assert frame["seq"] > frame["prev"]
                self.sets[frame["id"]] = frame
                if frame["id"] == ALL_ALONG:
                    owed = self.owed if frame["prev"] else ()
                    self.owed = {job for job in owed if not self.ended(job)} | set(frame["jobs"])
            elif frame["type"] == "progress":
                state = self.states.get(frame["job"])
                if frame["prev"] is not None:
                    assert state is not None
                    assert (state["epoch"], state["seq"]) == (frame["epoch"], frame["prev"])
                self.states[frame["job"]] = frame
                if self.ended(frame["job"]) and frame["job"] not in self.sets[ALL_ALONG]["jobs"]:
                    self.owed.discard(frame["job"])
            else:
                assert frame["type"] in ("welcome", "subscriptions", "ping", "feed")

    async def show_token(self, rights: list[str]) -> None:
        self.rights = rights
        claims = {"exp": wall() + 100_000 - LEEWAY, "watch": rights}
        await self.source.send(type="hello", token=sign(claims))

    def ended(self, job: str) -> bool:
        """Returns whether the client has received the job's end, or that the job is unknown."""
        if job not in self.states:
            return False
        state = self.states[job]["state"]
        return state is None or state["status"] in FINAL

    def may(self, prefix: str) -> bool:
        return any(p.endswith("*") and prefix.startswith(p[:-1]) for p in self.rights)


def expected(
    states: dict[str, State], prefix: str, statuses: list[Status], limit: int
) -> tuple[dict[Status, int], int, list[str]]:
    """Returns the filtered list: the counts, the number of jobs, and the ids that are shown."""
    members = {job: state for job, state in states.items() if job.startswith(prefix)}
    counts = {
        status: sum(state.status == status for state in members.values()) for status in STATUSES
    }
    wanted = [(job, state) for job, state in members.items() if state.status in statuses]

    def order(item: tuple[str, State]) -> tuple[bool, float, str]:
        job, state = item
        at = state.finished_at if state.final else (state.started_at or state.created_at)
        assert at is not None
        return state.final, -at, job

    jobs = [job for job, _ in sorted(wanted, key=order)]
    return counts, len(jobs), jobs[:limit]


async def step(random: Random, broker: UnreliableBroker, clients: list[Replica]) -> None:
    job = random.choice(("a:", "b:", "b:x/", "a:1/")) + str(random.randrange(12))
    client = random.choice(clients)
    match random.randrange(24):
        case 0:
            broker.forget(job)
        case 1:
            broker.losing, broker.silent = True, random.random() < 0.3
        case 2:
            broker.losing = False
        case 3:
            broker.away = random.random() < 0.5
        case 4:
            await client.show_token(list(random.choice(RIGHTS)))
        case 5:
            id_ = random.randrange(3)
            statuses = random.sample(STATUSES, random.choice((1, 2, 5)))
            client.watched[id_] = random.choice(PREFIXES), statuses, random.choice((1, 3, 10))
            prefix, statuses, limit = client.watched[id_]
            await client.source.send(
                type="watch_set", id=id_, prefix=prefix, statuses=statuses, limit=limit
            )
        case 6 if len(client.watched) > 1:
            id_ = random.choice([id_ for id_ in client.watched if id_ != ALL_ALONG])
            del client.watched[id_]
            await client.source.send(type="unwatch_set", id=id_)
        case 7:
            type_ = random.choice(("subscribe", "unsubscribe"))
            await client.source.send(type=type_, jobs=[job])
        case 8 | 9:
            await broker.publish(job, Update(start=True))
        case 10 | 11:
            await broker.publish(job, Update(start=True, status="queued"))
        case 12 | 13 | 14 | 15:
            await broker.publish(job, Update(status=random.choice(tuple(sorted(FINAL)))))
        case _:
            await broker.publish(job, Update(percent=random.randrange(100)))
    await trio.sleep(random.choice((0, 0, 0.001, 0.01, 0.3)))


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_set_converges_to_the_filtered_list(autojump_clock: MockClock, seed: int) -> None:
    random = Random(seed)
    limits = Limits(ping_interval=1_000)
    broker = UnreliableBroker(limits, clock=wall, monotonic=trio.current_time)
    authenticator = Authenticator(KeySources(secret=SECRET), limits=limits, clock=wall)
    node = Node(broker, limits=limits, authenticator=authenticator)
    async with trio.open_nursery() as nursery:
        await nursery.start(node.run)
        sinks = [Sink(), PromptSink(), SlowSink(takes=0.3), SlowSink(takes=1.5)]
        clients = [Replica(sink) for sink in sinks]
        for client in clients:
            nursery.start_soon(node.serve, client.source, client.sink)
            await client.show_token(["*"])
            await client.source.send(type="watch_set", id=ALL_ALONG, prefix="", limit=10)
            client.watched[ALL_ALONG] = "", list(STATUSES), 10
        for _ in range(STEPS):
            await step(random, broker, clients)
            for client in clients:
                client.follow()
        broker.losing = broker.away = False
        await broker.publish("c:last", Update(status="running"))
        # The silent losses are found by comparing, and a slow client takes its time.
        await trio.sleep(2 * 1.2 * limits.compare_interval + 20)
        page = await MemoryBroker.recent(broker, EVERY_JOB, limit=10_000, after=None)
        states = {event.job: event.state for event in page.events}
        positions = {event.job: event.position for event in page.events}
        for client in clients:
            client.follow()
            check(client, states, positions)
        nursery.cancel_scope.cancel()


def check(client: Replica, states: dict[str, State], positions: dict[str, Any]) -> None:
    for id_, (prefix, statuses, limit) in client.watched.items():
        received_set = client.sets[id_]
        assert received_set["prefix"] == prefix
        known = states if client.may(prefix) else {}
        counts, total, jobs = expected(known, prefix, statuses, limit)
        assert (received_set["counts"], received_set["total"], received_set["jobs"]) == (
            counts,
            total,
            jobs,
        )
        for job in jobs:
            frame = client.states[job]
            assert (frame["epoch"], frame["seq"]) == positions[job]
            assert frame["state"] == msgspec.to_builtins(states[job])
    # Every end of a job that was shown has arrived, whether it is still shown or not.
    for job in client.owed if client.may("") else ():
        if job in states and states[job].final:
            frame = client.states[job]
            assert (frame["epoch"], frame["seq"]) == positions[job], job
