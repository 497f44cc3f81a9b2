"""What we tell systemd, or whoever else listens at `NOTIFY_SOCKET` (sd_notify(3))."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping

import trio

__all__ = ["keep_watchdog", "notify", "reloading"]


def notify(*lines: str, environ: Mapping[str, str] = os.environ) -> None:
    """Say something, such as `READY=1`. Does nothing if nobody listens; never blocks."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address[0] == "@":
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        try:
            sock.sendto("\n".join(lines).encode(), address)
        except OSError:
            return  # what would hear of it is not there: nobody is left to be told


def reloading() -> tuple[str, str]:
    """What to say when a reload begins; `READY=1` ends it."""
    return "RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}"


async def keep_watchdog(environ: Mapping[str, str] = os.environ) -> None:
    """Tell that we live, as often as the unit's `WatchdogSec` wants, until cancelled.

    From the loop that serves: if that hangs, systemd hears nothing and starts us anew.
    """
    period = environ.get("WATCHDOG_USEC", "")
    if period.isdigit() and environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid()):
        while True:
            notify("WATCHDOG=1", environ=environ)
            await trio.sleep(int(period) / 1_000_000 / 2)
