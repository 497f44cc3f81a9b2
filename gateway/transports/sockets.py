"""Listening sockets for an address, for one process or for several."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from typing import Any

import trio

from ..model.errors import InvalidSettings
from .inherited_sockets import inherited_listeners, is_inherited

__all__ = ["open_listeners", "open_socket_groups", "parse_bind"]

BACKLOG = 1024
"""Connections that the kernel queues until they are accepted, for when many pages reconnect."""
USER_TIMEOUT = 20_000
"""Milliseconds that sent data may stay unacknowledged (TCP_USER_TIMEOUT), so that a peer with a
broken network is noticed even while a library waits for it in a shielded scope."""
RECEIVE_BUFFER = 64 * 1024
"""Bytes of unread input that the kernel keeps (SO_RCVBUF; Linux doubles it). The default would be
some megabytes for each client that sends too much."""


def parse_bind(text: str) -> tuple[str, int]:
    """Parses `HOST:PORT` (`[::1]:8000` for IPv6). Raises `InvalidSettings`."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not (port.isascii() and port.isdigit()) or int(port) > 65_535:
        raise InvalidSettings(f"{text!r} is not HOST:PORT, such as 127.0.0.1:8000", field="bind")
    return host, int(port)


async def open_listeners(bind: str) -> list[socket.socket]:
    """Returns listening sockets for every address of `bind`, or the inherited ones.

    Raises `InvalidSettings` if `bind` has no address, or one of them cannot be used; then no
    socket stays open.
    """
    if is_inherited(bind):
        return inherited_listeners(bind)
    host, port = parse_bind(bind)
    try:
        addresses = await trio.socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        with ExitStack() as opened:
            listeners = [
                opened.enter_context(_listener(family, address))
                for family, _, _, _, address in addresses
            ]
            opened.pop_all()
            return listeners
    except OSError as error:
        raise InvalidSettings(f"cannot listen on {bind}: {error}", field="bind") from error


async def open_socket_groups(bind: str, count: int) -> list[list[socket.socket]]:
    """Like `open_listeners`, but returns `count` groups of sockets at the same addresses, one group
    for each process.

    The kernel distributes connections (SO_REUSEPORT, socket(7)). Inherited sockets are in each
    group: any process that is free accepts.
    """
    # Sockets with SO_REUSEPORT would share the port with another gateway of this user without an
    # error. So one without it is bound first, to find out whether the address is free.
    first = await open_listeners(bind)
    if is_inherited(bind):
        return [first] * count
    addresses = [(sock.family, sock.getsockname()) for sock in first]
    for sock in first:
        sock.close()
    try:
        with ExitStack() as opened:
            groups = [
                [opened.enter_context(_listener(*address, shared=True)) for address in addresses]
                for _ in range(count)
            ]
            opened.pop_all()
            return groups
    except OSError as error:
        raise InvalidSettings(f"cannot listen on {bind}: {error}", field="bind") from error


def _listener(family: socket.AddressFamily, address: Any, *, shared: bool = False) -> socket.socket:
    with ExitStack() as opened:
        sock = opened.enter_context(socket.socket(family, socket.SOCK_STREAM))
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # accepted sockets inherit it
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        sock.bind(address)
        sock.listen(BACKLOG)
        opened.pop_all()
        return sock
