"""A drop-in replacement of `tqdm` whose bar is also reported as a job.

    from gateway.integrations.tqdm import tqdm

    for frame in tqdm(frames, job="video:42", unit="frames"):
        encode(frame)

Without `job` it works like `tqdm.auto.tqdm`. Reporting costs a call of `Job.update` in the user's
thread, and raises an exception only for an invalid `job`.

    the bar                              the job
    -----------------------------------  --------------------------------------------------
    n (from `initial`), total, unit      done, total, unit; after `reset` the count
                                         continues, because progress never falls
    description, postfix                 phase, message
    the end of its `with` block          succeeded, failed or cancelled, like Job's own block
    without a block: the end of the      succeeded
      loop, or `close()`
    an exception of the iterable         failed or cancelled, like Job's own block
    the loop ended early                 cancelled: the iterator cannot distinguish `break`
                                         from an exception
    deleted without `close()`            succeeded if n is the total, else its lease expires
    disable=True                         nothing is shown, nothing is reported
    disable=None, and no terminal        nothing is shown, but everything is reported

A bar on an existing `Job` counts in its current phase and does not end the job. If several bars are
nested on one job, only the outermost counts, whether they share a Job or its name.

With `children`, as for `Job`, the job of the bar is a group. Each bar without a `job` that is
created before the outer bar ends, in the same thread or task, is a child: `NAME/1`, `NAME/2` etc.

    for epoch in tqdm(range(3), job="train:7", children=3):
        for batch in tqdm(batches):
            train(batch)

The group has the progress of its children, and ends with them after the outer loop.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextvars import ContextVar
from math import isfinite
from typing import Any, Self
from weakref import ReferenceType, WeakValueDictionary, ref

import tqdm.auto as auto

from ..model.constants import MAX_NUMBER
from ..worker import Job
from ..worker.checks import KEEP, Keep
from ..worker.final_state import final_state_after

__all__ = ["tqdm", "trange"]

_counting_bars: WeakValueDictionary[int, tqdm] = WeakValueDictionary()
"""The bar that counts in each job, by the job's `id()`. It refers to the job, so the id is
unique."""
_bar_by_job_name: WeakValueDictionary[str, tqdm] = WeakValueDictionary()
"""The bar that has created each job, by the job's name."""
_group_bars: ContextVar[tuple[ReferenceType[tqdm], ...]] = ContextVar("gateway_tqdm", default=())
"""The group bars whose loop or block encloses the current code, outermost first. Some may have
ended."""


