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
    the loop was left early              cancelled: the iterator cannot distinguish `break`
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

_counting: WeakValueDictionary[int, tqdm] = WeakValueDictionary()
"""The bar that counts in each job, by the job's `id()`. It refers to the job, so the id is
unique."""
_owning: WeakValueDictionary[str, tqdm] = WeakValueDictionary()
"""The bar that has created each job, by the job's name."""
_groups: ContextVar[tuple[ReferenceType[tqdm], ...]] = ContextVar("gateway_tqdm", default=())
"""The group bars around the current code, the outermost first. Some may have ended."""


class tqdm(auto.tqdm):  # type: ignore[type-arg]  # noqa: N801 - generic in its stubs alone; the name it replaces
    """`tqdm.auto.tqdm` that reports to `job`: a name, or an existing Job.

    `children` makes the job a group of the bars inside: how many there will be, or None.

    Raises TypeError or ValueError if `job` is neither, or there is none that could have `children`.
    """

    job: Job | None = None
    """The job that it reports to; None if it does not report."""
    _owned = False
    _held = False  # True inside a `with` block, whose end decides how the job ends
    _looping = False
    _before: float = 0
    _announced: float | None = None
    _inside = 0  # how many bars were made inside of it, as its children
    _last_texts: dict[str, Any]

    def __init__(
        self,
        *args: Any,
        job: Job | str | None = None,
        children: float | Keep | None = KEEP,
        **kwargs: Any,
    ) -> None:
        around = None if job is not None else _group_around()
        if children is not KEEP and not isinstance(job, str) and around is None:
            raise TypeError(
                "children needs the name of a job, or a bar around it that has children"
            )
        if job is not None and kwargs.get("disable", False) is None:
            file = kwargs.get("file") or sys.stderr
            if not file.isatty():
                kwargs |= {"disable": False, "file": _Nowhere()}
        outer = _owning.get(job) if isinstance(job, str) else None
        if outer is not None and outer.job is not None:
            job = outer.job  # a second Job with this name would supersede the first
        super().__init__(*args, **kwargs)
        if self.disable:
            if job is not None and not isinstance(job, Job):
                Job(job, children=children, disabled=True)  # raises for invalid arguments
            return
        found: Job | None = None
        if around is not None and around.job is not None:
            around._inside += 1
            found = around.job.child(str(around._inside), children=children)
        elif job is not None:
            found = job if isinstance(job, Job) else Job(job, children=children)
        if found is None or _counting.setdefault(id(found), self) is not self:
            return
        self.job = found
        self._owned = found is not job
        if self._owned:
            _owning[found.name] = self
        self._before, self._announced = found.done or 0, found.total
        self._last_texts = {}
        self._report_all()
        if children is not KEEP:
            _groups.set((*(one for one in _groups.get() if one() is not None), ref(self)))

    def __iter__(self) -> Iterator[Any]:
        self._looping = True
        try:
            yield from super().__iter__()
        except BaseException as error:
            self._leave_job(error)
            raise
        self._leave_job(None)

    async def __anext__(self) -> Any:
        self._looping = True
        try:
            return await super().__anext__()
        except StopAsyncIteration:
            self._leave_job(None)
            raise
        except BaseException as error:
            self._leave_job(error)
            raise
        finally:
            self._looping = False

    def __enter__(self) -> Self:
        self._held = True
        return super().__enter__()

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        self._held = False
        self._leave_job(error)
        super().__exit__(kind, error, traceback)

    def __del__(self) -> None:
        if self.job is not None and not (self.total and self.n >= self.total):
            self.job = None
        super().__del__()

    def update(self, n: float | None = 1) -> bool | None:
        shown = super().update(n)
        if self.job is not None:
            self.job.update(done=self._done())
        return shown

    def refresh(self, *args: Any, **kwargs: Any) -> Any:
        # Called after a new description, postfix or total, and after `bar.n = …`.
        shown = super().refresh(*args, **kwargs)
        self._report_all()
        return shown

    def reset(self, total: float | None = None) -> None:
        if self.job is not None:
            self._before += self._scaled(self.n)
        super().reset(total)

    def close(self) -> None:
        super().close()
        if not self._looping:  # otherwise the end of the loop decides
            self._leave_job(None)

    def _report_all(self) -> None:
        """Reports all values, because a program may set any attribute of the bar."""
        if self.job is None:
            return
        total = self._announced
        if self.total is not None:
            total = max(self._before + self._scaled(self.total), total or 0)
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

    def _leave_job(self, error: BaseException | None) -> None:
        """Reports the last values, and the end if this bar has created the job."""
        self._report_all()
        if self.job is None or self._held:
            return
        job, self.job = self.job, None
        _counting.pop(id(job), None)  # a garbage collection may have removed it already
        if not self._owned:
            return
        _owning.pop(job.name, None)
        end = final_state_after(error)
        if end.status == "failed":
            job.fail(end.error or "")
        elif end.status == "cancelled":
            of = "" if self.total is None else f" of {self.total}"
            job.cancel(f"left at {self.n}{of}" if isinstance(error, GeneratorExit) else None)
        elif self._inside:
            job.end_with_children()
        else:
            job.succeed()

    def _done(self) -> float:
        return min(self._before + self._scaled(self.n), MAX_NUMBER)

    def _scaled(self, count: Any) -> float:
        """`count` as the bar shows it, or 0 if it is not a valid count."""
        scale = self.unit_scale
        try:
            value = float(count or 0) * (1 if isinstance(scale, bool) else scale)
        except OverflowError:
            return MAX_NUMBER
        if not (isfinite(value) and value > 0):
            return 0
        return int(value) if value.is_integer() else value


def _group_around() -> tqdm | None:
    """The innermost bar around that is a group, and has not ended."""
    for one in reversed(_groups.get()):
        bar = one()
        if bar is not None and bar.job is not None:
            return bar
    return None


def trange(*args: Any, **kwargs: Any) -> tqdm:
    """`tqdm(range(*args), **kwargs)`."""
    return tqdm(range(*args), **kwargs)


class _Nowhere:
    """A file that discards its output."""

    encoding = "utf-8"

    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        pass
