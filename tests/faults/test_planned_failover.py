"""A planned failover by a Sentinel: the old primary still accepts writes while clients read."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import count

import redis
import trio

from gateway.brokers.redis.scripts import FUNCTIONS
from tests.brokers.redis.server import Server

from .processes import Node
from .readers import READERS, Reader, taken_back
from .rollback import Workers, until_seen
from .stores import open_watched_store

JOBS = [f"handed-over:{number}" for number in range(6)]
ENDED = JOBS[:3]


class OldWorker:
    """A worker that stays connected to the old primary until that accepts no more writes."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.was_refused = False

    async def run(self, job: str, chance: random.Random) -> None:
        workers = Workers(self._server)
        for step in count():
            try:
                await workers.try_to_publish(job, "message", str(step))
            except redis.ReadOnlyError:
                self.was_refused = True
                return
            await trio.sleep(chance.uniform(0.005, 0.05))


async def feed_readers(server: Server) -> list[str]:
    """Returns the names of the connections that read the feed there."""
    client = server.client
    found = await trio.to_thread.run_sync(lambda: client.client_list(_type="normal"))
    return [connection["name"] for connection in found if connection["name"].endswith(":feed")]


def inconsistencies_of_an_epoch(readers: Sequence[Reader]) -> Iterator[str]:
    """Yields the violations seen by a reader that changes between nodes: a lower position of an
    epoch than before, or two states at one position. (For some seconds the nodes may use different
    primaries.)"""
    for reader in readers:
        seen: dict[tuple[str, int, int], object] = {}
        newest: dict[tuple[str, int], int] = {}
        for reading in reader.readings:
            if (
                seen.setdefault((reading.job, reading.epoch, reading.seq), reading.state)
                != reading.state
            ):
                yield f"{reader.name}: two states at one position: {reading}"
            if reading.seq < newest.setdefault((reading.job, reading.epoch), reading.seq):
                yield f"{reader.name}: a lower position of an epoch: {reading}"
            newest[reading.job, reading.epoch] = max(
                newest[reading.job, reading.epoch], reading.seq
            )


async def test_nodes_leave_a_writable_old_primary_and_no_state_is_taken_back() -> None:
    seed = random.randrange(10**9)
    chance = random.Random(seed)
    store = open_watched_store()
    with ExitStack() as stack:
        stack.callback(store.close)
        await store.in_step()
        nodes = [stack.enter_context(Node(f"node {name}", store.url)) for name in "AB"]
        for node in nodes:
            await node.serving()
        await store.command("FUNCTION", "LOAD", "REPLACE", FUNCTIONS)
        workers = Workers(store.server)
        ports = [node.port for node in nodes]
        of_one = [
            Reader(kind, f"{kind} of {port}", JOBS, [port]) for kind in READERS for port in ports
        ]
        of_all = [Reader(kind, f"{kind} of both", JOBS, ports) for kind in READERS]
        readers = of_one + of_all
        async with trio.open_nursery() as nursery:
            for job in JOBS:
                await workers.publish(job, "percent", 10, "status", "running")
            for reader in readers:
                nursery.start_soon(reader.run)
            await until_seen(readers, JOBS, lambda state: state.get("percent", 0) >= 10)
            for job in ENDED:
                await workers.publish(job, "status", "succeeded")
            await until_seen(readers, ENDED, lambda state: state["status"] == "succeeded")
            old = await store.hand_over()
            worker = OldWorker(old)
            nursery.start_soon(worker.run, JOBS[4], chance)
            with trio.fail_after(20):
                while await feed_readers(old):  # noqa: ASYNC110 - of another process
                    await trio.sleep(0.05)
            assert not worker.was_refused, "the nodes left when the old primary was demoted"
            await Workers(store.server).publish(JOBS[5], "status", "succeeded")
            ended_jobs = [*ENDED, JOBS[5]]
            await until_seen(readers, ended_jobs, lambda state: state["status"] == "succeeded")
            nursery.cancel_scope.cancel()
        problems = list(taken_back(of_one)) + list(inconsistencies_of_an_epoch(of_all))
        last_states = {
            (reader.name, reading.job): reading.state
            for reader in readers
            for reading in reader.readings
        }
        problems += [
            f"{reader.name} has at last of {job}: {last_states.get((reader.name, job))}"
            for reader in readers
            for job in ended_jobs
            if (last_states.get((reader.name, job)) or {}).get("status") != "succeeded"
        ]
        problems += [line for node in nodes for line in node.errors]
    assert not problems, "\n".join([f"seed {seed}", *map(str, problems[:20])])
