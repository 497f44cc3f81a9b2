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
import trio
from attrs import frozen
from hypercorn.config import Config
from trio_websocket import WebSocketRequest, serve_websocket

from gateway import (
    Gateway,
    Limits,
    MemoryBroker,
    Node,
    PublishResult,
    serve_gateway,
    serve_trio_websocket,
)
from gateway.asgi import create_app
from gateway.auth.authenticator import Authenticator
from gateway.protocol import close_codes
from gateway.protocol.update_fields import update_from

ROOT = Path(__file__).parents[2]
START = 20.0
"""Seconds a process may take to start, on a loaded machine."""


@frozen
class Host:
    """A gateway that clients reach through some transport."""

    port: int
    node: Node
    publish: Callable[..., Awaitable[PublishResult]]
    """`publish(job, **update)`: directly to the broker."""


@asynccontextmanager
async def listener(
    limits: Limits, authenticator: Authenticator | None = None
) -> AsyncIterator[Host]:
    """Yields the gateway's own port."""
    async with trio.open_nursery() as nursery:
        serve = partial(serve_gateway, "127.0.0.1:0", None, limits, authenticator=authenticator)
        gateway: Gateway = await nursery.start(serve)
        yield Host(gateway.addresses[0][1], gateway.node, gateway.publish)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def asgi_server(
    limits: Limits, authenticator: Authenticator | None = None
) -> AsyncIterator[Host]:
    """Yields hypercorn with the ASGI application."""
    broker = MemoryBroker(limits)
    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.errorlog = logging.getLogger("hypercorn.error")
    config.accesslog = None
    config.graceful_timeout = 1.0
    app: Any = create_app(broker, limits=limits, authenticator=authenticator)
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        serve = partial(hypercorn.trio.serve, app, config, shutdown_trigger=stop.wait)
        (url,) = await nursery.start(serve)
        yield Host(int(url.rpartition(":")[2]), app.node, app.publish)
        stop.set()


@asynccontextmanager
async def embedded(
    limits: Limits, authenticator: Authenticator | None = None
) -> AsyncIterator[Host]:
    """Yields a Trio program's own trio-websocket server, which hands its connections to a node."""
    broker = MemoryBroker(limits)
    node = Node(broker, limits=limits, authenticator=authenticator)

    async def serve(request: WebSocketRequest) -> None:
        offered = "progress.v1" in request.proposed_subprotocols
        ws = await request.accept(subprotocol="progress.v1" if offered else None)
        if request.path.partition("?")[0] == "/ws":
            await serve_trio_websocket(ws, node, headers=request.headers, host="localhost")
        else:
            await ws.aclose(close_codes.NOT_FOUND.code)

    async def publish(job: str, **fields: Any) -> PublishResult:
        return await broker.publish(job, update_from(fields))

    async with trio.open_nursery() as nursery:
        await nursery.start(node.run)
        serve_at = partial(serve_websocket, max_message_size=limits.max_frame)
        listen = partial(serve_at, serve, "127.0.0.1", 0, None)
        server = await nursery.start(listen)
        yield Host(server.port, node, publish)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def in_process(*arguments: str, env: Mapping[str, str] = {}) -> AsyncIterator[trio.Process]:
    """Yields a Python process, which is killed at the end with all that it has started. Its output
    is piped."""
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
        with suppress(ProcessLookupError):  # no process is left
            os.killpg(process.pid, signal.SIGKILL)
        with trio.CancelScope(shield=True):
            await process.wait()


async def printed(process: trio.Process, marker: bytes) -> bytes:
    """Reads the output of a process up to the line with `marker`."""
    assert process.stdout is not None
    output = b""
    with trio.fail_after(START):
        while marker not in output or not output.endswith(b"\n"):
            data = await process.stdout.receive_some()
            assert data, f"it ended: {output.decode()}"
            output += data
    return output
