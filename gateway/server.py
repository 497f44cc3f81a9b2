"""The whole gateway in one call: node, HTTP application, listener.

async with trio.open_nursery() as nursery:
    gateway = await nursery.start(serve_gateway, "127.0.0.1:8000")
    await gateway.publish("video:42", percent=10)
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import Any

import msgspec
import trio
from attrs import frozen

from .api import create_http_app
from .broker import Broker, Receipt
from .brokers.memory import MemoryBroker
from .job import check_job_id
from .limits import DEFAULT_LIMITS, Limits
from .node import Node
from .protocol import parse_update
from .transports.http import HTTPServer
from .transports.listener import open_listeners, serve_listeners

__all__ = ["Gateway", "serve_gateway"]


@frozen
class Gateway:
    """A running gateway."""

    node: Node
    addresses: tuple[tuple[str, int], ...]
    """Where it listens: (host, port) pairs, with the ports really taken."""

    @property
    def url(self) -> str:
        """Its first address, as the URL of the page."""
        host, port = self.addresses[0]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def publish(self, job: str, **fields: Any) -> Receipt:
        """Report on a job from inside this process: the fields of an update.

        Raises `InvalidInput` naming the field that is wrong.
        """
        update = parse_update(msgspec.json.encode(fields))
        return await self.node.broker.publish(check_job_id(job), update)


async def serve_gateway(
    bind: str = "127.0.0.1:8000",
    broker: Broker | None = None,
    limits: Limits = DEFAULT_LIMITS,
    *,
    task_status: trio.TaskStatus[Gateway] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled; then drain, for at most `limits.drain_timeout` seconds.

    `bind` is HOST:PORT, port 0 for any free one. `broker` is `MemoryBroker()` by default.
    Raises `InvalidSettings` if it cannot listen there. `nursery.start` returns the
    `Gateway` when it takes connections.
    """
    node = Node(MemoryBroker(limits) if broker is None else broker, limits=limits)
    http = HTTPServer(create_http_app(node), limits=limits)
    listeners = await open_listeners(bind)
    addresses = tuple(listener.getsockname()[:2] for listener in listeners)
    with ExitStack() as listening:
        for listener in listeners:  # closed before, unless what comes between fails
            listening.enter_context(listener)
        async with trio.open_nursery() as nursery:
            inside = trio.CancelScope()

            async def run_node(*, task_status: trio.TaskStatus[None]) -> None:
                with inside:
                    await node.run(task_status=task_status)

            await nursery.start(run_node)
            # The node outlives the listener: while clients are sent away it still delivers.
            inside.shield = True
            try:
                async with trio.open_nursery() as outside:
                    await outside.start(partial(serve_listeners, listeners, node=node, http=http))
                    task_status.started(Gateway(node, addresses))
            finally:
                inside.cancel()
