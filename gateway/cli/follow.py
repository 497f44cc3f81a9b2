"""Following jobs over a WebSocket, for ever: one line after the other, with pauses between.

Every wait on a line has a deadline (see `line`). The pauses have none in sum: a gateway
that is away may come back, so it is tried for as long as somebody watches.
"""

from __future__ import annotations

import random

import trio

from ..protocol import Mode
from ..worker.publisher import Token
from .known import Known
from .line import Audience, Line

__all__ = ["backoff", "follow"]

STABLE_AFTER = 60.0  # a line that lived this long was a good one: count failures anew
FIRST_CEILING, LAST_CEILING = 0.5, 20.0  # seconds, of the pause before the next line


async def follow(url: str, known: Known, *, mode: Mode, token: Token, audience: Audience) -> None:
    """Keep `known` up to date until all its jobs have ended.

    Raises `Refused` if the gateway does not want us back. Cancelled, it says goodbye.
    """
    window = 0.0, FIRST_CEILING
    failures = 0
    while True:
        started = trio.current_time()
        line = Line(known, mode=mode, token=token, audience=audience)
        why = await line.live(url)
        if known.finished:
            return
        window = line.window or window
        if trio.current_time() - started >= STABLE_AFTER or line.sent_away:
            failures = 0
        pause = backoff(failures, window, random.random())  # noqa: S311 - luck, not secrecy
        failures += 1
        audience.away(why, pause)
        await trio.sleep(pause)


def backoff(failures: int, window: tuple[float, float], chance: float) -> float:
    """Seconds before the next line: full jitter between the window's ends, whose upper one
    doubles with each failure after the first. `chance` is in [0, 1)."""
    low, high = window
    first = max(high, FIRST_CEILING)  # a window of [0, 0] must not become a busy loop
    doubled = min(first * 2 ** min(failures, 16), max(LAST_CEILING, high))
    ceiling = high if failures == 0 else doubled
    return low + chance * (max(ceiling, low) - low)
