"""A Redis that loses writes while clients read: `python -m tests.faults.rollback`.

In each round the jobs make progress, the server writes an RDB, and the jobs make more progress and
some end. When readers have seen that, the server is killed and starts from the RDB. One to three
nodes reach it over a link of 0, 5 or 20 ms. A mixture of readers that GET, list, long-poll and
subscribe uses all nodes in turn, and some workers report directly to the Redis.
`readers.taken_back` checks what each reader saw. If a round fails, its seed is printed.
"""

from __future__ import annotations

import random
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Any

import click
import redis
import trio
from attrs import define, field

from tests.brokers.redis.server import Server, redis_server
from tests.ports import free_port

from .processes import Node
from .readers import READERS, Reader, taken_back

__all__ = ["Setup", "open_setup", "play_round"]

AFTERWARDS = 4.0
"""Seconds for which readers continue after the server is back: the failover is complete by then."""
SEEN_WITHIN = 10.0


@define
class Setup:
    """Nodes on a server, over a slow link."""

    server: Server
    ports: list[int]
    nodes: list[Node]
    rounds: int = 0
    problems: list[str] = field(factory=list)


@asynccontextmanager
async def open_setup(nodes: int, delay: float) -> AsyncIterator[Setup]:
    """Yields `nodes` on one server, over a link of `delay` seconds. The server keeps only what
    `SAVE` has written."""
    with ExitStack() as stack:
        server = Server(redis_server(), "--dbfilename", "rollback.rdb")
        stack.callback(server.close)
        port = free_port()
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(slow_link, port, str(server.socket), delay))
            running = [
                stack.enter_context(Node(f"node {number}", f"redis://127.0.0.1:{port}"))
                for number in range(nodes)
            ]
            for node in running:
                await node.serving()
            yield Setup(server, [node.port for node in running], running)
            nursery.cancel_scope.cancel()


