"""Free ports for servers that must know their port before they start."""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack

__all__ = ["free_port"]


def free_port(*offsets: int) -> int:
    """Returns a free TCP port. The ports that are `offsets` above it are free too.

    It is below the range for outgoing connections, because another program may take a port of that
    range a moment later.
    """
    while True:
        port = random.randrange(20_000, 30_000)
        with ExitStack() as stack:
            try:
                for offset in (0, *offsets):
                    probe = stack.enter_context(socket.socket())
                    probe.bind(("127.0.0.1", port + offset))
            except OSError:
                continue
            return port
