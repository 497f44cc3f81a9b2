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
    """Seconds before the next line, with full jitter: the first time within the gateway's
    window, then below a ceiling that doubles. `chance` is in [0, 1).

    The window is the least ceiling, and not what is doubled: it spreads a crowd already.
    """
    low, high = window
    # Not for the first, but then a window of [0, 0] must not become a busy loop.
    doubled = min(FIRST_CEILING * 2 ** min(failures, 16), LAST_CEILING) if failures else 0.0
    return low + chance * (max(high, doubled) - low)
