"""Waits until a job's final state is sent: in asyncio, in Trio, or without an event loop.

It polls, because waiting in a thread would need one thread per job, and thousands of jobs may end
at the same time. No function here is called in the sender's thread.

This module imports neither Trio nor asyncio, because the program has imported the one that is
running.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from typing import Literal

from .imported import already_imported
from .limits import END_POLL_PAUSES

__all__ = ["running_loop", "wait_until"]


def running_loop() -> Literal["trio", "asyncio"] | None:
    """Returns the event loop that runs the calling code; None if there is none.

    In trio-asyncio both are running; sniffio, which Trio installs, tells which of them the calling
    code uses.
    """
    sniffio = already_imported("sniffio", "current_async_library", "AsyncLibraryNotFoundError")
    if sniffio is not None:
        current_async_library, not_found = sniffio
        try:
            library = current_async_library()
        except not_found:
            pass
        else:
            if library in ("trio", "asyncio"):
                return "trio" if library == "trio" else "asyncio"
    trio = already_imported("trio.lowlevel", "in_trio_task")
    if trio is not None and sniffio is None and trio[0]():
        return "trio"
    asyncio = already_imported("asyncio", "_get_running_loop")
    if asyncio is not None and asyncio[0]() is not None:
        return "asyncio"
    return None


async def wait_until(
    finished: Callable[[], bool], timeout: float, *, keep_cancellation: bool
) -> None:
    """Returns when `finished()` is true, after `timeout` seconds at the latest, even if cancelled.

    Outside Trio and asyncio it blocks.

    Cancellation: a cancellation during the wait is raised after it: by Trio at the next
    checkpoint, in asyncio here, unless `keep_cancellation` is False (because the caller will raise
    another exception).
    """
    pauses = _pauses(finished, timeout)
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
    cancellation: BaseException | None = None
    for pause in pauses:
        try:
            await asyncio.sleep(pause)
        except asyncio.CancelledError as error:
            cancellation = error
    if cancellation is not None and keep_cancellation:
        raise cancellation


def _pauses(finished: Callable[[], bool], timeout: float) -> Iterator[float]:
    """Yields the pauses between the checks. Uses the real clock, because a test may control the
    clock of the loop."""
    pause, longest_pause = END_POLL_PAUSES
    deadline = time.monotonic() + timeout
    while not finished() and (remaining := deadline - time.monotonic()) > 0:
        yield min(pause, remaining)
        pause = min(2 * pause, longest_pause)
