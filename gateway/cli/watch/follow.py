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

STABLE_AFTER = 60.0  # seconds that a connection must last to reset the number of failures
FIRST_MAX_PAUSE, LONGEST_MAX_PAUSE = (
    0.5,
    20.0,
)  # seconds: the first and the longest upper bound of a pause


async def follow(
    url: str, job_states: JobStates, *, mode: Mode, token: Token, display: Display
) -> None:
    """Keeps `job_states` up to date until all its jobs have ended.

    Raises `Refused` if the gateway forbids a reconnect. A cancellation closes the connection.
    """
    window = 0.0, FIRST_MAX_PAUSE
    failures = 0
    while True:
        started = trio.current_time()
        client = WatchClient(job_states, mode=mode, token=token, display=display)
        reason = await client.run(url)
        if job_states.finished:
            return
        window = client.window or window
        if trio.current_time() - started >= STABLE_AFTER or client.gateway_drains:
            failures = 0
        pause = backoff(failures, window, random.random())  # noqa: S311 - not for secrecy
        failures += 1
        display.on_disconnected(reason, pause)
        await trio.sleep(pause)


def backoff(failures: int, window: tuple[float, float], jitter: float) -> float:
    """Returns the seconds before the next connection, with full jitter: the first time within the
    gateway's window, then below an upper bound that doubles. `jitter` is in [0, 1).

    The upper bound is at least that of the window, which is not doubled itself, because it already
    spreads the clients.
    """
    low, high = window
    # After the first pause, a window of [0, 0] must not become a busy loop.
    doubled = min(FIRST_MAX_PAUSE * 2 ** min(failures, 16), LONGEST_MAX_PAUSE) if failures else 0.0
    return low + jitter * (max(high, doubled) - low)
