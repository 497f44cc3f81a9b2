"""`Job.track`: counts the items of a loop.

An item is counted when the loop requests the next one, so a loop that ends early does not count its
last item. Each loop has its own counter, which needs no lock.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator, Sized
from typing import TypeVar

from . import checks, process_state
from .phases import LoopCount, Segment
from .report import Report
from .requests import Cancelled

__all__ = ["count_items", "count_items_async", "total_after"]

T = TypeVar("T")


def total_after(
    iterable: object, segment: Segment, total: int | float | None
) -> int | float | None:
    """Returns the new total of `segment` if a loop over `iterable`, with `total` items, is added to
    it.

    Without `total` the loop has the length of `iterable`, unless the segment has a larger total
    already: then this loop is a part of it.
    """
    done = segment.done or 0
    if total is not None:
        return done + checks.count("total", total)
    if isinstance(iterable, Sized) and (segment.total is None or segment.total <= done):
        return done + len(iterable)
    return segment.total


def count_items(
    iterator: Iterator[T], segment: Segment, report: Report, *, on_change: Callable[[], None]
) -> Iterator[T]:
    """Yields the items, and counts each one in `segment` when the next one is requested.

    It calls `on_change` after each item, if that must wake the sender.
    """
    loop = LoopCount()
    with process_state.lock:
        if report.snapshot.final_state is None:
            segment.running_loops.append(loop)
    try:
        for item in iterator:
            yield item
            loop.n += 1
            if report.must_interrupt:
                raise Cancelled("a client has requested to cancel the job")
            if report.wakes_sender:
                on_change()
    finally:
        with process_state.lock:
            segment.end_loop(loop)


async def count_items_async(
    iterable: AsyncIterable[T], advance: Callable[[], None]
) -> AsyncIterator[T]:
    """Yields the items of an asynchronous iterable, and calls `advance` when the next one is
    requested. It has no cleanup, so it needs no `aclose`."""
    async for item in iterable:
        yield item
        advance()
