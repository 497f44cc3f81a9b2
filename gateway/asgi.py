"""The gateway as an ASGI application, for `hypercorn -k trio gateway.asgi:app`.

Complete by itself: WebSocket, HTTP API, page. It needs Trio and the lifespan protocol.
What a stock server costs compared with `gateway serve` is in `docs/architecture.md`.
"""

from __future__ import annotations

import logging

import trio

from .api import create_http_app
from .broker import Broker
from .brokers.memory import MemoryBroker
from .limits import DEFAULT_LIMITS, Limits
from .node import Node
from .transports.asgi import serve_asgi_websocket
from .transports.http import ASGIApp, Receive, Scope, Send

__all__ = ["app", "create_app"]

log = logging.getLogger("gateway.asgi")


def create_app(broker: Broker | None = None, *, limits: Limits = DEFAULT_LIMITS) -> ASGIApp:
    """An ASGI application with a node of its own, which runs during its lifespan.

    `broker` is `MemoryBroker()` by default.
    """
    node = Node(MemoryBroker(limits) if broker is None else broker, limits=limits)
    http_app = create_http_app(node)

    async def gateway(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(node, receive, send)
        elif scope["type"] == "websocket":
            await serve_asgi_websocket(scope, receive, send, node=node)
        else:
            await http_app(scope, receive, send)

    return gateway


async def _live(node: Node, receive: Receive, send: Send) -> None:
    """Run the node from startup to shutdown.

    If it dies in between the server is told that shutdown failed, which ends the server:
    a gateway that no longer hears its broker must not look alive.
    """
    await receive()  # lifespan.startup
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(node.run)
            await send({"type": "lifespan.startup.complete"})
            await receive()  # lifespan.shutdown
            await node.drain()
            nursery.cancel_scope.cancel()
    except* Exception as group:
        log.exception("the node died")
        await send({"type": "lifespan.shutdown.failed", "message": repr(group.exceptions[0])})
    else:
        await send({"type": "lifespan.shutdown.complete"})


app = create_app()
