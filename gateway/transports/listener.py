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
from ..errors import InvalidSettings
from ..node import Node
from .addresses import Crowd, Proxies, canonical, read_proxy_header
from .head import BadHead, headers_in, is_upgrade, read_head, refuse
from .http import HTTPServer
from .inherited import SYSTEMD, inherited_listeners
from .stream import ClientStream
from .trio_ws import serve_websocket

__all__ = ["open_listeners", "parse_bind", "serve_listeners"]

log = logging.getLogger("gateway.transports")

BACKLOG = 1024
"""Connections the kernel holds until we accept them: a page full of reconnecting tabs."""
USER_TIMEOUT = 20_000
"""Milliseconds that sent data may stay unacknowledged (TCP_USER_TIMEOUT): a peer whose
cable was pulled is noticed even while a library's shield waits for it."""
RECEIVE_BUFFER = 64 * 1024
"""Bytes that the kernel holds of what a client says and we have not read (SO_RCVBUF; Linux
doubles it). By itself it would hold some megabytes, for each who says too much."""
NO_ROOM = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
"""The machine has no descriptor or memory left (accept(2)): wait until one is free."""
RETRY_ACCEPT = 0.1

_numbers = count(1)


def parse_bind(text: str) -> tuple[str, int]:
    """`HOST:PORT` (`[::1]:8000` for IPv6). Raises `InvalidSettings`."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not (port.isascii() and port.isdigit()) or int(port) > 65_535:
        raise InvalidSettings(f"{text!r} is not HOST:PORT, such as 127.0.0.1:8000", field="bind")
    return host, int(port)


async def open_listeners(bind: str) -> list[socket.socket]:
    """Sockets that listen on every address `bind` stands for; `systemd`: those it has opened.

    Raises `InvalidSettings` if it stands for none, or one of them cannot be listened on;
    then none is left open.
    """
    if bind == SYSTEMD:
        return inherited_listeners()
    host, port = parse_bind(bind)
    try:
        addresses = await trio.socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        with ExitStack() as opened:
            listeners: list[socket.socket] = []
            for family, kind, protocol, _, address in addresses:
                sock = opened.enter_context(socket.socket(family, kind, protocol))
                sock.setblocking(False)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                if hasattr(socket, "TCP_USER_TIMEOUT"):  # inherited by what is accepted
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
                sock.bind(address)
                sock.listen(BACKLOG)
                listeners.append(sock)
            opened.pop_all()
            return listeners
    except OSError as error:
        raise InvalidSettings(f"cannot listen on {bind}: {error}", field="bind") from error


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
        stream = ClientStream(sock, limits=reception.node.limits)
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
