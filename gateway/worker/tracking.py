"""`Job.track`: loops that count themselves.

An item counts when the loop asks for the next one, so a loop that is left early does not
count the item it was at.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterator, Sized
from typing import TYPE_CHECKING, TypeVar

from . import checks
from .phases import Span

if TYPE_CHECKING:
    from .job import Job

__all__ = ["counted", "counted_async", "total_with"]

T = TypeVar("T")


def total_with(iterable: object, span: Span, total: int | float | None) -> int | float | None:
    """The total of `span` once a loop over `iterable`, of `total` items, is added to it.

    Without `total` its length counts, unless more was announced than has been done: then
    this loop is a part of that.
    """
    done = span.done or 0
    if total is not None:
        return done + checks.count("total", total)
    if isinstance(iterable, Sized) and (span.total is None or span.total <= done):
        return done + len(iterable)
    return span.total


def counted(job: Job, iterator: Iterator[T]) -> Iterator[T]:
    """The items, each counted when it has been dealt with."""
    for item in iterator:
        yield item
        job.advance()


async def counted_async(job: Job, iterable: AsyncIterable[T]) -> AsyncIterator[T]:
    """The same for an asynchronous loop. No cleanup of its own, so no `aclose` is needed."""
    async for item in iterable:
        yield item
        job.advance()
