"""The whole gateway in one call: node, HTTP application, listener.

async with open_gateway("127.0.0.1:8000") as gateway:
    await gateway.publish("video:42", percent=10)
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from ipaddress import ip_address
from socket import socket
from typing import Unpack

import trio
from attrs import frozen

from .auth.authenticator import Authenticator
from .auth.factory import open_authenticator
from .brokers.base import Broker, PublishResult
from .brokers.memory import MemoryBroker
from .http.api import create_http_app
from .http.endpoints import ENDPOINTS
from .http.publish import direct_publishing
from .model.errors import InvalidSettings
from .model.ids import check_job_id
from .model.limits import DEFAULT_LIMITS, Limits
from .node.node import Node
from .protocol.update_fields import UpdateFields, update_from
from .transports.http1 import HTTPServer
from .transports.listener import serve_listeners
from .transports.proxies import Proxies
from .transports.sockets import open_listeners

__all__ = ["Gateway", "Internal", "check_address", "open_gateway", "serve_gateway"]


DEFAULT_PROXIES = Proxies()


@frozen
class Internal:
    """A second address, for internal clients only."""

    bind: str
    """HOST:PORT."""
    endpoints: frozenset[str] = ENDPOINTS - {"page"}
    """The endpoints that are served there, and not at the first address."""


@frozen
class Gateway:
    """A running gateway."""

    node: Node
    addresses: tuple[tuple[str, int], ...]
    """The addresses as (host, port) pairs, with the actual ports."""
    internal_addresses: tuple[tuple[str, int], ...] = ()
    """The addresses of `Internal`, as (host, port) pairs."""

    @property
    def url(self) -> str:
        """The URL of the page, at the first address."""
        host, port = self.addresses[0]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def publish(self, job: str, **fields: Unpack[UpdateFields]) -> PublishResult:
        """Reports on a job from inside this process.

        Args:
            job: The job's id.
            fields: The fields of an update. A field that is left out keeps its value; None clears
                it.

        Raises:
            InvalidInput: A field is wrong; the error names it.
            BrokerUnavailable: The update may or may not have been applied; it can be repeated
                without harm.

        Cancellation: the update is applied completely or not at all.
        """
        return await self.node.broker.publish(check_job_id(job), update_from(fields))


async def serve_gateway(
    bind: str = "127.0.0.1:8000",
    broker: Broker | None = None,
    limits: Limits = DEFAULT_LIMITS,
    *,
    authenticator: Authenticator | None = None,
    internal: Internal | None = None,
    insecure: bool = False,
    proxies: Proxies = DEFAULT_PROXIES,
    wait_for_broker: bool = False,
    task_status: trio.TaskStatus[Gateway] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serves until cancelled. `nursery.start` returns the `Gateway` when it accepts connections.

    Args:
        bind: HOST:PORT; port 0 is any free port; `fd://3,4` are inherited listening sockets.
        broker: The store of job states; `MemoryBroker(limits)` by default.
        limits: The limits of the node.
        authenticator: Checks tokens and origins. Without one every client has all permissions,
            so the address must be a loopback address.
        internal: A second address, for the endpoints that the first must not serve.
        insecure: Whether any address is allowed without authentication.
        proxies: The proxies that are trusted to name the address of a client.
        wait_for_broker: Whether to start while the broker cannot be reached, and to be not ready
            until it can.

    Raises:
        InvalidSettings: The address cannot or must not be used.
        BrokerUnavailable: The broker cannot be reached, and `wait_for_broker` is false.

    Cancellation: no more connections are accepted; clients are asked to reconnect to another node,
        within `limits.shutdown_timeout` seconds. The remaining connections are dropped then.
    """
    authenticator = authenticator or open_authenticator(insecure=insecure, limits=limits)
    node = Node(
        MemoryBroker(limits) if broker is None else broker,
        limits=limits,
        authenticator=authenticator,
    )
    with ExitStack() as listening:
        served = []
        for address, http in _http_servers(bind, internal, node):
            listeners = await open_listeners(address)
            for listener in listeners:  # to close them if an error is raised below
                listening.enter_context(listener)
            if authenticator.keys is None and not insecure:
                check_address(listeners)
            served.append((listeners, http))
        async with trio.open_nursery() as nursery:
            node_scope = trio.CancelScope()

            async def run_node(*, task_status: trio.TaskStatus[None]) -> None:
                with node_scope:
                    await node.run(wait_for_broker=wait_for_broker, task_status=task_status)

            await nursery.start(run_node)
            # The node outlives the listener: it still delivers while clients leave.
            node_scope.shield = True
            try:
                async with trio.open_nursery() as outside:
                    await outside.start(
                        partial(serve_listeners, served, node=node, proxies=proxies)
                    )
                    public, *other = [_addresses(listeners) for listeners, _ in served]
                    task_status.started(Gateway(node, public, *other))
            finally:
                node_scope.cancel()


@asynccontextmanager
async def open_gateway(
    bind: str = "127.0.0.1:8000",
    broker: Broker | None = None,
    limits: Limits = DEFAULT_LIMITS,
    *,
    authenticator: Authenticator | None = None,
    internal: Internal | None = None,
    insecure: bool = False,
    proxies: Proxies = DEFAULT_PROXIES,
    wait_for_broker: bool = False,
) -> AsyncIterator[Gateway]:
    """Serves while the context is open: `async with open_gateway(...) as gateway`.

    The arguments are those of `serve_gateway`. At the end of the context, clients are asked to
    reconnect elsewhere. If the gateway fails, the body is cancelled and the error is raised, in a
    group.

    Raises:
        InvalidSettings: The address cannot or must not be used (in a group).

    Cancellation: as for `serve_gateway`.
    """
    async with trio.open_nursery() as nursery:
        yield await nursery.start(
            partial(
                serve_gateway,
                bind,
                broker,
                limits,
                authenticator=authenticator,
                internal=internal,
                insecure=insecure,
                proxies=proxies,
                wait_for_broker=wait_for_broker,
            )
        )
        nursery.cancel_scope.cancel()


def _http_servers(bind: str, internal: Internal | None, node: Node) -> list[tuple[str, HTTPServer]]:
    """Returns each address, with the HTTP server for it."""

    def http_server(endpoints: frozenset[str], *, is_internal: bool = False) -> HTTPServer:
        return HTTPServer(
            create_http_app(node, endpoints=endpoints, internal=is_internal),
            limits=node.limits,
            direct=direct_publishing(node) if "publish" in endpoints else None,
        )

    if internal is None:
        return [(bind, http_server(ENDPOINTS))]
    return [
        (bind, http_server(ENDPOINTS - internal.endpoints)),
        (internal.bind, http_server(internal.endpoints, is_internal=True)),
    ]


def _addresses(listeners: Sequence[socket]) -> tuple[tuple[str, int], ...]:
    return tuple(listener.getsockname()[:2] for listener in listeners)


def check_address(listeners: Sequence[socket]) -> None:
    """Raises `InvalidSettings` if other machines can reach one of these sockets."""
    for host, _ in _addresses(listeners):
        if not ip_address(host.partition("%")[0]).is_loopback:
            raise InvalidSettings(
                f"{host} can be reached by others, and no token would be required: "
                "set --keys (PROGRESS_GATEWAY_KEYS) or PROGRESS_GATEWAY_SECRET, or use --insecure",
                field="bind",
            )
