"""Waits for a job's end in asyncio, in Trio, or without an event loop.

It polls, because waiting in a thread would need one thread per job, and thousands of jobs may end
at the same time. No function here is called in the sender's thread.

It imports neither Trio nor asyncio, because the running loop has been imported already.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from typing import Literal

from .imported import imported
from .limits import POLL

__all__ = ["running_loop", "wait_until"]


def running_loop() -> Literal["trio", "asyncio"] | None:
    """The event loop that runs the calling code; None if there is none.

    In trio-asyncio both are running; sniffio, which Trio installs, knows which of them the calling
    code uses.
    """
    sniffio = imported("sniffio", "current_async_library", "AsyncLibraryNotFoundError")
    if sniffio is not None:
        current_async_library, not_found = sniffio
        try:
            library = current_async_library()
        except not_found:
            pass
        else:
            if library in ("trio", "asyncio"):
                return "trio" if library == "trio" else "asyncio"
    trio = imported("trio.lowlevel", "in_trio_task")
    if trio is not None and sniffio is None and trio[0]():
        return "trio"
    asyncio = imported("asyncio", "_get_running_loop")
    if asyncio is not None and asyncio[0]() is not None:
        return "asyncio"
    return None


async def wait_until(over: Callable[[], bool], timeout: float, *, keep_cancellation: bool) -> None:
    """Return when `over()` is true, after `timeout` seconds at the latest, even if cancelled.

    Outside Trio and asyncio it blocks.

    Cancellation: a cancellation during the wait is raised after it: by Trio at the next
    checkpoint, in asyncio here, unless `keep_cancellation` is False (because the caller will raise
    another exception).
    """
    pauses = _pauses(over, timeout)
    loop = running_loop()
    if loop == "trio":
        trio = sys.modules["trio"]
        with trio.CancelScope(shield=True):
            for pause in pauses:
                await trio.sleep(pause)
        return
    if loop is None:
        for pause in pauses:
            time.sleep(pause)  # noqa: ASYNC251 - there is no loop to block
        return
    asyncio = sys.modules["asyncio"]
    cancelled: BaseException | None = None
    for pause in pauses:
        try:
            await asyncio.sleep(pause)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None and keep_cancellation:
        raise cancelled


def _pauses(over: Callable[[], bool], timeout: float) -> Iterator[float]:
    """The pauses between two checks. Uses the real clock, because a test may control the loop's."""
    pause, longest = POLL
    until = time.monotonic() + timeout
    while not over() and (left := until - time.monotonic()) > 0:
        yield min(pause, left)
        pause = min(2 * pause, longest)
