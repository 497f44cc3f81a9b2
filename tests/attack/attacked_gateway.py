"""A gateway in its own process, with a few normal clients that measure delays during an attack.

The clients measure the age of updates when they arrive, and how long replies take. They are few and
slow, so that they measure the gateway and not themselves.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import trio
from attrs import define, field

from tests.e2e.client import Raw, WebSocketClient, connect, open_client, publication
from tests.e2e.hosts import in_process, printed

__all__ = ["AttackedGateway", "gateway_with_clients", "hypercorn_gateway", "idle_gateway"]

WATCHERS = 5
INTERVAL = 0.02
"""Seconds between two updates, and between a reply and the next ping."""


@define
class AttackedGateway:
    """A gateway, and the measurements of its normal clients."""

    process: trio.Process
    port: int
    ages: list[float] = field(factory=list)
    """Seconds from publishing an update to its arrival, for each update and watcher."""
    answers: list[float] = field(factory=list)
    """Seconds from each `ping` to its `pong`."""

    @property
    def memory(self) -> float:
        """Memory of the gateway in MiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) / 1024

    @property
    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    @property
    def p99(self) -> float:
        """The 99th percentile of the ages or of the reply times (the larger one), in seconds."""
        return max(_p99(self.ages), _p99(self.answers))

    def reset_measurements(self) -> None:
        """Discards the measurements so far."""
        self.ages.clear()
        self.answers.clear()

    async def wait_for_disconnects(self, *, descriptors: int) -> None:
        """Waits until the gateway has at most `descriptors` open descriptors."""
        while self.descriptors > descriptors:  # noqa: ASYNC110 - the state of another process must be polled
            await trio.sleep(0.01)


def _p99(waits: list[float]) -> float:
    return sorted(waits)[len(waits) * 99 // 100]


@asynccontextmanager
async def idle_gateway(
    *arguments: str, env: Mapping[str, str] = {}
) -> AsyncIterator[AttackedGateway]:
    """Yields a gateway without clients."""
    async with in_process("-m", "gateway.cli", "serve", *arguments, env=env) as process:
        line = (await printed(process, b"Serving")).decode()
        yield AttackedGateway(process, int(line.strip().rstrip("/").rpartition(":")[2]))


@asynccontextmanager
async def hypercorn_gateway() -> AsyncIterator[AttackedGateway]:
    """Yields a gateway under hypercorn, without clients."""
    arguments = ("-m", "hypercorn", "-k", "trio", "gateway.asgi:app", "-b", "127.0.0.1:0")
    async with in_process(*arguments, "--workers", "0") as process:
        line = (await printed(process, b"Running on")).decode()
        yield AttackedGateway(process, int(line.partition("http://127.0.0.1:")[2].split()[0]))


@asynccontextmanager
async def gateway_with_clients(
    *arguments: str, hypercorn: bool = False
) -> AsyncIterator[AttackedGateway]:
    """Yields a gateway on a free port, with its normal clients already watching."""
    quiet = ("--bind", "127.0.0.1:0", "--log-level", "warning")
    starting = hypercorn_gateway() if hypercorn else idle_gateway(*quiet, *arguments)
    async with starting as gateway, AsyncExitStack() as stack:
        pinger, *clients = [
            await stack.enter_async_context(open_client(gateway.port)) for _ in range(1 + WATCHERS)
        ]
        publisher = await stack.enter_async_context(connect(gateway.port))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_check_output, gateway.process)
            for client in clients:
                await client.receive_type("welcome")
                await client.request("subscribe", jobs=["honest"])
                nursery.start_soon(_watch, client, gateway)
            nursery.start_soon(_publish, publisher)
            nursery.start_soon(_measure_replies, pinger, gateway)
            yield gateway
            nursery.cancel_scope.cancel()


async def _watch(client: WebSocketClient, gateway: AttackedGateway) -> None:
    while True:
        frame = await client.receive_type("progress")
        if frame["state"] is not None:
            gateway.ages.append(time.monotonic() - float(frame["state"]["message"]))


async def _measure_replies(client: WebSocketClient, gateway: AttackedGateway) -> None:
    while True:
        began = time.monotonic()
        await client.send("ping")
        await client.receive_type("pong")
        gateway.answers.append(time.monotonic() - began)
        await trio.sleep(INTERVAL)


async def _publish(raw: Raw) -> None:
    while True:
        await raw.send(publication("honest", b'{"message":"%.6f"}' % time.monotonic()))
        status, _, _ = await raw.receive_response()
        assert status == 200
        await trio.sleep(INTERVAL)


async def _check_output(process: trio.Process) -> None:
    """Asserts that the attack causes no traceback in the output."""
    assert process.stdout is not None
    output = b""
    async for data in process.stdout:
        output += data
        assert b"Traceback" not in output, output.decode()
