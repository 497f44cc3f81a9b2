"""Waiting for a job's end inside an event loop, whichever is running, or none.

By looking now and then: a thread that waits would be one for each job that ends, and those
that end together may be thousands. Nothing here is called from the sender's thread.

Imports neither Trio nor asyncio: the loop that is running has been imported already.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator

from .limits import LOOK

__all__ = ["wait_until"]


async def wait_until(over: Callable[[], bool], timeout: float, *, keep_cancellation: bool) -> None:
    """Return when `over()` is true, at the latest after `timeout` s, however often cancelled.

    A cancellation that came meanwhile is raised after it: by Trio at the next checkpoint,
    in asyncio here, unless `keep_cancellation` is False (the caller has an exception of
    its own to raise). Outside of Trio and asyncio it blocks.
    """
    pauses = _pauses(over, timeout)
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_task():
        with trio.CancelScope(shield=True):
            for pause in pauses:
                await trio.sleep(pause)
        return
    asyncio = sys.modules.get("asyncio")
    if asyncio is None or asyncio._get_running_loop() is None:
        for pause in pauses:
            time.sleep(pause)  # noqa: ASYNC251 - there is no loop to block
        return
    cancelled: BaseException | None = None
    for pause in pauses:
        try:
            await asyncio.sleep(pause)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None and keep_cancellation:
        raise cancelled


def _pauses(over: Callable[[], bool], timeout: float) -> Iterator[float]:
    """How long to sleep before each next look. By the true clock: the loop's may be a test's."""
    pause, longest = LOOK
    until = time.monotonic() + timeout
    while not over() and (left := until - time.monotonic()) > 0:
        yield min(pause, left)
        pause = min(2 * pause, longest)