class tqdm(auto.tqdm):  # type: ignore[type-arg]  # noqa: N801 - generic in its stubs alone; the name it replaces
    """`tqdm.auto.tqdm` that reports to `job`: a name, or an existing Job.

    `children` makes the job a group of the bars inside: how many there will be, or None.

    Raises TypeError or ValueError if `job` is neither, or if `children` is given without a job.
    """

    job: Job | None = None
    """The job that it reports to; None if it does not report."""
    _owns_job = False
    _in_block = False  # inside a `with` block, whose end decides how the job ends
    _in_loop = False
    _count_before_reset: float = 0
    _job_total: float | None = None
    _children_made = 0  # the number of bars that were created inside it, as its children
    _last_texts: dict[str, Any]

    def __init__(
        self,
        *args: Any,
        job: Job | str | None = None,
        children: float | Keep | None = KEEP,
        **kwargs: Any,
    ) -> None:
        group_bar = None if job is not None else _innermost_group_bar()
        if children is not KEEP and not isinstance(job, str) and group_bar is None:
            raise TypeError("children needs the name of a job, or an outer bar that has children")
        if job is not None and kwargs.get("disable", False) is None:
            file = kwargs.get("file") or sys.stderr
            if not file.isatty():
                kwargs |= {"disable": False, "file": _NullFile()}
        outer = _bar_by_job_name.get(job) if isinstance(job, str) else None
        if outer is not None and outer.job is not None:
            job = outer.job  # a second Job with this name would supersede the first
        super().__init__(*args, **kwargs)
        if self.disable:
            if job is not None and not isinstance(job, Job):
                Job(job, children=children, disabled=True)  # raises for invalid arguments
            return
        reported_job: Job | None = None
        if group_bar is not None and group_bar.job is not None:
            group_bar._children_made += 1
            reported_job = group_bar.job.child(str(group_bar._children_made), children=children)
        elif job is not None:
            reported_job = job if isinstance(job, Job) else Job(job, children=children)
        if reported_job is None or _counting_bars.setdefault(id(reported_job), self) is not self:
            return
        self.job = reported_job
        self._owns_job = reported_job is not job
        if self._owns_job:
            _bar_by_job_name[reported_job.name] = self
        self._count_before_reset, self._job_total = reported_job.done or 0, reported_job.total
        self._last_texts = {}
        self._report_all()
        if children is not KEEP:
            _group_bars.set((*(bar for bar in _group_bars.get() if bar() is not None), ref(self)))

    def __iter__(self) -> Iterator[Any]:
        self._in_loop = True
        try:
            yield from super().__iter__()
        except BaseException as error:
            self._end_job(error)
            raise
        self._end_job(None)

    async def __anext__(self) -> Any:
        self._in_loop = True
        try:
            return await super().__anext__()
        except StopAsyncIteration:
            self._end_job(None)
            raise
        except BaseException as error:
            self._end_job(error)
            raise
        finally:
            self._in_loop = False

    def __enter__(self) -> Self:
        self._in_block = True
        return super().__enter__()

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        self._in_block = False
        self._end_job(error)
        super().__exit__(kind, error, traceback)

    def __del__(self) -> None:
        if self.job is not None and not (self.total and self.n >= self.total):
            self.job = None
        super().__del__()

    def update(self, n: float | None = 1) -> bool | None:
        displayed = super().update(n)
        if self.job is not None:
            self.job.update(done=self._done())
        return displayed

    def refresh(self, *args: Any, **kwargs: Any) -> Any:
        # Called after a new description, postfix or total, and after `bar.n = …`.
        displayed = super().refresh(*args, **kwargs)
        self._report_all()
        return displayed

    def reset(self, total: float | None = None) -> None:
        if self.job is not None:
            self._count_before_reset += self._scaled(self.n)
        super().reset(total)

    def close(self) -> None:
        super().close()
        if not self._in_loop:  # otherwise the end of the loop decides
            self._end_job(None)

    def _report_all(self) -> None:
        """Reports all values, because a program may set any attribute of the bar."""
        if self.job is None:
            return
        total = self._job_total
        if self.total is not None:
            total = max(self._count_before_reset + self._scaled(self.total), total or 0)
        texts: dict[str, Any] = {
            "unit": self.unit,
            "phase": (self.desc or "").removesuffix(": ") or None,
            "message": self.postfix or None,
        }
        new: dict[str, Any] = {
            name: text if text is None else str(text)
            for name, text in texts.items()
            if text != self._last_texts.get(name)
        }
        self._last_texts |= texts
        self.job.update(
            done=self._done(),
            total=KEEP if total is None else min(total, MAX_NUMBER),
            **new,
        )

    def _end_job(self, error: BaseException | None) -> None:
        """Reports the last values, and the final state if this bar has created the job."""
        self._report_all()
        if self.job is None or self._in_block:
            return
        job, self.job = self.job, None
        _counting_bars.pop(id(job), None)  # a garbage collection may have removed it already
        if not self._owns_job:
            return
        _bar_by_job_name.pop(job.name, None)
        end = final_state_after(error)
        if end.status == "failed":
            job.fail(end.error or "")
        elif end.status == "cancelled":
            of = "" if self.total is None else f" of {self.total}"
            job.cancel(f"left at {self.n}{of}" if isinstance(error, GeneratorExit) else None)
        elif self._children_made:
            job.end_with_children()
        else:
            job.succeed()

    def _done(self) -> float:
        return min(self._count_before_reset + self._scaled(self.n), MAX_NUMBER)

    def _scaled(self, count: Any) -> float:
        """Returns `count` as the bar shows it, or 0 if it is not a valid count."""
        scale = self.unit_scale
        try:
            value = float(count or 0) * (1 if isinstance(scale, bool) else scale)
        except OverflowError:
            return MAX_NUMBER
        if not (isfinite(value) and value > 0):
            return 0
        return int(value) if value.is_integer() else value


def _innermost_group_bar() -> tqdm | None:
    """Returns the innermost enclosing bar that is a group and has not ended; None if there is
    none."""
    for bar_ref in reversed(_group_bars.get()):
        bar = bar_ref()
        if bar is not None and bar.job is not None:
            return bar
    return None


def trange(*args: Any, **kwargs: Any) -> tqdm:
    """`tqdm(range(*args), **kwargs)`."""
    return tqdm(range(*args), **kwargs)


class _NullFile:
    """A file that discards its output."""

    encoding = "utf-8"

    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        pass
