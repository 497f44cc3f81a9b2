"""A publisher that sends nothing, for tests of the sender.

Registered for `fake://`, with one fake for each URL.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from gateway.worker import Job
from gateway.worker.publisher import Outcome, PublishResult, Rejected, Unreachable

from .fake_gateway import DEADLINE

fakes: dict[str, Fake] = {}


class Fake:
    """Answers with the results in `plan`, then with `always`; exceptions are raised."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.got: list[dict[str, Any]] = []
        self.batches: list[int] = []  # how many updates each request had
        self.plan: deque[Outcome | Exception] = deque()
        self.always: Outcome | Exception = PublishResult(1, True)
        self.seen: Callable[[dict[str, Any]], object] = lambda fields: None
        self.door = threading.Event()  # while it is shut, requests hang
        self.door.set()
        self.inside = threading.Semaphore(0)  # one for each request that has begun
        self.closed = threading.Event()
        self.opening: Exception | None = None
        fakes[url] = self

    def publish(self, updates: Sequence[tuple[str, dict[str, Any]]]) -> list[Outcome]:
        self.inside.release()
        self.door.wait(DEADLINE)
        self.batches.append(len(updates))
        return [self._publish(job, fields) for job, fields in updates]

    def _publish(self, job: str, fields: dict[str, Any]) -> Outcome:
        self.seen(fields)
        self.got.append({"job": job} | fields)
        answer = self.plan.popleft() if self.plan else self.always
        if isinstance(answer, Exception) and not isinstance(answer, Unreachable | Rejected):
            raise answer
        return answer

    def close(self) -> None:
        self.closed.set()


def check(url: str, token: str | None) -> None:
    """See `gateway.worker.publisher`."""


def canonical(url: str) -> str:
    """See `gateway.worker.publisher`."""
    return url


def connect(url: str, token: str | None) -> Fake:
    """See `gateway.worker.publisher`."""
    fake = fakes[url]
    if fake.opening is not None:
        raise fake.opening
    return fake


def until(job: Job, condition: Callable[[], object]) -> None:
    """Wait until the condition is true. It is checked after each action of the job's sender."""
    changed = job._sender._changed
    with changed:
        assert changed.wait_for(condition, DEADLINE)
