"""A gateway in a process of its own, honest clients on it, and what they notice.

The clients measure how old an update is when they see it, and how long an answer takes.
They are few and slow, so that what they measure is the gateway and not themselves.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import trio
from attrs import define, field

from tests.e2e.client import Client, Raw, connect, open_client, publication
from tests.e2e.hosts import in_process, printed

__all__ = ["Siege", "besieged", "started"]

WATCHERS = 5
EVERY = 0.02
"""Seconds between two updates, and between an answer and the next question."""


@define
class Siege:
    """A gateway, and what its honest clients have seen."""

    process: trio.Process
    port: int
    ages: list[float] = field(factory=list)
    """Seconds from publishing an update to its sight, of each update and watcher."""
    answers: list[float] = field(factory=list)
    """Seconds from each `ping` to its `pong`: the way in, and the way out."""

    @property
    def memory(self) -> float:
        """MiB that the gateway has in memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) / 1024

    @property
    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    @property
    def lives(self) -> bool:
        return self.process.poll() is None

    @property
    def p99(self) -> float:
        """Seconds that its clients wait, at most, in 99 of 100 cases: of ages and answers the
        worse."""
        return max(_p99(self.ages), _p99(self.answers))

    def forget(self) -> None:
        """Measure anew from here."""
        self.ages.clear()
        self.answers.clear()

    async def left_alone(self, *, descriptors: int) -> None:
        """Return when all others have gone, so that it has no more `descriptors` than these."""
        while self.descriptors > descriptors:  # noqa: ASYNC110 - another process's
            await trio.sleep(0.01)


def _p99(waits: list[float]) -> float:
    return sorted(waits)[len(waits) * 99 // 100]


@asynccontextmanager
async def started(*arguments: str, env: Mapping[str, str] = {}) -> AsyncIterator[Siege]:
    """A gateway, with nobody on it."""
    async with in_process("-m", "gateway.cli", "serve", *arguments, env=env) as process:
        line = (await printed(process, b"Serving")).decode()
        yield Siege(process, int(line.strip().rstrip("/").rpartition(":")[2]))


@asynccontextmanager
async def besieged(*arguments: str) -> AsyncIterator[Siege]:
    """A gateway on a free port, with its honest clients already watching."""
    quiet = ("--bind", "127.0.0.1:0", "--log-level", "warning")
    async with started(*quiet, *arguments) as siege, AsyncExitStack() as stack:
        asker, *clients = [
            await stack.enter_async_context(open_client(siege.port)) for _ in range(1 + WATCHERS)
        ]
        publisher = await stack.enter_async_context(connect(siege.port))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_listen, siege.process)
            for client in clients:
                await client.hear_type("welcome")
                await client.ask("subscribe", jobs=["honest"])
                nursery.start_soon(_watch, client, siege)
            nursery.start_soon(_publish, publisher)
            nursery.start_soon(_ask, asker, siege)
            yield siege
            nursery.cancel_scope.cancel()


async def _watch(client: Client, siege: Siege) -> None:
    while True:
        frame = await client.hear_type("progress")
        if frame["state"] is not None:
            siege.ages.append(time.monotonic() - float(frame["state"]["message"]))


async def _ask(client: Client, siege: Siege) -> None:
    while True:
        began = time.monotonic()
        await client.say("ping")
        await client.hear_type("pong")
        siege.answers.append(time.monotonic() - began)
        await trio.sleep(EVERY)


async def _publish(raw: Raw) -> None:
    while True:
        await raw.send(publication("honest", b'{"message":"%.6f"}' % time.monotonic()))
        status, _, _ = await raw.response()
        assert status == 200
        await trio.sleep(EVERY)


async def _listen(process: trio.Process) -> None:
    """Nothing of an attack is worth a warning, least of all a traceback."""
    assert process.stdout is not None
    said = b""
    async for data in process.stdout:
        said += data
        assert b"Traceback" not in said, said.decode()
