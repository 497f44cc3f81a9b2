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
from .addresses import Crowd, Proxies, canonical
from .guest import Guest
from .head import BadHead, is_upgrade, refuse
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
        node, crowd = reception.node, reception.crowd
        stream = ClientStream(sock, limits=node.limits, way_out=crowd.way_out)
        try:
            with crowd.socket(), ExitStack() as place:
                guest = Guest(
                    stream,
                    peer,
                    proxies=reception.proxies,
                    crowd=crowd,
                    limits=node.limits,
                    place=place,
                )
                await _serve_guest(guest, reception)
        except trio.BrokenResourceError:
            stream.abort()
    except* Exception:
        log.exception("a connection failed")
    finally:
        sock.close()


async def _serve_guest(guest: Guest, reception: _Reception) -> None:
    """Serve one client. Raises `trio.BrokenResourceError` if it is gone, or is to be dropped."""
    try:
        await guest.arrive()
        first = await guest.next_head()
        head = first if is_upgrade(first) else await reception.http.serve(guest, first)
        if head is not None:
            await serve_websocket(
                guest.stream,
                head,
                reception.node,
                turnstile=reception.crowd.turnstile,
                refused=None if guest.has_place else endings.CROWDED,
            )
    except BadHead as error:
        await refuse(guest.stream, error.status)
