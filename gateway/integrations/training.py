"""The common part of the callbacks for training loops: one job, its steps, its newest metrics."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Number
from typing import Any

from ..worker import Job

__all__ = ["Training"]


class Training:
    """Reports a training loop to `job`: a name, or an existing `Job`, which it does not end.

    Not every framework reports exceptions to a callback. A `Job` whose block surrounds the
    training ends correctly. `options` are those of `Job`.
    """

    def __init__(self, job: Job | str, **options: Any) -> None:
        self._job_or_name, self._options = job, options
        self._job: Job | None = None

    def begin(self, total: float | None) -> None:
        """Begins the training with `total` steps (None: unknown)."""
        job_or_name = self._job_or_name
        self._job = (
            Job(job_or_name, **self._options) if isinstance(job_or_name, str) else job_or_name
        )
        self._job.update(total=total if total and total > 0 else None, unit="steps")

    def report_step(self, done: float) -> None:
        """Reports that `done` steps are done."""
        if self._job is not None:
            self._job.update(done=done)

    def set_phase(self, name: str) -> None:
        """Sets the phase, such as the epoch."""
        if self._job is not None:
            self._job.update(phase=name)

    def report_metrics(self, values: Mapping[str, Any] | None) -> None:
        """Shows the newest loss, accuracy, … as the message."""
        numbers = {name: v for name, v in (values or {}).items() if isinstance(v, Number)}
        if self._job is not None and numbers:
            self._job.update(
                message=", ".join(f"{k} {_short_number(v)}" for k, v in numbers.items())
            )

    def end(self, error: BaseException | None = None) -> None:
        """Ends the training, perhaps with an `error`."""
        job, self._job = self._job, None
        if job is None or not isinstance(self._job_or_name, str):
            return
        if isinstance(error, Exception):
            job.fail(error)
        elif error is not None:
            job.cancel()
        else:
            job.succeed()
        job.wait()


def _short_number(value: Any) -> str:
    try:
        return f"{float(value):.4g}"
    except (TypeError, ValueError):
        return str(value)
