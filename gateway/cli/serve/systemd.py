"""Messages to systemd, or to another service manager at `NOTIFY_SOCKET` (sd_notify(3)).

The gateway's own supervisor listens at a descriptor, `fd://9` (`supervisor_pipe.py`).
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress

import trio

__all__ = ["DESCRIPTOR", "keep_watchdog", "notify", "reloading"]

DESCRIPTOR = "fd://"
"""Prefix of an address that is an inherited descriptor instead of a path."""


def notify(*lines: str, environ: Mapping[str, str] = os.environ) -> None:
    """Sends a message such as `READY=1`. Does nothing if nothing listens; never blocks."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    message = "\n".join(lines).encode()
    # If the receiver has exited, the message is not needed.
    with suppress(OSError):
        if address.startswith(DESCRIPTOR):
            os.write(int(address.removeprefix(DESCRIPTOR)), message + b"\n")
            return
        if address[0] == "@":
            address = "\0" + address[1:]
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.sendto(message, address)


def reloading() -> tuple[str, str]:
    """Returns the message that a reload begins; `READY=1` ends it."""
    return "RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}"


async def keep_watchdog(environ: Mapping[str, str] = os.environ) -> None:
    """Sends watchdog messages as often as the unit's `WatchdogSec` requires, until cancelled.

    They come from Trio's loop: if it hangs, systemd receives nothing and restarts the service.
    """
    period = environ.get("WATCHDOG_USEC", "")
    if period.isdigit() and environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid()):
        seconds = int(period) / 1_000_000
        while True:
            notify("WATCHDOG=1", environ=environ)
            await trio.sleep(seconds / 2)
