"""Listening sockets that systemd has opened for us (sd_listen_fds(3)).

It can bind low ports, and it keeps the address while the gateway restarts: who comes
meanwhile waits in its backlog instead of being refused.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Final

from ..errors import InvalidSettings

__all__ = ["SYSTEMD", "inherited_listeners"]

SYSTEMD: Final = "systemd"
"""What stands for them instead of an address."""
FIRST: Final = 3
"""The first descriptor that is not standard input or output."""


def inherited_listeners(environ: Mapping[str, str] = os.environ) -> list[socket.socket]:
    """All of them. Raises `InvalidSettings` if there are none for this process, or one of
    them is no listening TCP socket."""
    count = environ.get("LISTEN_FDS", "")
    if environ.get("LISTEN_PID") != str(os.getpid()) or not count.isdigit() or count == "0":
        raise InvalidSettings("systemd has passed no socket: is there a socket unit?", field="bind")
    found = []
    for descriptor in range(FIRST, FIRST + int(count)):
        try:
            sock = socket.socket(fileno=descriptor)
        except OSError as error:
            raise InvalidSettings(f"descriptor {descriptor}: {error}", field="bind") from None
        found.append(sock)
        if sock.type != socket.SOCK_STREAM or sock.family not in (socket.AF_INET, socket.AF_INET6):
            raise InvalidSettings(f"descriptor {descriptor} is no TCP socket", field="bind")
        sock.setblocking(False)
        os.set_inheritable(descriptor, False)
    return found
