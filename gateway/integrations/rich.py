"""`rich.progress` with bars that are also reported as a job.

    from gateway.integrations.rich import Progress, track

    for frame in track(frames, "encoding", job="video:42"):
        encode(frame)

    with Progress(job="video:42") as progress:
        task = progress.add_task("encoding", total=1200)
        ...

The job has the count, total and description (as its phase) of the first task. Without `job` it
works like rich's own. The end of the `with` block ends a job that was created here, like `Job`'s
own block; an existing `Job` is not ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Self, TypeVar

from rich import progress as rich_progress

from ..worker import Job

__all__ = ["Progress", "track"]

T = TypeVar("T")


class Progress(rich_progress.Progress):
    """`rich.progress.Progress` that reports its first task to `job`, a name or a `Job`."""

    def __init__(self, *args: Any, job: Job | str | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.job = Job(job) if isinstance(job, str) else job
        self._owns_job = isinstance(job, str)
        self._reported_task: rich_progress.TaskID | None = None

    def add_task(self, *args: Any, **kwargs: Any) -> rich_progress.TaskID:
        """Like rich's method. The job shows the first task."""
        task = super().add_task(*args, **kwargs)
        if self._reported_task is None:
            self._reported_task = task
        self._report(task)
        return task

    def update(self, task_id: rich_progress.TaskID, **kwargs: Any) -> None:
        """Like rich's method."""
        super().update(task_id, **kwargs)
        self._report(task_id)

    def advance(self, task_id: rich_progress.TaskID, advance: float = 1) -> None:
        """Like rich's method."""
        super().advance(task_id, advance)
        self._report(task_id)

    def reset(self, task_id: rich_progress.TaskID, **kwargs: Any) -> None:
        """Like rich's method. The job's count never falls within a phase."""
        super().reset(task_id, **kwargs)
        self._report(task_id)

    def __enter__(self) -> Self:
        if self.job is not None and self._owns_job:
            self.job.__enter__()
        super().__enter__()
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        super().__exit__(kind, error, trace)
        if self.job is not None and self._owns_job:
            self.job.__exit__(kind, error, trace)

    def _report(self, task_id: rich_progress.TaskID) -> None:
        if self.job is None or task_id != self._reported_task or task_id not in self._tasks:
            return
        task = self._tasks[task_id]
        done = max(task.completed, 0)
        total = None if task.total is None else max(task.total, 0)
        self.job.update(done=done, total=total, phase=task.description or None)


def track(
    sequence: Iterable[T],
    description: str = "Working...",
    total: float | None = None,
    *,
    job: Job | str | None = None,
    **options: Any,
) -> Iterator[T]:
    """`rich.progress.track` that reports to `job`; `options` are those of `Progress`."""
    with Progress(job=job, **options) as progress:
        yield from progress.track(sequence, total=total, description=description)
