"""The children that a group's own process creates: by name, or one for each item of a list.

`Job.map` processes each item as a child of the group. It submits a `ChildCall` to the executor,
which can be pickled. In a thread or another process the `ChildCall` creates the child's `Job` by
its name, and calls the function inside its block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from .publisher import Token
from .requests import Cancelled

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

__all__ = ["ChildCall", "Pool", "submit_all"]

T = TypeVar("T")
R = TypeVar("R")


class Pool(Protocol):
    """The method of `multiprocessing.Pool` that is used."""

    def imap(self, func: Callable[[Any], Any], iterable: Iterable[Any]) -> Iterator[Any]: ...


class ChildCall:
    """Calls a function with an item, as the child `GROUP/NAME`.

    Args:
        group: The id of the group.
        function: Called with the item, or with the child's `Job` and the item.
        with_job: Whether to pass the child's `Job`.
        accepts: The requests that the child accepts, if its `Job` is passed.
        url, token: As for `Job`. They are sent to the process that calls the function.
    """

    def __init__(
        self,
        group: str,
        function: Callable[..., Any],
        *,
        with_job: bool,
        accepts: tuple[str, ...],
        url: str | None,
        token: Token,
    ) -> None:
        self._group = group
        self._function = function
        self._with_job = with_job
        self._options: dict[str, Any] = {"url": url, "token": token}
        if with_job:
            self._options["accepts"] = accepts

    def __call__(self, named_item: tuple[str, Any]) -> Any:
        from .job import Job

        name, item = named_item
        with Job(f"{self._group}/{name}", **self._options) as job:
            return self._function(job, item) if self._with_job else self._function(item)


def submit_all(
    executor: Executor | Pool,
    call: ChildCall,
    named_items: list[tuple[str, Any]],
    *,
    check: Callable[[], None],
) -> Iterator[Any]:
    """Submit all items at once; yields the results in the order of the items.

    `check` is called before each result. If it, or a call, raises `Cancelled`, calls that have not
    begun are dropped.
    """
    if not hasattr(executor, "submit"):
        return _checked(executor.imap(call, named_items), check)
    return _results([executor.submit(call, one) for one in named_items], check)


def _checked(results: Iterator[Any], check: Callable[[], None]) -> Iterator[Any]:
    check()
    for result in results:
        yield result
        check()


def _results(futures: list[Future[Any]], check: Callable[[], None]) -> Iterator[Any]:
    try:
        for future in futures:
            check()
            yield future.result()
    except Cancelled:
        for future in futures:
            future.cancel()
        raise
