"""One port: the accept loop, and which protocol a client speaks.

The loop is ours for three reasons: each connection has a guard, so that whatever is
raised inside ends that connection alone (a library's server that lacks one dies of a
single client's garbage); the request head is read under a deadline; and the socket's
options are set before anything is read.
"""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import count

import trio
from attrs import frozen

from .. import endings
from ..about import is_about
from ..node import Node
from .addresses import Crowd, Proxies, canonical, read_proxy_header
from .head import BadHead, headers_in, is_upgrade, read_head, refuse
from .http import HTTPServer
from .stream import ClientStream
from .trio_ws import serve_websocket

__all__ = ["serve_listeners"]

log = logging.getLogger("gateway.transports")

NO_ROOM = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
"""The machine has no descriptor or memory left (accept(2)): wait until one is free."""
RETRY_ACCEPT = 0.1

_numbers = count(1)


async def serve_listeners(
    served: Sequence[tuple[Sequence[socket.socket], HTTPServer]],
    *,
    node: Node,
    proxies: Proxies,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Accept clients until `node` is to drain, that is, until cancelled. Closes the listeners.

    Each group of sockets has an HTTP server of its own, for what is no WebSocket.
    `proxies` are believed where a client comes from.
    Cancelled, it stops accepting first; then clients have `limits.drain_timeout` seconds
    to be sent away in order, and what is left is dropped.
    """
    # Two lifetimes, because the two die in order: first the accept loops, then, after the
    # drain, the clients. A cancellation must reach the one and not the other, so the
    # clients' nursery is held by a task of its own: a shield round it here would keep
    # the cancellation from the accept loops as well.
    crowd = Crowd(lambda: node.limits)
    async with trio.open_nursery() as outside:
        clients = await outside.start(_shelter)
        try:
            async with trio.open_nursery() as accepting:
                for sockets, http in served:
                    reception = _Reception(node, http, proxies, crowd)
                    for sock in sockets:
                        accepting.start_soon(_accept, sock, clients, reception)
                task_status.started()
        finally:
            for sockets, _ in served:
                for sock in sockets:
                    sock.close()
            with trio.CancelScope(shield=True), trio.move_on_after(node.limits.drain_timeout):
                async with trio.open_nursery() as draining:
                    for _, http in served:
                        draining.start_soon(http.drain)
                    draining.start_soon(node.drain)
            for _, http in served:
                http.abort()
            clients.cancel_scope.cancel()


async def _shelter(*, task_status: trio.TaskStatus[trio.Nursery]) -> None:
    """Hold a nursery that only its own `cancel_scope` ends."""
    async with trio.open_nursery() as nursery:
        nursery.cancel_scope.shield = True
        task_status.started(nursery)
        await trio.sleep_forever()


@frozen
class _Reception:
    """What the clients of one listener are received with."""

    node: Node
    http: HTTPServer
    proxies: Proxies
    crowd: Crowd


async def _accept(listener: socket.socket, clients: trio.Nursery, reception: _Reception) -> None:
    while True:
        await trio.lowlevel.wait_readable(listener)
        try:
            sock, peer = listener.accept()
        except BlockingIOError:
            continue
        except OSError as error:
            if error.errno in NO_ROOM:
                log.warning("cannot accept a client: %s", error.strerror)
                await trio.sleep(RETRY_ACCEPT)
            # Any other error is that client's own: it left before we came (accept(2)).
            continue
        clients.start_soon(_serve_guarded, sock, canonical(peer[0]), reception)


async def _serve_guarded(sock: socket.socket, peer: str, reception: _Reception) -> None:
    """Serve one client; whatever goes wrong ends this client alone."""
    is_about(connection=f"{reception.node.name}-{next(_numbers):x}", client=peer)
    try:
        sock.setblocking(False)
        stream = ClientStream(sock, limits=reception.node.limits, way_out=reception.crowd.way_out)
        try:
            with reception.crowd.socket(), ExitStack() as place:
                await _serve_client(stream, peer, reception, place)
        except trio.BrokenResourceError:
            stream.abort()
    except* Exception:
        log.exception("a connection failed")
    finally:
        sock.close()


async def _serve_client(
    stream: ClientStream, address: str, reception: _Reception, place: ExitStack
) -> None:
    """Serve one client from `address`, which holds its `place` while that stack is open.

    Raises `trio.BrokenResourceError` if it is gone, or is to be dropped.
    """
    limits, proxies = reception.node.limits, reception.proxies
    has_place = True
    if proxies.form == "proxy-protocol" and proxies.trust(address):
        address = await read_proxy_header(stream, limits) or address
        is_about(client=address)
    # Before its head, so that many who send none count; a proxy's clients after it.
    direct = not proxies.trust(address)
    if direct:
        has_place = place.enter_context(reception.crowd.place(address))
    try:
        head: bytes | None = await read_head(stream, limits)
        if head is not None and not direct:
            address = proxies.client(address, headers_in(head))
            is_about(client=address)
            if not proxies.trust(address):
                has_place = place.enter_context(reception.crowd.place(address))
        if head is not None and not is_upgrade(head):
            if not has_place:
                raise BadHead(b"429 Too Many Requests")  # noqa: TRY301 - one answer to all
            head = await reception.http.serve(stream, head)
        if head is not None:
            refused = None if has_place else endings.CROWDED
            turnstile = reception.crowd.turnstile
            await serve_websocket(
                stream, head, reception.node, turnstile=turnstile, refused=refused
            )
    except BadHead as error:
        await refuse(stream, error.status)
