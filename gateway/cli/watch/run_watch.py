"""The work of `gateway watch`: chooses the display, starts the client, and waits for the end."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import cast

import trio

from ...protocol.commands import Mode
from ...worker.publisher import Token
from ..signals import run_until_signal
from .bars import Bars
from .follow import follow
from .job_states import JobStates
from .text_output import ChangeLines, FrameLines

__all__ = ["watch_until_final"]


def watch_until_final(
    jobs: Sequence[str], url: str, *, token: Token, as_json: bool, mode: str
) -> int:
    """Watches until all jobs have ended or a signal arrives; returns the exit code. An id that ends
    with `*` is a prefix, and watching it does not end.

    Raises `Refused`.
    """
    prefixes = [job.removesuffix("*") for job in jobs if job.endswith("*")]
    job_states = JobStates([job for job in jobs if not job.endswith("*")], prefixes=prefixes)
    follow_jobs = partial(follow, url, job_states, mode=cast(Mode, mode), token=token)
    if as_json:
        work = partial(follow_jobs, display=FrameLines())
    elif sys.stdout.isatty():
        work = partial(_draw, follow_jobs, Bars(job_states, url))
    else:
        work = partial(follow_jobs, display=ChangeLines(job_states))
    signal = run_until_signal(work)
    if signal is not None:
        return 128 + signal
    return 0 if job_states.succeeded else 1


async def _draw(follow_jobs: Callable[..., Awaitable[None]], bars: Bars) -> None:
    with bars.drawn():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bars.keep_drawing)
            await follow_jobs(display=bars)
            nursery.cancel_scope.cancel()
