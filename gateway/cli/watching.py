"""Watching, as `gateway watch` does it: which show, how it starts, how it ends."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import cast

import trio

from ..protocol import Mode
from ..worker.publisher import Token
from .bars import Bars
from .follow import follow
from .known import Known
from .plainly import FrameLines, Lines
from .signals import run_until_told

__all__ = ["watch_until_final"]


def watch_until_final(
    jobs: Sequence[str], url: str, *, token: Token, as_json: bool, mode: str
) -> int:
    """Watch until all jobs have ended or a signal comes; returns the exit code.

    Raises `Refused`.
    """
    known = Known(jobs)
    to_follow = partial(follow, url, known, mode=cast(Mode, mode), token=token)
    if as_json:
        work = partial(to_follow, audience=FrameLines())
    elif sys.stdout.isatty():
        work = partial(_draw, to_follow, Bars(known, url))
    else:
        work = partial(to_follow, audience=Lines(known))
    signal = run_until_told(work)
    if signal is not None:
        return 128 + signal
    return 0 if known.succeeded else 1


async def _draw(to_follow: Callable[..., Awaitable[None]], bars: Bars) -> None:
    with bars.drawn():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bars.keep_drawing)
            await to_follow(audience=bars)
            nursery.cancel_scope.cancel()
