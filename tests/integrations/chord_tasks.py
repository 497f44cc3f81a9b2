"""The Celery app of `test_celery_chord`: parts of a chord that are retried, fail, or are killed.

`MARKS` is a Redis in which each part stores the process that works on it, so that the test can kill
that process.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

import redis
from celery import Celery, Task, chain, chord, group  # noqa: F401 - for the publisher

from gateway.integrations.celery import (
    current_job,
    report_tasks,
    start_group,  # noqa: F401 - for the publisher
)

app = Celery("parts", broker=os.environ["BROKER_URL"], backend=os.environ["RESULT_URL"])
app.conf.update(
    broker_connection_retry_on_startup=True,
    broker_transport_options={"visibility_timeout": 2, "global_keyprefix": "celery:"},
    worker_prefetch_multiplier=4,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_hijack_root_logger=False,
)
report_tasks(app, lease=2.0)
MARKS = os.environ["MARKS"]


@app.task(bind=True, job="part:{number}", max_retries=3)
def part(self: Task[Any, Any], number: int, *, fails: int = 0, waits: bool = False) -> int:
    """Fails `fails` times and is retried. If it `waits`, the first process that works on it is
    killed."""
    job = current_job()
    for _ in job.track(range(4)):
        pass
    if self.request.retries < fails:
        raise self.retry(countdown=0, exc=OSError(f"no route to {number}"))
    if waits:
        job._sender.flush()  # a try is counted only if it was reported
        marks = redis.Redis(unix_socket_path=MARKS)
        if marks.hsetnx("marks", str(number), f"{os.getpid()} {os.getppid()}"):
            threading.Event().wait(60)
    return number


@app.task(job="broken:{number}")
def broken(number: int) -> None:
    raise ValueError(f"bad frame {number}")


@app.task(job="dies:{number}", acks_late=False, reject_on_worker_lost=False)
def dies(number: int) -> None:
    current_job()._sender.flush()
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(job="total")
def total(numbers: list[int]) -> int:
    return sum(numbers)


def redeliver_tasks_of_killed_workers() -> int:
    """Delivers the tasks of killed workers again, as Celery does every ten seconds."""
    with app.connection_for_read() as connection:
        channel: Any = connection.default_channel
        channel.qos.restore_visible(num=1000, interval=1)
    return 0


def parts(first: int, many: int) -> list[Any]:
    """Returns signatures. Every seventh is retried, every fiftieth twice."""
    return [
        part.s(number, fails=2 if number % 50 == 0 else number % 7 == 0)
        for number in range(first, first + many)
    ]
