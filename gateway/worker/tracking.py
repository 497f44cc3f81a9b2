"""`Job.track`: counts the items of a loop.

An item is counted when the loop asks for the next one, so a loop that is left early does not count
its last item. Each loop has its own counter, which needs no lock.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator, Sized
from typing import TypeVar

from . import checks, process
from .phases import LoopCount, Segment
from .report import Report
from .requests import Cancelled

__all__ = ["counted", "counted_async", "total_with"]

T = TypeVar("T")


def total_with(iterable: object, segment: Segment, total: int | float | None) -> int | float | None:
    """The total of `segment` once a loop over `iterable`, of `total` items, is added to it.

    Without `total`, it is the length of `iterable`, unless the segment has a larger total already:
    then this loop is a part of it.
    """
    done = segment.done or 0
    if total is not None:
        return done + checks.count("total", total)
    if isinstance(iterable, Sized) and (segment.total is None or segment.total <= done):
        return done + len(iterable)
    return segment.total


def counted(
    iterator: Iterator[T], segment: Segment, report: Report, *, changed: Callable[[], None]
) -> Iterator[T]:
    """Yield the items, and count each in `segment` when the next one is requested.

    `changed` is called after each, if the report is not queued already.
    """
    loop = LoopCount()
    with process.lock:
        if report.snapshot.end is None:
            segment.loops.append(loop)
    try:
        for item in iterator:
            yield item
            loop.n += 1
            if report.interrupted:
                raise Cancelled("a client has requested to cancel the job")
            if not report.silent:
                changed()
    finally:
        with process.lock:
            segment.end_loop(loop)


async def counted_async(
    iterable: AsyncIterable[T], advance: Callable[[], None]
) -> AsyncIterator[T]:
    """The same for an asynchronous loop. It has no cleanup, so it needs no `aclose`."""
    async for item in iterable:
        yield item
        advance()
