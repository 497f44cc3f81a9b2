"""A drop-in `tqdm` whose bar is a job, too.

    from gateway.integrations.tqdm import tqdm

    for frame in tqdm(frames, job="video:42", unit="frames"):
        encode(frame)

Without `job` it is `tqdm.auto.tqdm` and nothing more. Reporting costs a call of
`Job.update`, in the user's thread, and raises nothing but for a wrong `job`.

    the bar                              the job
    -----------------------------------  --------------------------------------------------
    n (from `initial`), total, unit      done, total, unit; after `reset` they go on
                                         counting, because progress never falls
    description, postfix                 phase, message
    its `with` block was left            succeeded, failed or cancelled, as by Job's own
    without one: the loop ran out,       succeeded
      or `close()`
    an exception came from the iterable  failed, or as Job's own block would say it
    the loop was left early              cancelled: a loop does not tell its iterator
                                         whether by `break` or by an exception
    dropped without `close()`            succeeded if n is the total, else left to its lease
    disable=True                         none: nothing is shown, nothing is reported
    disable=None, and no terminal        nothing is shown, but all is reported

A bar on an existing `Job` counts in its current phase and leaves its end alone. If another
bar is counting there, that one counts alone: of nested bars on one job the outermost.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from math import isfinite
from typing import Any, Self
from weakref import WeakValueDictionary

import tqdm.auto as auto

from ..worker import Job
from ..worker.checks import KEEP
from ..worker.limits import MAX_NUMBER
from ..worker.outcome import end_of

__all__ = ["tqdm", "trange"]

_counting: WeakValueDictionary[int, tqdm] = WeakValueDictionary()
"""By the `id` of its job, the bar that counts there. It holds the job, so the id is not reused."""


class tqdm(auto.tqdm):  # type: ignore[type-arg]  # noqa: N801 - generic in its stubs alone; the name it replaces
    """`tqdm.auto.tqdm` that reports to `job`: a name, or a Job that is reported to already.

    Raises TypeError or ValueError if `job` is neither.
    """

    job: Job | None = None
    """What it reports to; None if it does not."""
    _owned = False
    _held = False  # by a `with` block, which knows best how it ends
    _looping = False
    _before: float = 0
    _announced: float | None = None
    _told: dict[str, Any]

    def __init__(self, *args: Any, job: Job | str | None = None, **kwargs: Any) -> None:
        if job is not None and kwargs.get("disable", False) is None:
            file = kwargs.get("file") or sys.stderr
            if not file.isatty():
                kwargs |= {"disable": False, "file": _Nowhere()}
        found = job if isinstance(job, Job | None) else Job(job)
        super().__init__(*args, **kwargs)
        if found is None or self.disable or _counting.setdefault(id(found), self) is not self:
            return
        self.job = found
        self._owned = found is not job
        self._before, self._announced = found.done or 0, found.total
        self._told = {}
        self._tell()

    def __iter__(self) -> Iterator[Any]:
        self._looping = True
        try:
            yield from super().__iter__()
        except BaseException as error:
            self._let_go(error)
            raise
        self._let_go(None)

    async def __anext__(self) -> Any:
        self._looping = True
        try:
            return await super().__anext__()
        except StopAsyncIteration:
            self._let_go(None)
            raise
        except BaseException as error:
            self._let_go(error)
            raise
        finally:
            self._looping = False

    def __enter__(self) -> Self:
        self._held = True
        return super().__enter__()

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        self._held = False
        self._let_go(error)
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
        # Also what follows a new description, postfix or total, or `bar.n = …`.
        shown = super().refresh(*args, **kwargs)
        self._tell()
        return shown

    def reset(self, total: float | None = None) -> None:
        if self.job is not None:
            self._before += self._scaled(self.n)
        super().reset(total)

    def close(self) -> None:
        super().close()
        if not self._looping:  # else the loop knows better how it ends
            self._let_go(None)

    def _tell(self) -> None:
        """Say all there is to say: a bar's attributes may have been set by anybody."""
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
            if text != self._told.get(name)
        }
        self._told |= texts
        self.job.update(
            done=self._done(),
            total=KEEP if total is None else min(total, MAX_NUMBER),
            **new,
        )

    def _let_go(self, error: BaseException | None) -> None:
        """Say the last word, and how it ended if it is this bar's own job."""
        self._tell()
        if self.job is None or self._held:
            return
        job, self.job = self.job, None
        _counting.pop(id(job), None)  # in a cycle the collector has taken it off already
        if not self._owned:
            return
        end = end_of(error)
        if end.status == "failed":
            job.fail(end.error or "")
        elif end.status == "cancelled":
            of = "" if self.total is None else f" of {self.total}"
            job.cancel(f"left at {self.n}{of}" if isinstance(error, GeneratorExit) else None)
        else:
            job.succeed()

    def _done(self) -> float:
        return min(self._before + self._scaled(self.n), MAX_NUMBER)

    def _scaled(self, count: Any) -> float:
        """`count` as the bar would show it, fit for a job whatever somebody set it to."""
        scale = self.unit_scale
        try:
            value = float(count or 0) * (1 if isinstance(scale, bool) else scale)
        except OverflowError:
            return MAX_NUMBER
        if not (isfinite(value) and value > 0):
            return 0
        return int(value) if value.is_integer() else value


def trange(*args: Any, **kwargs: Any) -> tqdm:
    """`tqdm(range(*args), **kwargs)`."""
    return tqdm(range(*args), **kwargs)


class _Nowhere:
    """A file that shows nothing."""

    encoding = "utf-8"

    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        pass
