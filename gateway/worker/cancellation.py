"""A block of asynchronous code that another thread can cancel.

A `cancel` request cancels the `async with` block of a job. This module imports neither Trio nor
asyncio, because the program has imported the one that is running.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Protocol

from .waiting import running_loop

__all__ = ["Cancellation", "enter_cancellation"]


class Cancellation(Protocol):
    """A block of code that another thread can cancel."""

    def cancel(self) -> None:
        """Cancels the block. Works in any thread; after the block it does nothing."""

    def exit(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        """Ends the block. Returns whether `error` is this cancellation, which must be
        suppressed."""


def enter_cancellation() -> Cancellation | None:
    """Begins a block in the running event loop. Returns None if no loop is running."""
    loop = running_loop()
    if loop == "trio":
        return _TrioBlock()
    return _AsyncioBlock() if loop == "asyncio" else None


class _TrioBlock:
    def __init__(self) -> None:
        trio: Any = sys.modules["trio"]
        self._scope = trio.CancelScope()
        self._run_in_loop: Callable[..., None] = trio.lowlevel.current_trio_token().run_sync_soon
        self._run_finished_error: type[BaseException] = trio.RunFinishedError
        self._scope.__enter__()

    def cancel(self) -> None:
        with suppress(self._run_finished_error):
            self._run_in_loop(self._scope.cancel)

    def exit(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        return bool(self._scope.__exit__(kind, error, trace))


class _AsyncioBlock:
    """Works like `asyncio.timeout`: it cancels the task, and suppresses the cancellation here."""

    def __init__(self) -> None:
        asyncio: Any = sys.modules["asyncio"]
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._cancelled_error: type[BaseException] = asyncio.CancelledError
        self._cancelling_before = self._task.cancelling()
        self._cancelled = self._exited = False

    def cancel(self) -> None:
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        if not self._exited:
            self._cancelled = True
            self._task.cancel()

    def exit(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        self._exited = True
        if not self._cancelled:
            return False
        return self._task.uncancel() <= self._cancelling_before and isinstance(
            error, self._cancelled_error
        )
