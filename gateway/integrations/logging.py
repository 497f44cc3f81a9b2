"""A `logging.Handler` that sets a job's message to the newest log record.

    with Job("import:7") as job:
        logging.getLogger("importer").addHandler(JobHandler(job))

It handles the records of all threads that use its logger. It ignores records of `gateway.worker`,
which are about the reporting and not about the job.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from ..worker import Job

__all__ = ["JobHandler"]


class JobHandler(logging.Handler):
    """Sets the message of `job` to each record, as formatted; the text is cut to 1,000 characters.

    `job` may also be a function that returns the current Job for each record, and raises
    LookupError if there is none (such as `gateway.integrations.celery.current_job`). The handler
    raises nothing: it passes errors to `logging.Handler.handleError`.
    """

    def __init__(self, job: Job | Callable[[], Job], level: int | str = logging.NOTSET) -> None:
        super().__init__(level)
        self._job = job
        # A filter runs before the handler's lock is acquired. The sender may log while it holds its
        # own lock, which `emit` needs, so without the filter both could deadlock.
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
