"""Follows jobs over WebSocket connections, one after the other, with pauses between them.

Every wait on a connection has a deadline (see `client`). There is no limit for the number of
attempts: an unavailable gateway may return, so it is tried until the user stops.
"""

from __future__ import annotations

import random

import trio

from ...protocol.commands import Mode
from ...worker.publisher import Token
from .client import Display, WatchClient
from .job_states import JobStates

__all__ = ["backoff", "follow"]

STABLE_AFTER = 60.0  # seconds; after a connection that lasted this long, failures are reset
FIRST_CEILING, LAST_CEILING = 0.5, 20.0  # seconds, of the pause before the next connection


async def follow(url: str, known: JobStates, *, mode: Mode, token: Token, display: Display) -> None:
    """Keeps `known` up to date until all its jobs have ended.

    Raises `Refused` if the gateway forbids a reconnect. A cancellation closes the connection.
    """
    window = 0.0, FIRST_CEILING
    failures = 0
    while True:
        started = trio.current_time()
        client = WatchClient(known, mode=mode, token=token, display=display)
        why = await client.run(url)
        if known.finished:
            return
        window = client.window or window
        if trio.current_time() - started >= STABLE_AFTER or client.gateway_drains:
            failures = 0
        pause = backoff(failures, window, random.random())  # noqa: S311 - not for secrecy
        failures += 1
        display.disconnected(why, pause)
        await trio.sleep(pause)


def backoff(failures: int, window: tuple[float, float], jitter: float) -> float:
    """Seconds before the next connection, with full jitter: the first time within the gateway's
    window, then below a ceiling that doubles. `jitter` is in [0, 1).

    The window is the minimum of the ceiling and is not doubled itself, because it already spreads
    the clients.
    """
    low, high = window
    # After the first pause, a window of [0, 0] must not become a busy loop.
    doubled = min(FIRST_CEILING * 2 ** min(failures, 16), LAST_CEILING) if failures else 0.0
    return low + jitter * (max(high, doubled) - low)
