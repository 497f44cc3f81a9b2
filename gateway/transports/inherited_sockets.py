"""Returns listening sockets that the parent process has opened.

systemd can bind low ports, and it keeps the address while the gateway restarts: connections that
arrive meanwhile wait in the backlog and are not refused. systemd passes descriptors from 3 on
(sd_listen_fds(3)). `fd://7,8` names those of another parent, such as the gateway's supervisor.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from typing import Final

from ..model.errors import InvalidSettings

__all__ = ["bind_of_inherited", "inherited_listeners", "is_inherited"]

SYSTEMD: Final = "systemd"
"""Values of `bind` that stand for inherited sockets."""
FD_PREFIX: Final = "fd://"
FIRST: Final = 3
"""The first descriptor that is not standard input or output."""


_TCP = (socket.AF_INET, socket.AF_INET6)


def is_inherited(bind: str) -> bool:
    """Returns whether `bind` stands for inherited sockets instead of an address."""
    return bind == SYSTEMD or bind.startswith(FD_PREFIX)


def bind_of_inherited(listeners: Iterable[socket.socket]) -> str:
    """Returns the `bind` of a child process that inherits these sockets."""
    return FD_PREFIX + ",".join(str(listener.fileno()) for listener in listeners)


def inherited_listeners(bind: str, environ: Mapping[str, str] = os.environ) -> list[socket.socket]:
    """Returns all inherited sockets. Raises `InvalidSettings` if there are none for this process,
    or one of them is not a listening TCP socket."""
    with ExitStack() as opened:
        listeners = []
        for descriptor in _of_systemd(environ) if bind == SYSTEMD else _named(bind):
            try:
                sock = opened.enter_context(socket.socket(fileno=descriptor))
            except OSError as error:
                raise InvalidSettings(f"descriptor {descriptor}: {error}", field="bind") from None
            if sock.type != socket.SOCK_STREAM or sock.family not in _TCP:
                raise InvalidSettings(f"descriptor {descriptor} is no TCP socket", field="bind")
            if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                raise InvalidSettings(f"descriptor {descriptor} does not listen", field="bind")
            sock.setblocking(False)
            os.set_inheritable(descriptor, False)
            listeners.append(sock)
        opened.pop_all()
        return listeners


def _of_systemd(environ: Mapping[str, str]) -> Iterable[int]:
    count = environ.get("LISTEN_FDS", "")
    if environ.get("LISTEN_PID") != str(os.getpid()) or not count.isdigit() or count == "0":
        raise InvalidSettings("systemd has passed no socket: is there a socket unit?", field="bind")
    return range(FIRST, FIRST + int(count))


def _named(bind: str) -> Iterable[int]:
    if not re.fullmatch(rf"{FD_PREFIX}\d{{1,9}}(,\d{{1,9}})*", bind, re.ASCII):
        raise InvalidSettings(f"{bind!r} names no descriptors, such as {FD_PREFIX}3", field="bind")
    return map(int, bind.removeprefix(FD_PREFIX).split(","))
