"""A publisher that sends nothing, for tests of the sender.

It is registered for `fake://`, with one `FakePublisher` for each URL.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from gateway.worker import Job
from gateway.worker.publisher import Outcome, PublishResult, Rejected, Unreachable

from .fake_gateway import DEADLINE

fakes: dict[str, FakePublisher] = {}


class FakePublisher:
    """Returns the results in `results`, then `default_result`. Raises those that are exceptions.

    `updates` are the updates that it was passed.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.updates: list[dict[str, Any]] = []
        self.batches: list[int] = []
        """The number of updates in each request."""
        self.results: deque[Outcome | Exception] = deque()
        self.default_result: Outcome | Exception = PublishResult(1, True)
        self.on_update: Callable[[dict[str, Any]], object] = lambda fields: None
        """Called with each update."""
        self.requests_allowed = threading.Event()
        """While this is not set, requests wait."""
        self.requests_allowed.set()
        self.started_requests = threading.Semaphore(0)
        """Released by each request that starts."""
        self.closed = threading.Event()
        self.connect_error: Exception | None = None
        """What `connect` raises."""
        fakes[url] = self

    def publish(self, updates: Sequence[tuple[str, dict[str, Any]]]) -> list[Outcome]:
        self.started_requests.release()
        self.requests_allowed.wait(DEADLINE)
        self.batches.append(len(updates))
        return [self._publish(job, fields) for job, fields in updates]

    def _publish(self, job: str, fields: dict[str, Any]) -> Outcome:
        self.on_update(fields)
        self.updates.append({"job": job} | fields)
        answer = self.results.popleft() if self.results else self.default_result
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


def connect(url: str, token: str | None) -> FakePublisher:
    """See `gateway.worker.publisher`."""
    fake = fakes[url]
    if fake.connect_error is not None:
        raise fake.connect_error
    return fake


def until(job: Job, condition: Callable[[], object]) -> None:
    """Waits until the condition is true, which is checked after each action of the job's sender."""
    changed = job._sender._changed
    with changed:
        assert changed.wait_for(condition, DEADLINE)
