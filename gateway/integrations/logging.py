"""A `logging.Handler` whose records are a job's message: a page shows what the log says last.

    with Job("import:7") as job:
        logging.getLogger("importer").addHandler(JobHandler(job))

It shows the records of every thread that reach its logger. What this package says itself
(`gateway.worker`) it leaves alone: that is about the reporting, not the job.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from ..worker import Job

__all__ = ["JobHandler"]


class JobHandler(logging.Handler):
    """Sets the message of `job` to each record, as formatted; the text is cut to 1,000 characters.

    Instead of a Job, a function that finds it when a record comes, and raises LookupError
    if there is none now (such as `gateway.integrations.celery.current_job`). Raises
    nothing: what goes wrong is for `logging.Handler.handleError`.
    """

    def __init__(self, job: Job | Callable[[], Job], level: int | str = logging.NOTSET) -> None:
        super().__init__(level)
        self._job = job
        # A filter is asked before the handler's lock is taken. The sender may speak while it
        # holds its own lock, which `emit` wants: together they would wait for ever.
        self.addFilter(lambda record: record.name != "gateway.worker")

    def emit(self, record: logging.LogRecord) -> None:
        try:
            job = self._job if isinstance(self._job, Job) else self._job()
        except LookupError:
            return
        except Exception:  # noqa: BLE001 - a handler never raises
            self.handleError(record)
            return
        try:
            job.update(message=self.format(record))
        except Exception:  # noqa: BLE001 - as above
            self.handleError(record)
