"""A gateway in a process of its own, honest clients on it, and what they notice.

The clients measure how old an update is when they see it. They are few and slow, so that
what they measure is the gateway and not themselves.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import trio
from attrs import define, field

from tests.e2e.client import Client, Raw, connect, open_client
from tests.e2e.hosts import in_process, printed

__all__ = ["Siege", "besieged", "started"]

WATCHERS = 5
EVERY = 0.02
"""Seconds between two updates."""


@define
class Siege:
    """A gateway, and what its honest clients have seen."""

    process: trio.Process
    port: int
    ages: list[float] = field(factory=list)
    """Seconds from publishing an update to its sight, of each update and watcher."""

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

    def age(self, quantile: float) -> float:
        ages = sorted(self.ages)
        return ages[min(len(ages) - 1, int(len(ages) * quantile))]


@asynccontextmanager
async def started(*arguments: str) -> AsyncIterator[Siege]:
    """A gateway, with nobody on it."""
    async with in_process("-m", "gateway.cli", "serve", *arguments) as process:
        line = (await printed(process, b"Serving")).decode()
        yield Siege(process, int(line.strip().rstrip("/").rpartition(":")[2]))


@asynccontextmanager
async def besieged(*arguments: str) -> AsyncIterator[Siege]:
    """A gateway on a free port, with its honest clients already watching."""
    quiet = ("--bind", "127.0.0.1:0", "--log-level", "warning")
    async with started(*quiet, *arguments) as siege, AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(open_client(siege.port)) for _ in range(WATCHERS)
        ]
        publisher = await stack.enter_async_context(connect(siege.port))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_listen, siege.process)
            for client in clients:
                await client.hear_type("welcome")
                await client.ask("subscribe", jobs=["honest"])
                nursery.start_soon(_watch, client, siege)
            nursery.start_soon(_publish, publisher)
            yield siege
            nursery.cancel_scope.cancel()


async def _watch(client: Client, siege: Siege) -> None:
    while True:
        frame = await client.hear_type("progress")
        if frame["state"] is not None:
            siege.ages.append(time.monotonic() - float(frame["state"]["message"]))


async def _publish(raw: Raw) -> None:
    while True:
        body = b'{"message":"%.6f"}' % time.monotonic()
        await raw.send(
            b"POST /api/jobs/honest HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n%b"
            % (len(body), body)
        )
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
