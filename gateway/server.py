"""The whole gateway in one call: node, HTTP application, listener.

async with trio.open_nursery() as nursery:
    gateway = await nursery.start(serve_gateway, "127.0.0.1:8000")
    await gateway.publish("video:42", percent=10)
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from ipaddress import ip_address
from socket import socket
from typing import Any

import msgspec
import trio
from attrs import frozen

from .api import PARTS, create_http_app
from .auth.gate import Gate
from .auth.opening import open_gate
from .broker import Broker, Receipt
from .brokers.memory import MemoryBroker
from .errors import InvalidSettings
from .job import check_job_id
from .limits import DEFAULT_LIMITS, Limits
from .node import Node
from .protocol import parse_update
from .transports.addresses import Proxies
from .transports.http import ASGIApp, HTTPServer
from .transports.listener import serve_listeners
from .transports.sockets import open_listeners

__all__ = ["Gateway", "Internal", "check_address", "serve_gateway"]


DEFAULT_PROXIES = Proxies()


@frozen
class Internal:
    """A second address, which not everybody reaches."""

    bind: str
    """HOST:PORT."""
    parts: frozenset[str] = PARTS - {"page"}
    """What is served there, and then not at the first address."""


@frozen
class Gateway:
    """A running gateway."""

    node: Node
    addresses: tuple[tuple[str, int], ...]
    """Where it listens: (host, port) pairs, with the ports really taken."""
    internal_addresses: tuple[tuple[str, int], ...] = ()
    """Where it listens for `Internal`, likewise."""

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
    gate: Gate | None = None,
    internal: Internal | None = None,
    insecure: bool = False,
    proxies: Proxies = DEFAULT_PROXIES,
    task_status: trio.TaskStatus[Gateway] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled; then drain, for at most `limits.drain_timeout` seconds.

    `bind` is HOST:PORT, port 0 for any free one; `fd://3,4` are descriptors that listen
    already. `broker` is `MemoryBroker()` by default.
    `gate` says who may do what; without one everybody who reaches the address may do
    everything, so the address must be of the loopback then, unless it is to be `insecure`.
    `proxies` are those whose word is taken for where a client comes from.
    `internal` is a second address, for what the first shall not serve.

    Raises `InvalidSettings` if it cannot, or should not, listen there. `nursery.start`
    returns the `Gateway` when it takes connections.
    """
    gate = gate or open_gate(insecure=insecure, limits=limits)
    node = Node(MemoryBroker(limits) if broker is None else broker, limits=limits, gate=gate)
    with ExitStack() as listening:
        served = []
        for address, app in _sites(bind, internal, node):
            http = HTTPServer(app, limits=limits)
            listeners = await open_listeners(address)
            for listener in listeners:  # closed before, unless what comes between fails
                listening.enter_context(listener)
            if gate.keys is None and not insecure:
                check_address(listeners)
            served.append((listeners, http))
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
                    await outside.start(
                        partial(serve_listeners, served, node=node, proxies=proxies)
                    )
                    public, *other = [_names(listeners) for listeners, _ in served]
                    task_status.started(Gateway(node, public, *other))
            finally:
                inside.cancel()


def _sites(bind: str, internal: Internal | None, node: Node) -> list[tuple[str, ASGIApp]]:
    """Each address, and what it serves."""
    if internal is None:
        return [(bind, create_http_app(node))]
    return [
        (bind, create_http_app(node, parts=PARTS - internal.parts)),
        (internal.bind, create_http_app(node, parts=internal.parts, inside=True)),
    ]


def _names(listeners: Sequence[socket]) -> tuple[tuple[str, int], ...]:
    return tuple(listener.getsockname()[:2] for listener in listeners)


def check_address(listeners: Sequence[socket]) -> None:
    """Raise `InvalidSettings` if others than this machine can reach one of these."""
    for host, _ in _names(listeners):
        if not ip_address(host.partition("%")[0]).is_loopback:
            raise InvalidSettings(
                f"{host} can be reached by others, and no token would be asked for: "
                "set --keys (GATEWAY_KEYS) or GATEWAY_SECRET, or say --insecure",
                field="bind",
            )
