"""Waiting for a job's end inside an event loop, whichever is running, or none.

Imports neither Trio nor asyncio: the loop that is running has been imported already.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

__all__ = ["wait_in_thread"]


async def wait_in_thread(wait: Callable[[], object], *, keep_cancellation: bool) -> None:
    """Call `wait` in a thread of its own and return when it has, however often cancelled.

    `wait` must be bounded in time. A cancellation that came meanwhile is raised after it:
    by Trio at the next checkpoint, in asyncio here, unless `keep_cancellation` is False
    (the caller has an exception of its own to raise). Outside of Trio and asyncio it
    blocks.
    """
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_task():
        with trio.CancelScope(shield=True):
            # Not the default limiter: its threads may all be busy with the user's work.
            await trio.to_thread.run_sync(wait, limiter=trio.CapacityLimiter(1))
        return
    asyncio = sys.modules.get("asyncio")
    if asyncio is None or asyncio._get_running_loop() is None:
        wait()
        return
    from concurrent.futures import ThreadPoolExecutor

    threads = ThreadPoolExecutor(1, thread_name_prefix="progress end")
    future = asyncio.get_running_loop().run_in_executor(threads, wait)
    threads.shutdown(wait=False)
    cancelled: BaseException | None = None
    while not future.done():
        try:
            await asyncio.shield(future)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None and keep_cancellation:
        raise cancelled
