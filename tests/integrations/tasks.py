"""The Celery app of these tests, for its workers and publishers."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

from celery import Celery, Task, chain, chord, group  # noqa: F401 - for the publisher
from celery.exceptions import Ignore, Reject

from gateway.integrations.celery import current_job, named, report_tasks, start_group

app = Celery("tasks", broker=os.environ["BROKER_URL"], backend=os.environ["BROKER_URL"])
app.conf.update(
    broker_connection_retry_on_startup=True,
    worker_prefetch_multiplier=1,
    task_ignore_result=True,
    worker_hijack_root_logger=False,
)
report_tasks(app, lease=1.0, accepts=["cancel"])


def end_all_tasks() -> None:
    """Ends the tasks that run or wait."""
    app.control.purge()
    inspect: Any = app.control.inspect()
    for tasks_of in (inspect.scheduled, inspect.reserved, inspect.active):
        for tasks in (tasks_of() or {}).values():
            for task in tasks:
                id_ = task.get("request", task)["id"]
                app.control.revoke(id_, terminate=True, signal="SIGKILL")


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
    current_job()._sender.flush()  # a try is counted only if it was reported
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


@app.task(job="loops:{number}")
def loop(number: int) -> None:
    for _ in current_job().track(iter(lambda: threading.Event().wait(0.01), True)):
        pass


@app.task(job="limited", time_limit=1)
def limited() -> None:
    threading.Event().wait(60)


@app.task(bind=True, job="dies:{number}", acks_late=True, reject_on_worker_lost=True)
def die_once(self: Task[Any, Any], number: int) -> None:
    if not (self.request.delivery_info or {}).get("redelivered"):
        current_job().update(message="the first time")
        current_job()._sender.flush()
        os.kill(os.getpid(), signal.SIGKILL)


@app.task(bind=True, job="stated:{number}")
def stated(self: Task[Any, Any], number: int) -> None:
    self.update_state(state="PROGRESS", meta={"current": 3, "total": 8, "message": "third"})


@app.task(bind=True, job="own-failure")
def own_failure(self: Task[Any, Any]) -> None:
    self.update_state(state="FAILURE", meta={"exc_type": "Full", "exc_message": "no space"})


@app.task(job="returned", failed=lambda result: result["error"])
def returned() -> dict[str, str]:
    return {"error": "no space"}


@app.task(bind=True, job="replaced:{number}")
def replaced(self: Task[Any, Any], number: int) -> None:
    raise self.replace(encode.s(video=number))


@app.task(job="left")
def left() -> None:
    raise Ignore


@app.task(job="rejected")
def rejected() -> None:
    raise Reject("no such film", requeue=False)


@app.task(autoretry_for=[BaseException])
@named("stopped:{number}", accepts={"cancel"})
def stopped(number: int) -> None:
    job = current_job()
    while True:
        job.check()
        threading.Event().wait(0.01)


@app.task(job="exits")
def exits() -> None:
    raise SystemExit(3)


@app.task(job="threaded")
def threaded() -> None:
    thread = threading.Thread(target=lambda: current_job().update(message="from a thread"))
    thread.start()
    thread.join()


@app.task(job="then:{number}")
def then(before: object, number: int) -> None:
    pass


def refused(name: str) -> str:
    """Returns the exception that is raised when a group cannot be called."""
    try:
        start_group(name, group(encode.s(1)), serializer="none")
    except Exception as error:  # noqa: BLE001 - the test compares its name
        return type(error).__name__
    return "nothing"
