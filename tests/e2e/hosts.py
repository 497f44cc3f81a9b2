"""The gateway behind each of its transports, in this process or in one of its own."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import hypercorn.trio
import msgspec
import trio
from attrs import frozen
from hypercorn.config import Config

from gateway import Gateway, Limits, MemoryBroker, Receipt, serve_gateway
from gateway.asgi import create_app
from gateway.auth.gate import Gate
from gateway.protocol import parse_update

ROOT = Path(__file__).parents[2]
START = 20.0
"""Seconds a process may take to start, on a loaded machine."""


@frozen
class Host:
    """A gateway that clients reach through some transport."""

    port: int
    publish: Callable[..., Awaitable[Receipt]]
    """`publish(job, **update)`: straight into the broker."""


@asynccontextmanager
async def listener(limits: Limits, gate: Gate | None = None) -> AsyncIterator[Host]:
    """Our own."""
    async with trio.open_nursery() as nursery:
        serve = partial(serve_gateway, "127.0.0.1:0", None, limits, gate=gate)
        gateway: Gateway = await nursery.start(serve)
        yield Host(gateway.addresses[0][1], gateway.publish)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def asgi_server(limits: Limits, gate: Gate | None = None) -> AsyncIterator[Host]:
    """hypercorn's, around the ASGI application."""
    broker = MemoryBroker(limits)
    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.errorlog = logging.getLogger("hypercorn.error")
    config.accesslog = None
    config.graceful_timeout = 1.0
    app: Any = create_app(broker, limits=limits, gate=gate)
    stop = trio.Event()

    async def publish(job: str, **fields: Any) -> Receipt:
        return await broker.publish(job, parse_update(msgspec.json.encode(fields)))

    async with trio.open_nursery() as nursery:
        serve = partial(hypercorn.trio.serve, app, config, shutdown_trigger=stop.wait)
        (url,) = await nursery.start(serve)
        yield Host(int(url.rpartition(":")[2]), publish)
        stop.set()


@asynccontextmanager
async def in_process(*arguments: str, env: Mapping[str, str] = {}) -> AsyncIterator[trio.Process]:
    """A Python process, killed at the end with all that it has started. Its output is piped."""
    process = await trio.lowlevel.open_process(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        assert process.stdout is not None
        await process.stdout.aclose()
        with suppress(ProcessLookupError):  # nobody is left
            os.killpg(process.pid, signal.SIGKILL)
        with trio.CancelScope(shield=True):
            await process.wait()


async def printed(process: trio.Process, marker: bytes) -> bytes:
    """What a process printed up to the line with `marker`."""
    assert process.stdout is not None
    output = b""
    with trio.fail_after(START):
        while marker not in output or not output.endswith(b"\n"):
            data = await process.stdout.receive_some()
            assert data, f"it ended: {output.decode()}"
            output += data
    return output
