"""The Celery app of these tests: what its workers do, and whoever publishes to them."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

from celery import Celery, Task
from celery.exceptions import Ignore

from gateway.integrations.celery import current_job, report_tasks

app = Celery("tasks", broker=os.environ["BROKER_URL"])
app.conf.update(
    broker_connection_retry_on_startup=True,
    worker_prefetch_multiplier=1,
    task_ignore_result=True,
    worker_hijack_root_logger=False,
)
report_tasks(app, lease=1.0)


@app.task(job="video:{video}")
def encode(video: int, *, preset: str = "fast") -> str:
    job = current_job()
    job.update(message=f"{preset} in {os.getpid()}", data={"ppid": os.getppid()})
    for _ in job.track(range(100)):
        pass
    return "a result"


@app.task
def by_id() -> None:
    current_job().update(message="here")


@app.task(job=None)
def unseen() -> None:
    try:
        current_job()
    except LookupError:
        return
    raise AssertionError("it has a job")


@app.task(bind=True, job="flaky:{number}", max_retries=1)
def flaky(self: Task[Any, Any], number: int) -> None:
    current_job().update(message=f"try {self.request.retries + 1}")
    current_job()._sender.flush()  # a try that nobody heard of is not counted
    raise self.retry(countdown=0, exc=OSError("no route"))


@app.task(job="broken")
def broken() -> None:
    raise ValueError("bad frame")


@app.task(job="ignored")
def ignored() -> None:
    current_job().cancel("not needed")
    raise Ignore


@app.task(job="wrong:{no_such_argument}")
def wrong_name() -> None:
    current_job().update(message="here")


@app.task(job="hangs:{number}")
def hang(number: int) -> None:
    current_job().update(message=str(os.getpid()))
    threading.Event().wait(60)


@app.task(job="limited", time_limit=1)
def limited() -> None:
    threading.Event().wait(60)


@app.task(bind=True, job="dies:{number}", acks_late=True, reject_on_worker_lost=True)
def die_once(self: Task[Any, Any], number: int) -> None:
    if not (self.request.delivery_info or {}).get("redelivered"):
        current_job().update(message="the first time")
        current_job()._sender.flush()
        os.kill(os.getpid(), signal.SIGKILL)
