"""With every broker, a set becomes the list that its filter gives.

It contains the jobs from before it was watched, later ones, and those whose events an interrupted
feed has lost.
"""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
import trio
from attrs import define, field

from gateway import Broker, Node
from gateway.model.limits import DEFAULT_LIMITS
from gateway.model.patterns import EVERY_JOB
from gateway.model.state import Event, Status, Update
from gateway.model.statuses import FINAL, STATUSES
from gateway.protocol.commands import WatchSet

from ..fakes import FakeSource, PromptSink
from .brokers import BrokerUnderTest

SETS: list[tuple[str, list[Status], int]] = [
    ("", list(STATUSES), 200),
    ("a:", ["running", "failed"], 5),
    ("a:1", list(STATUSES), 3),
    ("b:x/", ["succeeded"], 50),
]


async def churn(random: Random, tested: BrokerUnderTest, times: int) -> None:
    for _ in range(times):
        job = random.choice(("a:", "b:", "b:x/")) + str(random.randrange(15))
        status = random.choice((*STATUSES, "running", "running"))
        await tested.broker.publish(job, Update(start=random.random() < 0.4, status=status))
        if random.random() < 0.3:
            await tested.tick(1)


async def everything(broker: Broker) -> list[Event]:
    events: list[Event] = []
    after: str | None = None
    while True:
        page = await broker.recent(EVERY_JOB, limit=200, after=after)
        events += page.events
        after = page.next_cursor
        if after is None:
            return events


def filtered(
    events: list[Event], prefix: str, statuses: list[Status], limit: int
) -> tuple[int, list[str]]:
    def order(event: Event) -> tuple[bool, float, str]:
        state = event.state
        at = state.finished_at if state.final else (state.started_at or state.created_at)
        assert at is not None
        return state.status in FINAL, -at, event.job

    jobs_found = [
        event for event in events if event.job.startswith(prefix) and event.state.status in statuses
    ]
    return len(jobs_found), [event.job for event in sorted(jobs_found, key=order)][:limit]


@define
class NoisySink(PromptSink):
    """Sets an event when a frame is written."""

    written: trio.Event = field(factory=trio.Event)

    def write(self) -> None:
        PromptSink.write(self)
        self.written.set()
        self.written = trio.Event()


class SetClient:
    """Watches all of `SETS` from the start."""

    def __init__(self) -> None:
        self.source, self.sink = FakeSource(), NoisySink()

    async def run(self, node: Node) -> None:
        sets = [
            WatchSet(prefix=prefix, statuses=statuses, limit=limit, id=id_)
            for id_, (prefix, statuses, limit) in enumerate(SETS)
        ]
        await node.serve(self.source, self.sink, sets=sets)

    def shows(self, events: list[Event]) -> bool:
        last_sets: dict[int, Any] = {frame["id"]: frame for frame in self.sink.frames_of("set")}
        states = {frame["job"]: frame for frame in self.sink.frames_of("progress")}
        positions = {event.job: event.position for event in events}
        for id_, (prefix, statuses, limit) in enumerate(SETS):
            total, jobs = filtered(events, prefix, statuses, limit)
            if id_ not in last_sets or (last_sets[id_]["total"], last_sets[id_]["jobs"]) != (
                total,
                jobs,
            ):
                return False
            if any(
                job not in states or (states[job]["epoch"], states[job]["seq"]) != positions[job]
                for job in jobs
            ):
                return False
        return True

    async def wait_until_shown(self, events: list[Event]) -> None:
        with trio.fail_after(30):
            while not self.shows(events):
                await self.sink.written.wait()


@pytest.mark.parametrize("seed", range(1))
async def test_a_set_converges_to_the_filtered_list(tested: BrokerUnderTest, seed: int) -> None:
    random = Random(seed)
    await churn(random, tested, 40)
    node = Node(tested.broker, limits=DEFAULT_LIMITS)
    first_client, second_client = SetClient(), SetClient()
    async with trio.open_nursery() as nursery:
        await nursery.start(node.run)
        nursery.start_soon(first_client.run, node)
        await churn(random, tested, 40)
        nursery.start_soon(second_client.run, node)
        await churn(random, tested, 20)
        events = await everything(tested.broker)
        await first_client.wait_until_shown(events)
        await second_client.wait_until_shown(events)
        for (_, seq), (prev, _) in zip(
            _positions(first_client), _positions(first_client)[1:], strict=False
        ):
            assert prev == seq
        nursery.cancel_scope.cancel()


def _positions(client: SetClient) -> list[tuple[int | None, int]]:
    return [
        (frame["prev"], frame["seq"]) for frame in client.sink.frames_of("set") if frame["id"] == 0
    ]
