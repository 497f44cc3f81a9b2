"""The gateway as an ASGI application, for `hypercorn -k trio gateway.asgi:app`.

Complete by itself: WebSocket, HTTP API, page. It needs Trio and the lifespan protocol.
`GATEWAY_KEYS`, `GATEWAY_SECRET`, `GATEWAY_AUDIENCE`, `GATEWAY_ORIGINS`,
`GATEWAY_INSECURE`, `GATEWAY_REDIS` and `GATEWAY_SHARDS` are heeded.
What a stock server costs compared with `gateway serve` is in `docs/architecture.md`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

import trio

from . import endings
from .answers import problem
from .api import create_http_app
from .auth.gate import Gate
from .auth.opening import open_gate
from .broker import Broker
from .brokers import open_broker
from .brokers.memory import MemoryBroker
from .limits import DEFAULT_LIMITS, Limits
from .node import Node
from .settings import (
    AUDIENCE,
    INSECURE,
    KEYS,
    ORIGINS,
    REDIS,
    SECRET,
    SHARDS,
    in_shards,
    read_settings,
)
from .transports.asgi import serve_asgi_websocket
from .transports.http import ASGIApp, Receive, Scope, Send

__all__ = ["app", "create_app"]

log = logging.getLogger("gateway.asgi")


def create_app(
    broker: Broker | None = None, *, limits: Limits = DEFAULT_LIMITS, gate: Gate | None = None
) -> ASGIApp:
    """An ASGI application with a node of its own, which runs during its lifespan.

    `broker` is `MemoryBroker()` by default. `gate` says who may do what: by default
    everybody on this machine, and nobody else.
    """
    gate = gate or open_gate(limits=limits)
    node = Node(MemoryBroker(limits) if broker is None else broker, limits=limits, gate=gate)
    http_app = create_http_app(node)

    only_local = gate.keys is None and gate.origins.local_only

    async def gateway(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(node, receive, send)
        elif only_local and not _is_local(scope.get("client")):
            await _refuse(scope, receive, send)
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


def _is_local(client: Sequence[Any] | None) -> bool:
    """Whether a client is on this machine; None: it has come by a Unix socket."""
    if client is None:
        return True
    try:
        return ip_address(str(client[0]).partition("%")[0]).is_loopback
    except ValueError:  # a server that tells names
        return False


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    """Tell a client from elsewhere that without keys it cannot be served."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        ending = endings.UNAUTHORIZED
        await send({"type": "websocket.close", "code": ending.code, "reason": ending.reason})
    else:
        detail = "Without GATEWAY_KEYS or GATEWAY_SECRET only this machine is served."
        await problem(403, detail)(scope, receive, send)


def _from_environment() -> ASGIApp:
    values = read_settings(os.environ, (KEYS, SECRET, AUDIENCE, ORIGINS, INSECURE, REDIS, SHARDS))
    values["redis"] = redis = in_shards(values["redis"], values.pop("shards"))
    return create_app(open_broker(redis), gate=open_gate(**values))


app = _from_environment()
