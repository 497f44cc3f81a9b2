"""What we tell systemd, or whoever else listens at `NOTIFY_SOCKET` (sd_notify(3)).

Our own supervisor, too: it listens at a descriptor, `fd://9` (`leash.py`).
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
"""Begins an address that is no path, but a descriptor that was inherited."""


def notify(*lines: str, environ: Mapping[str, str] = os.environ) -> None:
    """Say something, such as `READY=1`. Does nothing if nobody listens; never blocks."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    said = "\n".join(lines).encode()
    # What would hear of it may be gone: then nobody is left to be told.
    with suppress(OSError):
        if address.startswith(DESCRIPTOR):
            os.write(int(address.removeprefix(DESCRIPTOR)), said + b"\n")
            return
        if address[0] == "@":
            address = "\0" + address[1:]
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.sendto(said, address)


def reloading() -> tuple[str, str]:
    """What to say when a reload begins; `READY=1` ends it."""
    return "RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}"


async def keep_watchdog(environ: Mapping[str, str] = os.environ) -> None:
    """Tell that we live, as often as the unit's `WatchdogSec` wants, until cancelled.

    From the loop that serves: if that hangs, systemd hears nothing and starts us anew.
    """
    period = environ.get("WATCHDOG_USEC", "")
    if period.isdigit() and environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid()):
        seconds = int(period) / 1_000_000
        while True:
            notify("WATCHDOG=1", environ=environ)
            await trio.sleep(seconds / 2)
