"""A publisher that sends nothing: what the sender does, seen from below.

Registered for `fake://`, one fake for each URL.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from gateway.worker import Job
from gateway.worker.publisher import Receipt

from .peer import DEADLINE

fakes: dict[str, Fake] = {}


class Fake:
    """Answers with `plan`, then with `always`: a receipt, or an exception that it raises."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.got: list[dict[str, Any]] = []
        self.plan: deque[Receipt | Exception] = deque()
        self.always: Receipt | Exception = Receipt(1, True)
        self.seen: Callable[[dict[str, Any]], object] = lambda fields: None
        self.door = threading.Event()  # while it is shut, requests hang
        self.door.set()
        self.inside = threading.Semaphore(0)  # one for each request that has begun
        self.closed = threading.Event()
        self.opening: Exception | None = None
        fakes[url] = self

    def publish(self, job: str, fields: dict[str, Any]) -> Receipt:
        self.inside.release()
        self.door.wait(DEADLINE)
        self.seen(fields)
        self.got.append({"job": job} | fields)
        answer = self.plan.popleft() if self.plan else self.always
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        self.closed.set()


def check(url: str, token: str | None) -> None:
    """See `gateway.worker.publisher`."""


def connect(url: str, token: str | None) -> Fake:
    """See `gateway.worker.publisher`."""
    fake = fakes[url]
    if fake.opening is not None:
        raise fake.opening
    return fake


def until(job: Job, condition: Callable[[], object]) -> None:
    """Wait until the condition is true. It is looked at whenever the job's sender did something."""
    changed = job._sender._changed
    with changed:
        assert changed.wait_for(condition, DEADLINE)
