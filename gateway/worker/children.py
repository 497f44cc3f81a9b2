"""The children that a group's own process creates: by name, or one for each item of a list.

`Job.map` processes each item as a child of the group. It submits a `ChildCall` to the executor,
which can be pickled. In a thread or another process the `ChildCall` creates the child's `Job` by
its name, and calls the function inside its block. `job.py` passes the class `Job` to this module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from . import checks, process_state
from .checks import KEEP
from .publisher import Token
from .requests import Cancelled
from .snapshot import JobSnapshot

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

__all__ = ["ChildCall", "CreatedChildren", "Pool", "submit_all"]


class Pool(Protocol):
    """The method of `multiprocessing.Pool` that is used."""

    def imap(self, func: Callable[[Any], Any], iterable: Iterable[Any]) -> Iterator[Any]: ...


class CreatedChildren:
    """Counts the children of one group that this process has created.

    Args:
        group: The id of the group.
        snapshot: The snapshot of the job, from which it is known whether it is a group.
    """

    def __init__(self, group: str, snapshot: JobSnapshot) -> None:
        self._group = group
        self._snapshot = snapshot
        self.count = 0
        self.total_weight: float = 0
        """The sum of their weights."""

    def add(self, *, weight: float = 1) -> int:
        """Counts a new child. Returns how many there are now.

        Raises:
            ValueError: The job is not a group.
        """
        if self._snapshot.children is KEEP:
            raise ValueError(
                f"job {self._group} is not a group: create it with children=…, or None"
            )
        weight = checks.weight("weight", weight)
        with process_state.lock:
            self.count += 1
            self.total_weight += weight
            return self.count

    def add_each(
        self, items: Iterable[Any], *, name: Callable[[Any], str] | None
    ) -> list[tuple[str, Any]]:
        """Counts a child for each item. Returns each item with the name of its child: the result of
        `name`, or else a number.

        Raises:
            ValueError: The job is not a group, or the name of a child is not valid in a job id.
        """
        named_items = []
        for item in items:
            number = self.add()
            child = str(number) if name is None else name(item)
            checks.job_id("name", f"{self._group}/{child}")
            named_items.append((child, item))
        return named_items


class ChildCall:
    """Calls a function with an item, as the child `GROUP/NAME`.

    Args:
        job_type: The class `Job`.
        group: The id of the group.
        function: Called with the item, or with the child's `Job` and the item.
        with_job: Whether to pass the child's `Job`.
        accepts, interrupt: As for `Job`, if that of the child is passed.
        url, token: As for `Job`. They are sent to the process that calls the function.
    """

    def __init__(
        self,
        job_type: Callable[..., AbstractContextManager[Any]],
        group: str,
        function: Callable[..., Any],
        *,
        with_job: bool,
        accepts: tuple[str, ...],
        interrupt: bool,
        url: str | None,
        token: Token,
    ) -> None:
        self._job_type = job_type
        self._group = group
        self._function = function
        self._with_job = with_job
        self._options: dict[str, Any] = {"url": url, "token": token}
        if with_job:
            self._options |= {"accepts": accepts, "interrupt": interrupt}

    def __call__(self, named_item: tuple[str, Any]) -> Any:
        name, item = named_item
        try:
            with self._job_type(f"{self._group}/{name}", **self._options) as job:
                return self._function(job, item) if self._with_job else self._function(item)
        except Cancelled as cancelled:
            # A process of a multiprocessing.Pool is ended by what is not an Exception, and its
            # result then never comes.
            return _CancelledCall(str(cancelled))


class _CancelledCall(NamedTuple):
    """What a call returns that has raised `Cancelled`."""

    text: str

    @staticmethod
    def check(result: Any) -> Any:
        """Returns `result`; raises `Cancelled` if it is one of these."""
        if isinstance(result, _CancelledCall):
            raise Cancelled(result.text)
        return result


def submit_all(
    executor: Executor | Pool,
    call: ChildCall,
    named_items: list[tuple[str, Any]],
    *,
    raise_if_cancelled: Callable[[], None],
) -> Iterator[Any]:
    """Submits all items at once; yields the results in the order of the items.

    `raise_if_cancelled` is called before each result. If it raises `Cancelled`, or a call does,
    calls that have not begun are dropped.
    """
    if not hasattr(executor, "submit"):
        return _checked(executor.imap(call, named_items), raise_if_cancelled)
    return _results([executor.submit(call, item) for item in named_items], raise_if_cancelled)


def _checked(results: Iterator[Any], raise_if_cancelled: Callable[[], None]) -> Iterator[Any]:
    raise_if_cancelled()
    for result in results:
        yield _CancelledCall.check(result)
        raise_if_cancelled()


def _results(futures: list[Future[Any]], raise_if_cancelled: Callable[[], None]) -> Iterator[Any]:
    try:
        for future in futures:
            raise_if_cancelled()
            yield _CancelledCall.check(future.result())
    except Cancelled:
        for future in futures:
            future.cancel()
        raise
