"""Accepts the connections of one port, and chooses between HTTP and WebSocket.

The accept loop is the gateway's own for three reasons. An error inside a connection ends only
that connection; a library's server without such a guard is terminated by one malformed request.
The request head is read under a deadline. The socket's options are set before anything is read.
"""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Sequence
from itertools import count

import trio
from attrs import frozen
from structlog.contextvars import bind_contextvars

from ..node.node import Node
from ..protocol import close_codes
from .client_slot import ClientSlot
from .connection_limits import ConnectionLimiter
from .http1 import HTTPServer
from .proxies import Proxies, canonical_address
from .request_head import BadRequest, is_upgrade, refuse
from .stream import ClientStream
from .websocket import WebSocketClient, accept_websocket

__all__ = ["serve_listeners"]

log = logging.getLogger("gateway.transports")

OUT_OF_RESOURCES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
"""The errors of accept(2) while the machine has no descriptor or memory left. The accept loop waits
and tries again."""
RETRY_ACCEPT = 0.1
ACCEPTS_PER_PASS = 10
"""Clients that are accepted in one pass of the scheduler."""

_numbers = count(1)


async def serve_listeners(
    served: Sequence[tuple[Sequence[socket.socket], HTTPServer]],
    *,
    node: Node,
    proxies: Proxies,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Accepts clients until cancelled, then drains `node`. Closes the listeners.

    Each group of sockets has an HTTP server of its own for requests that are not WebSockets.
    `proxies` are trusted to name the address of a client.
    When cancelled, it first stops accepting. Clients then have `limits.shutdown_timeout`
    seconds to reconnect elsewhere; the remaining connections are dropped after that.
    """
    # There are two lifetimes, which end in order: first the accept loops, then, after the drain,
    # the clients. A cancellation must reach the accept loops and not the clients. So a separate
    # task has the clients' nursery: a shield here would protect the accept loops as well.
    connection_limiter = ConnectionLimiter(lambda: node.limits)
    async with trio.open_nursery() as outside:
        clients = await outside.start(_shielded_nursery)
        clients.start_soon(connection_limiter.run)
        try:
            async with trio.open_nursery() as accepting:
                for sockets, http in served:
                    context = _ListenerContext(node, http, proxies, connection_limiter)
                    for sock in sockets:
                        accepting.start_soon(_accept, sock, clients, context)
                task_status.started()
        finally:
            for sockets, _ in served:
                for sock in sockets:
                    sock.close()
            with trio.CancelScope(shield=True), trio.move_on_after(node.limits.shutdown_timeout):
                async with trio.open_nursery() as draining:
                    for _, http in served:
                        draining.start_soon(http.drain)
                    draining.start_soon(node.drain)
            for _, http in served:
                http.abort()
            clients.cancel_scope.cancel()


async def _shielded_nursery(*, task_status: trio.TaskStatus[trio.Nursery]) -> None:
    """Holds a nursery that ends only when its own `cancel_scope` is cancelled."""
    async with trio.open_nursery() as nursery:
        nursery.cancel_scope.shield = True
        task_status.started(nursery)
        await trio.sleep_forever()


@frozen
class _ListenerContext:
    """The objects that all connections of one listener share."""

    node: Node
    http_server: HTTPServer
    proxies: Proxies
    connection_limiter: ConnectionLimiter


async def _accept(
    listener: socket.socket, clients: trio.Nursery, context: _ListenerContext
) -> None:
    while True:
        await trio.lowlevel.wait_readable(listener)
        for _ in range(ACCEPTS_PER_PASS):
            try:
                sock, peer = listener.accept()
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno in OUT_OF_RESOURCES:
                    log.warning("cannot accept connections: %s", error.strerror)
                    await trio.sleep(RETRY_ACCEPT)
                # Any other error concerns only that client, which disconnected before it was
                # accepted.
                break
            clients.start_soon(_serve_guarded, sock, canonical_address(peer[0]), context)


async def _serve_guarded(sock: socket.socket, peer: str, context: _ListenerContext) -> None:
    """Serves one client; an error ends only this client's connection."""
    bind_contextvars(connection=f"{context.node.name}-{next(_numbers):x}", client=peer)
    try:
        sock.setblocking(False)
        node, connection_limiter = context.node, context.connection_limiter
        stream = ClientStream(sock, limits=node.limits, disconnects=connection_limiter.disconnects)
        try:
            slot = ClientSlot(
                stream,
                peer,
                proxies=context.proxies,
                connection_limiter=connection_limiter,
                limits=node.limits,
            )
            connection_limiter.open_socket()
            try:
                await _serve_client(slot, context)
            finally:
                slot.release()
                connection_limiter.close_socket()
        except trio.BrokenResourceError:
            stream.abort()
    except* Exception:
        log.exception("unexpected error in a connection")
    finally:
        sock.close()


async def _serve_client(slot: ClientSlot, context: _ListenerContext) -> None:
    """Serves one client. Raises `trio.BrokenResourceError` if it has disconnected or must be
    dropped."""
    try:
        await slot.identify_client()
        client = await _websocket_client(slot, context)
        if client is not None:
            await client.serve()
    except BadRequest as error:
        context.node.counters.http_errors[error.status] += 1
        await refuse(slot.stream, error)


async def _websocket_client(slot: ClientSlot, context: _ListenerContext) -> WebSocketClient | None:
    """Serves HTTP requests until one asks for a WebSocket, and accepts it; None if none does.

    Only this function holds the requests, so that a WebSocket connection does not keep them.
    """
    first = await slot.next_head()
    head = first if is_upgrade(first) else await context.http_server.serve(slot, first)
    if head is None:
        return None
    await context.connection_limiter.handshakes.wait_to_start()
    refused = None if slot.within_limit else close_codes.TOO_MANY_FROM_ADDRESS
    return await accept_websocket(
        slot.stream, head, context.node, address=slot.address, refused=refused
    )
