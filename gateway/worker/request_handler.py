"""Handles the requests to a job in its worker.

The sender's thread calls `RequestHandler.receive` once for each new request. A `cancel` request
cancels the job's `async with` block; with `interrupt`, `track` and `advance` raise `Cancelled` in
the worker's own code. The user's callback is called with every request.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from weakref import WeakMethod

from .cancellation import Cancellation, enter_cancellation
from .report import Report
from .requests import Cancelled, JobRequest

__all__ = ["RequestHandler"]


class RequestHandler:
    """Handles the requests to one job.

    The report has only a weak reference to it, so that a deleted `Job` is noticed.

    Args:
        report: The report that receives the requests.
        interrupt: Whether `check_interrupted` raises after a `cancel` request.
    """

    def __init__(self, report: Report, *, interrupt: bool) -> None:
        self.callback: Callable[[JobRequest], object] | None = None
        """The user's function. It is called in the sender's thread."""
        self._report = report
        self.interrupt = interrupt
        self._block: Cancellation | None = None
        report.listener = WeakMethod(self.receive)

    def receive(self, request: JobRequest) -> None:
        """Handles a new request. Called in the sender's thread."""
        if request.verb == "cancel":
            self._report.must_interrupt = self.interrupt
            if self._block is not None:
                self._block.cancel()
        if self.callback is not None:
            self.callback(request)

    def check(self) -> None:
        """Raises `Cancelled` after a `cancel` request that was not refused."""
        if self._report.cancel_requested:
            raise Cancelled(f"a client has requested to cancel {self._report.job}")

    def check_interrupted(self) -> None:
        """Does the same as `check` if the job was created with `interrupt`."""
        if self._report.must_interrupt:
            self.check()

    def enter_block(self) -> None:
        """Begins the `async with` block that a `cancel` request cancels."""
        self._block = enter_cancellation()
        if self._report.cancel_requested and self._block is not None:
            self._block.cancel()

    def exit_block(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        """Ends the block. Returns whether `error` is its cancellation, which must be suppressed."""
        return self._block is not None and self._block.exit(kind, error, trace)
