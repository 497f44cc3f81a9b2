"""The tasks of these tests; they are the same for all queues."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

from gateway.integrations.tasks import current_job


def encode(video: int) -> None:
    job = current_job()
    job.update(message=f"in {os.getpid()}")
    for _ in job.track(range(100)):
        pass


def from_a_helper_thread() -> None:
    thread = threading.Thread(target=lambda: current_job().update(message="from a thread"))
    thread.start()
    thread.join()


def fail() -> None:
    raise ValueError("bad frame")


def first_time(mark: str) -> bool:
    """Returns whether this is called for the first time with `mark`, the path of a file."""
    path = Path(mark)
    if path.exists():
        return False
    path.touch()
    return True


def flaky(mark: str) -> None:
    current_job().update(message="tried")
    current_job()._sender.flush()  # a try is counted only if it was reported
    if first_time(mark):
        raise OSError("no route")


def until_cancelled() -> None:
    job = current_job()
    while True:
        job.check()
        threading.Event().wait(0.01)


def endless() -> None:
    current_job().update(message=str(os.getpid()))
    threading.Event().wait()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