async def slow_link(
    port: int, path: str, delay: float, *, task_status: trio.TaskStatus[list[trio.SocketListener]]
) -> None:
    """Yields a proxy from `port` to the server at `path`, which delays bytes by `delay` in each
    direction."""

    async def pump(source: trio.SocketStream, sink: trio.SocketStream) -> None:
        send, receive = trio.open_memory_channel[tuple[float, bytes]](1_000)

        async def read() -> None:
            async with send:
                with suppress(trio.BrokenResourceError):
                    async for data in source:
                        await send.send((trio.current_time() + delay, bytes(data)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            async for due, data in receive:
                await trio.sleep_until(due)
                await sink.send_all(data)
        nursery.cancel_scope.cancel()

    async def carry(client: trio.SocketStream) -> None:
        with suppress(OSError):
            async with client, await trio.open_unix_socket(path) as server:
                with suppress(
                    trio.BrokenResourceError, trio.ClosedResourceError, BaseExceptionGroup
                ):
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(first, nursery, client, server)
                        nursery.start_soon(first, nursery, server, client)

    async def first(
        nursery: trio.Nursery, source: trio.SocketStream, sink: trio.SocketStream
    ) -> None:
        await pump(source, sink)
        nursery.cancel_scope.cancel()

    await trio.serve_tcp(carry, port, host="127.0.0.1", task_status=task_status)


class Workers:
    """Publish directly to the server, by `FCALL`."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def publish(self, job: str, *fields: Any) -> None:
        """Repeats the update until it is accepted."""
        while not await self.try_to_publish(job, *fields):  # noqa: ASYNC110 - there is no event
            await trio.sleep(0.01)

    async def try_to_publish(self, job: str, *fields: Any) -> bool:
        words = ("FCALL", "progress", 1, "progress", job, *fields)
        try:
            await trio.to_thread.run_sync(self._server.client.execute_command, *words)
        except (redis.ConnectionError, OSError):  # from before the server was killed
            return False
        return True


async def play_round(setup: Setup, kinds: Sequence[str], seed: int) -> list[str]:
    """Runs one round; returns the violations."""
    chance = random.Random(seed)
    setup.rounds += 1
    jobs = [f"r{setup.rounds}:{number}" for number in range(6)]
    workers = Workers(setup.server)
    readers = [
        Reader(kind, f"{kind} {number}", jobs, setup.ports) for kind in kinds for number in range(3)
    ]
    client: Any = setup.server.client
    async with trio.open_nursery() as nursery:
        with trio.fail_after(SEEN_WITHIN):
            for job in jobs:
                await workers.publish(job, "percent", 10, "status", "running")
        for reader in readers:
            nursery.start_soon(reader.run)
        await until_seen(readers, jobs, lambda state: state.get("percent", 0) >= 10)
        await trio.to_thread.run_sync(client.save)
        for percent in range(20, chance.choice([30, 60, 90]), 10):
            for job in jobs:
                await workers.publish(job, "percent", percent)
        for job in jobs[:4]:
            await workers.publish(job, "status", "succeeded")
        await until_seen(readers, jobs[:4], lambda state: state["status"] == "succeeded")
        await trio.sleep(chance.uniform(0, 0.2))
        setup.server.kill()
        await trio.sleep(chance.choice([0, 0.05, 0.5, 1.5]))
        await trio.to_thread.run_sync(setup.server.start)
        busy = chance.random() < 0.5
        with trio.move_on_after(AFTERWARDS):
            percent = 91
            while True:
                if busy:  # a worker reports directly to the server before any node has reconnected
                    await workers.try_to_publish(
                        jobs[5], "percent", min(percent, 99), "message", percent
                    )
                percent += 1
                await trio.sleep(chance.uniform(0.001, 0.3))
        await until_seen(readers, jobs[:4], lambda state: state["status"] == "succeeded")
        nursery.cancel_scope.cancel()
    problems = list(taken_back(readers))
    for reader in readers:
        if not reader.readings:
            problems.append(f"{reader.name} saw nothing: {reader.refused.most_common(3)}")
        ends = {reading.job: reading.state for reading in reader.readings}
        problems += [
            f"{reader.name} has at last of {job}: {ends.get(job)}"
            for job in jobs[:4]
            if (ends.get(job) or {}).get("status") != "succeeded"
        ]
    return [f"seed {seed}: {problem}" for problem in problems]


async def until_seen(readers: Sequence[Reader], jobs: Sequence[str], holds: Any) -> None:
    """Waits until the last state that every reader has of each of these jobs fulfils `holds`."""

    def all_seen() -> bool:
        for reader in readers:
            last_states = {reading.job: reading.state for reading in reader.readings}
            if not all(last_states.get(job) and holds(last_states[job]) for job in jobs):
                return False
        return True

    with trio.move_on_after(SEEN_WITHIN):
        while not all_seen():  # noqa: ASYNC110 - there is no event
            await trio.sleep(0.02)


async def play(nodes: int, delay: float, rounds: int, first: int) -> list[str]:
    problems: list[str] = []
    async with open_setup(nodes, delay) as setup:
        for seed in range(first, first + rounds):
            chance = random.Random(seed)
            kinds = [kind for kind in READERS if chance.random() < 0.5] or [
                chance.choice(list(READERS))
            ]
            round_problems = await play_round(setup, kinds, seed)
            click.echo(f"{nodes} nodes, {delay * 1e3:g} ms, seed {seed}, {', '.join(kinds)}: "
                       f"{len(round_problems) or 'well'}", err=True)  # fmt: skip
            for problem in round_problems[:5]:
                click.echo(f"    {problem}", err=True)
            problems += round_problems
        for node in setup.nodes:
            problems += [f"{node.name} logged: {line}" for line in node.errors]
    return problems


@click.command()
@click.option("--rounds", default=50, show_default=True, help="Of each combination.")
@click.option("--first", default=1, show_default=True, help="The first round's seed.")
@click.option("--nodes", "counts", multiple=True, type=int, default=(1, 2, 3))
@click.option("--delay", "delays", multiple=True, type=float, default=(0.0, 0.005, 0.02))
def main(rounds: int, first: int, counts: Sequence[int], delays: Sequence[float]) -> None:
    """Play all combinations of nodes and delays. Exits with 1 if anything was taken back."""
    problems: list[str] = []
    for nodes in counts:
        for delay in delays:
            problems += trio.run(play, nodes, delay, rounds, first)
    click.echo(f"{len(problems)} problems")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
